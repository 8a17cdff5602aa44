"""Operations that lose gradients, told by what they do to numbers."""

import keras
import numpy as np
import pytest
from helpers import random_images, randomize, to_numpy
from keras import layers, ops

import keras_wp as kwp
from keras_wp import _backend
from keras_wp.attacks.surrogate import Surrogate
from keras_wp.inspection import behavior, masking
from keras_wp.inspection.classifier import Classifier

pytestmark = pytest.mark.once


def top_five(x):
    return ops.where(x >= ops.top_k(x, 5)[0][:, -1:], x, 0.0)


FUNCTIONS = {
    "tanh": (ops.tanh, ["saturating"]),
    "sigmoid": (ops.sigmoid, ["saturating"]),
    "hard_sigmoid": (ops.hard_sigmoid, ["saturating"]),
    "hard_tanh": (ops.hard_tanh, ["saturating"]),
    "softsign": (lambda x: ops.softsign(1e3 * x), ["saturating"]),
    "erf": (ops.erf, ["saturating"]),
    "relu6": (ops.relu6, ["saturating"]),
    "clip": (lambda x: ops.clip(x, -1.0, 1.0), ["saturating"]),
    "two clips": (
        lambda x: ops.maximum(ops.minimum(x, 1.0), -1.0),
        ["saturating"],
    ),
    "round": (lambda x: ops.round(8 * x) / 8, ["rounding"]),
    "floor": (ops.floor, ["rounding"]),
    "integers": (
        lambda x: ops.cast(ops.cast(255 * x, "int32"), "float32"),
        ["rounding"],
    ),
    "sign": (ops.sign, ["step"]),
    "softmax": (lambda x: ops.softmax(30 * x), ["normalizing"]),
    "mask": (
        lambda x: x * ops.cast(x > 0.5, "float32"),
        ["comparing"],
    ),
    "k winners": (top_five, ["comparing", "selecting"]),
    "stop_gradient": (
        lambda x: 2.0 * ops.stop_gradient(x) + 0.01 * x,
        ["detached"],
    ),
    "relu": (ops.relu, []),
    "leaky_relu": (ops.leaky_relu, []),
    "elu": (ops.elu, []),
    "gelu": (ops.gelu, []),
    "silu": (ops.silu, []),
    "softplus": (ops.softplus, []),
    "square": (ops.square, []),
    "log_softmax": (ops.log_softmax, []),
    "linear": (lambda x: 3.0 * x - 1.0, []),
    "flat tanh": (lambda x: ops.tanh(1e-4 * x), []),
    "warm softmax": (lambda x: ops.softmax(1e-4 * x), []),
    "layer normalization": (layers.LayerNormalization(), []),
    "unit normalization": (layers.UnitNormalization(), []),
}


def around(function):
    """A model with a function between two layers, steep before it."""
    inputs = keras.Input((6, 6, 1))
    x = layers.Dense(9)(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Dense(3)(function(x)))
    return randomize(model, scale=20.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_kinds_are_told_by_what_is_done_to_numbers(name):
    function, kinds = FUNCTIONS[name]
    opened = Classifier(around(function)).open(random_images(8))
    assert [site.kind for site in opened.masks] == kinds


@pytest.mark.parametrize(
    "name", [name for name, (_, kinds) in FUNCTIONS.items() if kinds]
)
def test_stand_ins_keep_the_values_and_have_a_gradient(name):
    model = around(FUNCTIONS[name][0])
    x = ops.convert_to_tensor(random_images(6))
    for rescale, activation in (("image", None), (None, "linear")):
        surrogate = Surrogate(
            rescale=rescale, activation=activation, at="every"
        )
        classifier = Classifier(model)
        classifier.open(to_numpy(x))
        path = classifier.through(surrogate)
        found, pullback = _backend.vjp(path, x)
        np.testing.assert_allclose(
            to_numpy(found), to_numpy(model(x)), rtol=1e-4, atol=1e-4
        )
        gradient = to_numpy(pullback(ops.ones_like(found)))
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient).reshape(6, -1).max(1) > 0).all()


def test_the_share_of_lost_units_is_that_on_the_images():
    scale = np.linspace(0.1, 40.0, 9)
    inputs = keras.Input((6, 6, 1))
    x = layers.Dense(9)(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Dense(3)(ops.tanh(x)))
    randomize(model)
    bias = scale.astype(np.float32)
    model.layers[2].set_weights([np.zeros((36, 9), np.float32), bias])
    (site,) = Classifier(model).open(random_images(4)).sites
    slope = 1 - np.tanh(scale) ** 2
    assert site.lost == pytest.approx((slope <= behavior.LOST).mean(), abs=0.01)


def test_a_closed_operation_is_rescaled_by_its_own_steepness():
    class Steep(layers.Layer):
        def call(self, inputs):
            if isinstance(inputs, keras.KerasTensor):
                raise TypeError("no symbols, please")
            return ops.tanh(1000.0 * inputs)

        def compute_output_shape(self, shape):
            return shape

    opened = Classifier(around(Steep())).open(random_images(4))
    (site,) = opened.masks
    assert site.gain == 1000.0


def test_whole_numbers_that_a_table_is_read_by_are_left_alone():
    table = np.linspace(0, 1, 256).astype(np.float32) ** 0.5
    inputs = keras.Input((4, 4, 1))
    places = ops.cast(ops.round(255 * inputs), "int32")
    h = keras.layers.Flatten()(ops.take(table, places))
    model = keras.Model(inputs, keras.layers.Dense(3)(ops.tanh(1e3 * h)))
    x = np.random.default_rng(0).uniform(size=(8, 4, 4, 1)).astype(np.float32)
    opened = masking.open_up(model, lambda x: model(x, training=False), x)
    assert any("needs them as int32" in reason for reason in opened.why)
    assert {site.kind for site in opened.masks} >= {"rounding", "saturating"}
    y = np.zeros(8, np.int64)
    attack = kwp.attacks.PGD(
        eps=0.1, steps=2, surrogate=Surrogate(rescale="unit", at="every")
    )
    x_adv = attack(model, x, y)
    assert np.isfinite(x_adv).all()
