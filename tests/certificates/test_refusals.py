"""Each refusal is a sentence that names the first offending layer."""

import functools
import math

import keras
import numpy as np
import pytest
from certified import SHAPE, labels_of, small_network
from helpers import linear_model, message_of, random_images
from keras import ops

import keras_wp as kwp
from keras_wp import _backend, lipschitz
from keras_wp.certificates.graph import Graph

pytestmark = pytest.mark.once


BEGIN = (
    "A certificate needs a bound for every operation of the model, and has "
    "none for "
)
OWN = (
    "use a layer of keras_wp.lipschitz, or give it the methods "
    "`lipschitz_constant()` and `rounding_error(size, at_zero)`"
)
NORMALIZED = "leave it out, as 1-Lipschitz layers keep lengths"


class Square(keras.layers.Layer):
    def call(self, inputs):
        return inputs * inputs


class Mixing(keras.layers.Layer):
    """Adds up the images of a batch."""

    def call(self, inputs):
        return inputs + ops.sum(inputs, axis=0, keepdims=True)


class Reshaped(keras.layers.Layer):
    def call(self, inputs):
        return ops.reshape(inputs, (-1, 2))


class Reflected(keras.layers.Layer):
    def call(self, inputs):
        return ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")


class Divided(keras.layers.Layer):
    def call(self, inputs):
        return 1.0 / (inputs + 2.0)


class Broadcast(keras.layers.Layer):
    def call(self, inputs):
        return ops.mean(inputs, axis=-1, keepdims=True) + np.zeros(4, "f")


class Infinite(keras.layers.Layer):
    def call(self, inputs):
        return inputs * np.float32("inf")


class HalfStated(lipschitz.MaxMin):
    rounding_error = None


class Unbounded(lipschitz.MaxMin):
    def lipschitz_constant(self):
        return float("nan")


class Tripled(lipschitz.MaxMin):
    def call(self, inputs):
        return 3 * super().call(inputs)


def named(make):
    """A layer by the name `it`, in a network."""

    def model():
        inputs = keras.Input(SHAPE)
        x = lipschitz.AOLConv2D(4)(inputs)
        x = make()(x)
        return keras.Model(inputs, _head(x))

    return model


def _head(x):
    if len(x.shape) > 2:
        x = keras.layers.Flatten()(x)
    return lipschitz.OrthogonalDense(3)(x)


def L(kind, *args, **options):
    return named(lambda: kind(*args, name="it", **options))


REFUSED = {
    "batch-norm": (
        L(keras.layers.BatchNormalization),
        f"it (BatchNormalization): {NORMALIZED}",
    ),
    "layer-norm": (
        L(keras.layers.LayerNormalization),
        f"it (LayerNormalization): {NORMALIZED}",
    ),
    "separable": (
        L(keras.layers.SeparableConv2D, 4, 3),
        f"it (SeparableConv2D): {OWN}",
    ),
    "up-sampling": (
        L(keras.layers.UpSampling2D, interpolation="bilinear"),
        'it (UpSampling2D): use `interpolation="nearest"`',
    ),
    "threshold": (
        L(keras.layers.ReLU, threshold=0.5),
        "it (ReLU): use a ReLU without threshold, which does not jump",
    ),
    "multiply": (
        named(lambda: lambda x: keras.layers.Multiply(name="it")([x, x])),
        "it (Multiply): join tensors by adding, subtracting or averaging "
        "those of one shape, or by concatenating them",
    ),
    "softmax": (
        L(keras.layers.Softmax),
        "it (Softmax): let the model return logits",
    ),
    "activation": (
        L(keras.layers.Dense, 4, activation="exponential"),
        f"exponential: {OWN}",
    ),
    "mixed": (
        L(keras.layers.Dense, 4, dtype="mixed_float16"),
        "it (Dense): leave all in float32, instead of float16",
    ),
    "half-stated": (
        L(HalfStated),
        "it (HalfStated): give it the method `rounding_error(size, at_zero)` "
        "beside `lipschitz_constant()`",
    ),
    "unbounded": (
        L(Unbounded),
        "it (Unbounded): its `lipschitz_constant()` must be a finite number "
        "of at least 0. Received: nan",
    ),
    "inherited": (
        L(Tripled),
        "it (Tripled): give it a `lipschitz_constant()` for the `call` that "
        "it has of its own, as what it inherits is of another",
    ),
    "training": (
        # A noise so small that calls agree.
        named(
            lambda: (
                lambda x: keras.layers.GaussianNoise(1e-6, name="it")(
                    x, training=True
                )
            )
        ),
        "it (GaussianNoise): call it without `training=True`, which is not "
        "inference",
    ),
    "square": (
        L(Square),
        "multiply (Multiply): join tensors by adding, subtracting or "
        "averaging those of one shape, or by concatenating them",
    ),
    "mixing": (
        L(Mixing),
        "sum (Sum): keep the axis of the images in front, and shapes fixed",
    ),
    "reshaped": (
        L(Reshaped),
        "reshape (Reshape): keep the axis of the images apart from the others",
    ),
    "reflected": (
        L(Reflected),
        "pad (Pad): pad by zeros, with `keras.layers.ZeroPadding2D`, or "
        "within AOLConv2D",
    ),
    "divided": (
        L(Divided),
        "true_divide (TrueDivide): divide by constants only",
    ),
    "infinite": (
        L(Infinite),
        "multiply (Multiply): use finite weights and constants",
    ),
    "mean": (L(Broadcast), f"mean (Mean): {OWN}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operations_without_a_bound_are_refused(name):
    make, told = REFUSED[name]
    model, x = make(), random_images(4, SHAPE)
    message = message_of(kwp.certify, model, (x, np.zeros(4, int)))
    # Keras numbers the names of operations.
    kind = told.partition(" ")[0].partition("_")[0]
    start = message.removeprefix(BEGIN)
    assert start != message
    unnumbered = start.replace(start.split(" ")[0], told.split(" ")[0], 1)
    assert start.startswith(kind) and unnumbered == told


def test_of_several_the_first_is_named():
    inputs = keras.Input(SHAPE)
    x = keras.layers.BatchNormalization(name="first")(inputs)
    x = keras.layers.BatchNormalization(name="second")(x)
    model = keras.Model(inputs, _head(x))
    message = message_of(
        kwp.certify, model, (random_images(2, SHAPE), np.zeros(2, int))
    )
    assert message == f"{BEGIN}first (BatchNormalization): {NORMALIZED}"


def test_a_layer_that_states_both_is_taken_at_its_word():
    class Own(lipschitz.MaxMin):
        def lipschitz_constant(self):
            return 3

    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, _head(Own()(inputs)))
    x = random_images(4, SHAPE)
    found = kwp.certify(model, (x, labels_of(model, x)))
    assert found.constant == pytest.approx(3.0, abs=1e-3)


def test_class_weights_are_those_of_layers_that_do_nothing_else():
    class Scaled(keras.layers.Dense):
        def call(self, inputs):
            return 5 * super().call(inputs)

        def lipschitz_constant(self):
            return 5 * lipschitz.norms.matrix_norm(self.kernel)

        def rounding_error(self, size, at_zero):
            return 1e-4 * size

    model = keras.Sequential([keras.Input((8,)), Scaled(3)])
    graph = Graph(model, random_images(2, (8,)))
    assert graph.head is None
    constant = 5 * np.linalg.norm(model.layers[0].get_weights()[0], 2)
    assert graph.constant(graph.features) == pytest.approx(constant, rel=1e-5)


def test_a_single_logit_is_refused():
    model = linear_model(np.ones((*SHAPE, 1)), np.zeros(1))
    x = random_images(2, SHAPE)
    assert message_of(kwp.certify, model, (x, np.zeros(2, int))) == (
        "A certificate needs a model that returns logits (N, K), of two "
        "classes at least. Received: outputs of shape (N, 1)"
    )


@pytest.mark.parametrize(
    "certify",
    [kwp.certify, functools.partial(kwp.smoothing.certify, sigma=0.25)],
    ids=["certify", "smoothing"],
)
def test_bytes_are_told_how_to_be_given(certify):
    x = np.array([0, 255] * 2 * math.prod(SHAPE), "uint8")
    data = x.reshape(4, *SHAPE), np.zeros(4, int)
    assert message_of(certify, small_network(), data) == (
        "Images must be floating-point numbers, in the range that the model "
        "takes (as x / 255). Received: dtype uint8 with values from 0 to 255"
    )


def test_what_is_no_keras_model_is_refused():
    x = random_images(4, SHAPE)
    model = small_network()

    def call(images):
        return model(images)

    message = message_of(kwp.certify, call, (x, np.zeros(4, int)))
    assert message == (
        "A certificate needs a Keras model, whose layers tell what they "
        "compute. Received: function"
    )


def test_a_randomized_model_is_refused():
    class Noisy(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(0)

        def call(self, inputs):
            return inputs + keras.random.normal((1, 4, 4, 2), seed=self.seed)

    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, _head(Noisy()(inputs)), name="noisy")
    x = random_images(4, SHAPE)
    message = message_of(kwp.certify, model, (x, np.zeros(4, int)))
    assert message == (
        "A certificate needs a model that computes the same each time. "
        "Received: 'noisy', whose operations, called in turn, give other "
        "logits: is it randomized?"
    )


def test_devices_that_multiply_coarsely_are_refused(monkeypatch):
    monkeypatch.setattr(_backend, "coarse_products", lambda: "do that")
    x = random_images(4, SHAPE)
    message = message_of(kwp.certify, small_network(), (x, np.zeros(4, int)))
    assert message == (
        "A certificate is about float32 arithmetic, and this device "
        "multiplies more coarsely: do that"
    )
