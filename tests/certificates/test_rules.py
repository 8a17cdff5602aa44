"""Each rule, against what the operation does."""

import keras
import numpy as np
import pytest
from helpers import random_images, to_numpy
from keras import ops
from scipy import special
from slopes import lengths, sampled, steepest

from keras_wp.certificates.graph import Graph

pytestmark = pytest.mark.once


SHAPE = (6, 6, 2)


def dense_layer():
    return keras.layers.Dense(5, bias_initializer="glorot_normal")


def conv(**options):
    return conv_of(3, **options)


def conv_of(filters, **options):
    return keras.layers.Conv2D(
        filters, 3, bias_initializer=keras.initializers.Constant(0.3), **options
    )


class Operations(keras.layers.Layer):
    """Operations on tensors, as somebody may write them."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(2,), initializer="glorot_normal")

    def call(self, inputs):
        x = 2.0 - ops.tanh(inputs * self.scale) / np.float32(0.7)
        x = abs(-x + ops.transpose(inputs, (0, 2, 1, 3)))
        x = ops.relu(ops.reshape(x, (-1, 72)) - 0.3)
        return ops.matmul(x, np.eye(72, 8, dtype="float32") + 0.1)


class Averaged(keras.layers.Layer):
    def call(self, inputs):
        other = ops.multiply(inputs, -0.5)
        mean = keras.layers.Average()([inputs, other, inputs])
        return ops.concatenate([mean, ops.subtract(mean, inputs)], axis=-1)


# Each with its constant, or None if that depends on weights.
LAYERS = {
    "dense": (lambda: dense_layer(), None),
    "dense-gelu": (lambda: keras.layers.Dense(5, activation="gelu"), None),
    "conv": (lambda: conv(), None),
    "conv-same": (lambda: conv(padding="same", strides=2), None),
    "conv-dilated": (lambda: conv(dilation_rate=2), None),
    "max-pooling": (lambda: keras.layers.MaxPooling2D(2), 1.0),
    "max-pooling-overlapping": (
        lambda: keras.layers.MaxPooling2D(3, 2, padding="same"),
        2.0,
    ),
    "average-pooling": (lambda: keras.layers.AveragePooling2D(2), 0.5),
    "average-pooling-overlapping": (
        lambda: keras.layers.AveragePooling2D(3, 1, padding="same"),
        3.0,
    ),
    "global-average": (lambda: keras.layers.GlobalAveragePooling2D(), 1 / 6),
    "global-max": (lambda: keras.layers.GlobalMaxPooling2D(), 1.0),
    "conv-1d": (
        lambda: keras.Sequential(
            [
                keras.layers.Reshape((36, 2)),
                keras.layers.Conv1D(3, 3, padding="causal"),
            ]
        ),
        None,
    ),
    "conv-groups": (lambda: conv_of(4, groups=2), None),
    "depthwise": (
        lambda: keras.layers.DepthwiseConv2D(
            3, depth_multiplier=2, bias_initializer="glorot_normal"
        ),
        None,
    ),
    "depthwise-one": (
        lambda: keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones"),
        1.0,
    ),
    "leaky": (lambda: keras.layers.LeakyReLU(1.5), 1.5),
    "elu-layer": (lambda: keras.layers.ELU(1.5), 1.5),
    "prelu": (
        lambda: keras.layers.PReLU(keras.initializers.Constant(-2.0)),
        2.0,
    ),
    "normalization": (
        lambda: keras.layers.Normalization(
            mean=[0.4, -3.0], variance=[0.25, 0.01]
        ),
        10.0,
    ),
    "denormalization": (
        lambda: keras.layers.Normalization(
            mean=[0.4, -3.0], variance=[0.25, 9.0], invert=True
        ),
        3.0,
    ),
    "up-sampling": (lambda: keras.layers.UpSampling2D((3, 2)), 6**0.5),
    "relu": (lambda: keras.layers.ReLU(max_value=1.0), 1.0),
    "rescaling": (
        lambda: keras.layers.Rescaling([2.0, -3.0], [0.5, 0.1]),
        3.0,
    ),
    "zero-padding": (lambda: keras.layers.ZeroPadding2D(1), 1.0),
    "cropping": (lambda: keras.layers.Cropping2D(1), 1.0),
    "permute": (lambda: keras.layers.Permute((3, 1, 2)), 1.0),
    "dropout": (lambda: keras.layers.Dropout(0.5), 1.0),
    "operations": (lambda: Operations(), None),
    "averaged": (lambda: Averaged(), (0.5**2 * 25 / 9 + 1) ** 0.5 * 9),
    **{
        name: (lambda n=name: keras.layers.Activation(n), constant)
        for name, constant in {
            "elu": 1.0,
            "gelu": 1.129,
            "hard_sigmoid": 1 / 6,
            "hard_tanh": 1.0,
            "leaky_relu": 1.0,
            "mish": 1.0886,
            "relu6": 1.0,
            "selu": 1.7581,
            "sigmoid": 0.25,
            "silu": 1.0999,
            "softplus": 1.0,
            "tanh": 1.0,
        }.items()
    },
}
REACHED = {
    *("max-pooling-overlapping", "average-pooling", "global-average"),
    *("leaky", "rescaling", "gelu", "silu", "sigmoid", "tanh", "cropping"),
    *("elu-layer", "prelu", "normalization", "denormalization", "mish"),
    *("up-sampling", "depthwise-one", "hard_sigmoid", "selu"),
}


def model_of(name):
    make, _ = LAYERS[name]
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, make()(inputs))


def bound_of(model, x):
    """The constant of a model, and what bounds its outputs."""
    graph = Graph(model, x)
    output = graph.anatomy.output
    return graph.constant(output), graph.bound(output, graph.lengths(x))


@pytest.mark.parametrize("name", LAYERS)
def test_no_pair_beats_the_constant(name, rng):
    model, x = model_of(name), random_images(64, SHAPE, low=-2, high=2)
    constant, _ = bound_of(model, x)
    if LAYERS[name][1] is not None and name != "averaged":
        assert constant == pytest.approx(LAYERS[name][1], rel=1e-6)
    slopes = sampled(model, x, rng)
    assert slopes.max() <= constant * (1 + 1e-5)
    assert slopes.max() > 0


@pytest.mark.once
@pytest.mark.parametrize(
    "name", sorted(set(LAYERS) - {"operations", "averaged"})
)
def test_no_operation_is_steeper_than_its_constant(name):
    x = random_images(64, SHAPE, low=-2, high=2)
    if name == "max-pooling-overlapping":
        # One pixel that is the largest of four windows.
        x = np.zeros_like(x)
        x[:, 2, 2] = 1.0
    if name in ("gelu", "mish", "silu"):
        # Where their slopes are steepest.
        x = np.linspace(1.3, 2.5, x.size).astype("float32").reshape(x.shape)
        x[:, :, :, 1] = x[:, :, :, 0]
    if name in ("elu-layer", "selu", "sigmoid", "tanh"):
        x = -1e-3 * np.abs(x)
    model = model_of(name)
    (constant, _), found = bound_of(model, x), steepest(model, x)
    assert found <= constant * (1 + 1e-6)
    assert name not in REACHED or found > 0.99 * constant


@pytest.mark.parametrize("name", LAYERS)
def test_sizes_hold(name):
    model, x = model_of(name), random_images(64, SHAPE, low=-3, high=3)
    _, bound = bound_of(model, x)
    found = lengths(to_numpy(model(ops.convert_to_tensor(x))))
    assert (found <= bound.size * (1 + 1e-9)).all()
    assert (bound.error < 1e-4 * bound.size + 1e-20).all()


@pytest.mark.once
@pytest.mark.parametrize(
    "name", sorted(set(LAYERS) - {"operations", "averaged"})
)
def test_float32_stays_within_its_bound(name):
    from slopes import float64_twin

    model, x = model_of(name), random_images(64, SHAPE, low=-3, high=3)
    exact = to_numpy(float64_twin(model)(x.astype("float64")))
    found = to_numpy(model(ops.convert_to_tensor(x)))
    assert exact.dtype == "float64"
    assert (lengths(found - exact) <= bound_of(model, x)[1].error + 1e-30).all()


FUNCTIONS = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "selu": lambda x: (
        1.0507009873554805
        * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "gelu": lambda x: x * special.ndtr(x),
    "sigmoid": special.expit,
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_are_as_accurate_as_is_taken_for_granted(name):
    # Numbers of all sizes, from where float32 is normal.
    sizes = np.geomspace(1e-30, 80, 100_000)
    x = np.concatenate([-sizes, sizes, np.linspace(-12, 12, 200_001)])
    x = x.astype(np.float32)
    found = to_numpy(getattr(keras.activations, name)(ops.convert_to_tensor(x)))
    x = x.astype(float)
    exact = FUNCTIONS[name](x)
    at_zero = FUNCTIONS[name](np.zeros(1))
    # A quarter of what is granted.
    allowed = 2.0**-21 * (np.abs(x) * (name != "sigmoid") + at_zero) + 1e-36
    if name in ("elu", "selu"):
        allowed += 2.0**-23
    assert (np.abs(found - exact) <= allowed).all()
