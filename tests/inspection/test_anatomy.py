"""A model taken apart, whatever it is made of, and put together again."""

import keras
import numpy as np
import pytest
from helpers import linear_model, random_images, randomize, tiny_cnn, to_numpy
from keras import layers, ops

from keras_wp.inspection import features
from keras_wp.inspection.anatomy import dissect, ending
from keras_wp.inspection.classifier import Classifier
from keras_wp.layers import RobustHead

pytestmark = pytest.mark.once


IMAGE = (6, 6, 1)


def functional(*parts):
    inputs = keras.Input(IMAGE)
    x = layers.Flatten()(inputs)
    for part in parts:
        x = part(x)
    return randomize(keras.Model(inputs, x))


class Head(layers.Layer):
    """A layer of somebody's own that holds an activation and its Dense."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(3)

    def call(self, inputs):
        return self.inner(ops.tanh(30.0 * inputs))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten = layers.Flatten()
        self.normalize = layers.BatchNormalization()
        self.first, self.last = layers.Dense(7), layers.Dense(3)

    def call(self, inputs, training=None):
        x = self.normalize(self.first(self.flatten(inputs)), training=training)
        return self.last(ops.tanh(30.0 * x))


class OneMinus(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return super().call(1.0 - inputs, training=training)


class Closed(layers.Layer):
    """What symbols cannot pass."""

    def call(self, inputs):
        if isinstance(inputs, keras.KerasTensor):
            raise TypeError("no symbols, please\nand no second line")
        return ops.tanh(30.0 * inputs)

    def compute_output_shape(self, shape):
        return shape


def reused():
    head = layers.Dense(3)
    tanh = layers.Activation("tanh")
    functional(layers.Dense(7), layers.Rescaling(30.0), tanh, head)
    return functional(layers.Dense(7), layers.Rescaling(30.0), tanh, head)


def branches():
    inputs = keras.Input(IMAGE)
    x = layers.Flatten()(inputs)
    parts = [
        layers.Activation("tanh")(30.0 * layers.Dense(4)(x)) for _ in range(2)
    ]
    joined = layers.Concatenate()(parts)
    return randomize(keras.Model(inputs, layers.Dense(3)(joined)))


def one_minus():
    inputs = keras.Input(IMAGE)
    x = ops.tanh(30.0 * layers.Dense(7)(layers.Flatten()(inputs)))
    return randomize(OneMinus(inputs, layers.Dense(3)(x)))


def subclassed():
    model = Subclassed()
    model(random_images(1))
    return randomize(model)


def nested():
    inner = functional(layers.Dense(7), layers.Rescaling(30.0), Head())
    return keras.Sequential([keras.Input(IMAGE), layers.Rescaling(0.5), inner])


def steep(*parts):
    """A dense layer, and what is to find in `parts`, before the last one."""
    return functional(
        layers.Dense(7), layers.Rescaling(30.0), *parts, layers.Dense(3)
    )


MASKED = {
    "activation": lambda: steep(layers.Activation("tanh")),
    "in a dense layer": lambda: functional(
        layers.Rescaling(99.0), layers.Dense(7, activation="tanh"), Head()
    ),
    "operation": lambda: steep(ops.tanh),
    "lambda": lambda: steep(layers.Lambda(lambda x: ops.tanh(3.0 * x))),
    "custom layer": lambda: functional(layers.Dense(7), Head()),
    "robust head": lambda: functional(
        layers.Dense(7), layers.Rescaling(30.0), RobustHead(3)
    ),
    "custom function": lambda: steep(
        layers.Activation(lambda x: ops.clip(3.0 * x, -1.0, 1.0))
    ),
    "before noise": lambda: steep(ops.tanh, layers.GaussianNoise(0.5)),
    "before a normalization": lambda: steep(
        ops.tanh, layers.UnitNormalization()
    ),
    "before dropout": lambda: steep(ops.tanh, layers.Dropout(0.5)),
    "two clips": lambda: steep(
        lambda x: ops.maximum(ops.minimum(x, 1.0), -1.0)
    ),
    "reversed classes": lambda: functional(
        layers.Dense(7), Head(), lambda x: x[:, ::-1]
    ),
    "subclassed": subclassed,
    "reused": reused,
    "branches": branches,
    "call of its own": one_minus,
    "nested": nested,
}


@pytest.mark.parametrize("kind", MASKED)
def test_what_saturates_is_found_in_whatever_form_it_is_written(kind):
    model, x = MASKED[kind](), random_images(8)
    opened = Classifier(model).open(x)
    assert not opened.why
    assert opened.anatomy.does_as(lambda v: model(v, training=False), x)
    assert [site.kind for site in opened.masks][-1] == "saturating"
    assert opened.masks[-1].lost > 0.5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["lambda", "custom layer", "nested"])
def test_models_of_half_precision_are_opened(kind, policy):
    keras.config.set_dtype_policy(policy)
    model, x = MASKED[kind](), random_images(4)
    anatomy = dissect(model)
    np.testing.assert_allclose(
        to_numpy(ops.cast(anatomy(x), "float32")),
        to_numpy(ops.cast(model(x, training=False), "float32")),
        atol=0.05,
    )


def test_what_cannot_be_opened_is_one_step_and_says_why():
    opened = Classifier(steep(Closed())).open(random_images(4))
    assert [step.name.rstrip("_0123456789") for step in opened.anatomy.steps][
        3
    ] == "closed"
    (why,) = opened.why
    assert why.endswith("no symbols, please")
    # It is looked at from outside all the same.
    assert [site.kind for site in opened.masks] == ["saturating"]


def test_a_model_that_does_otherwise_than_its_steps_is_not_used():
    class Moody(layers.Layer):
        def call(self, inputs):
            return inputs * (1.0 if symbolic(inputs) else 2.0)

    def symbolic(x):
        return isinstance(x, keras.KerasTensor)

    model = functional(layers.Dense(7), layers.Lambda(lambda x: x), Moody())
    # What is traced multiplies by 1, what is called by 2.
    opened = Classifier(model).open(random_images(4))
    assert opened.anatomy is None
    assert opened.why == ("its operations in turn give other logits",)


def test_weights_that_a_call_turned_into_numbers_are_told_apart():
    class Baked(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3))

        def call(self, inputs):
            return ops.matmul(inputs, self.kernel + 0.0)

    model = functional(Baked())
    before = dissect(model).digest
    assert dissect(model).digest == before
    model.layers[-1].kernel.assign(2.0 * model.layers[-1].kernel)
    assert dissect(model).digest != before


def test_opening_leaves_the_layers_as_they_were():
    model = tiny_cnn()
    functions = [getattr(layer, "activation", None) for layer in model.layers]
    Classifier(model).open(random_images(4))
    after = [getattr(layer, "activation", None) for layer in model.layers]
    assert after == functions


def two_heads():
    inputs = keras.Input(IMAGE)
    x = layers.Flatten()(inputs)
    h, g = (layers.Dense(4, activation="tanh")(x) for _ in range(2))
    return randomize(
        keras.Model(inputs, layers.Dense(3)(h) + layers.Dense(3)(g))
    )


@pytest.mark.parametrize(
    "build, width",
    [(two_heads, 8), (MASKED["reversed classes"], 7), (one_minus, 7)],
)
def test_features_and_what_follows_them_make_the_model(build, width):
    model, x = build(), random_images(4)
    halves = features.cut(model)
    assert halves.width == width
    values = to_numpy(halves.features(x))
    assert values.shape == (4, width)
    np.testing.assert_allclose(
        to_numpy(halves.classify(values)),
        to_numpy(model(x, training=False)),
        rtol=1e-4,
        atol=1e-4,
    )
    # Class weights are what features add to the logits, in their order.
    weights, _ = halves.centers(scaled=False)
    zero = to_numpy(halves.classify(np.zeros((1, width), np.float32)))
    np.testing.assert_allclose(
        values @ to_numpy(weights).T + zero,
        to_numpy(halves.classify(values)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_product_with_fixed_numbers_has_class_weights():
    kernel = np.ones((36, 3), np.float32)

    def model(x):
        return ops.matmul(ops.reshape(x, (-1, 36)), kernel)

    found, heads = ending(dissect(model, IMAGE))
    assert [tuple(symbol.shape) for symbol in found] == [(None, 36)]
    assert len(heads) == 1


def test_a_linear_model_has_nothing_that_masks():
    kernel = np.random.default_rng(0).normal(size=(*IMAGE, 3))
    model = linear_model(kernel.astype(np.float32))
    opened = Classifier(model).open(random_images(4))
    assert opened.anatomy is not None
    assert opened.sites == () and opened.last is None


@pytest.mark.parametrize(
    "layer",
    [
        layers.Bidirectional(layers.SimpleRNN(3)),
        layers.TimeDistributed(layers.Dense(3, activation="tanh")),
    ],
)
def test_layers_made_of_others_are_named_as_closed(layer):
    inputs = keras.Input((6, 4))
    model = keras.Model(inputs, layer(inputs))
    found = dissect(model, (6, 4))
    assert [name for name, _ in found.closed] == [layer.name]
