"""What models that mislead attacks are made of: layers, networks, training.

Every model is built of layers of its own, and gets its weights by their order
from a network trained once: layers that mask a gradient have none.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

import keras_wp as kwp

EPS = 0.1
IMAGES = 100
SHAPE = (28, 28, 1)
HIDDEN, FEATURES, CLASSES = 96, 48, 10


class Masked(NamedTuple):
    """A model whose robustness is easily measured wrong, and how to do it.

    Attributes:
        model: Maps images to logits.
        twin: A Keras model of nearly the same decisions, whose gradient tells
            how they change.
        eps: The l-infinity budget to attack it with.
        trained: How its weights were found, `"plain"` or `"adversarial"`; or
            `"untrained"`.
        others: More such twins.
        random: Whether the model draws random numbers.
    """

    model: Callable
    twin: keras.Model
    eps: float = EPS
    trained: str = "plain"
    others: tuple = ()
    random: bool = False


class Do(keras.layers.Layer):
    """A function of one tensor, as a layer."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class Through(keras.layers.Layer):
    """Computes `forward`, with the derivative of `backward`."""

    def __init__(self, forward, backward, **kwargs):
        super().__init__(**kwargs)
        self.forward, self.backward = forward, backward

    def call(self, inputs):
        soft = self.backward(inputs)
        change = soft - ops.stop_gradient(soft)
        return ops.stop_gradient(self.forward(inputs)) + change


def identity(u):
    return u


def relative(u):
    """`tanh`, at units divided by the root of the mean of their squares."""
    axes = tuple(range(1, len(u.shape)))
    size = ops.sqrt(ops.mean(ops.square(u), axis=axes, keepdims=True))
    return ops.tanh(u / ops.stop_gradient(size + 1e-12))


def steeper(u):
    return ops.tanh(3.0 * u)


# What has the slopes of twins, in the place of what saturates.
SLOPES = (ops.tanh, identity, relative, steeper)


def slopes(forward):
    """Makers of layers that compute `forward`, with slopes that do not end."""
    return [lambda b=b: Through(forward, b) for b in SLOPES]


def scaled(function, factor):
    return lambda u: function(factor * u)


def clipped(u):
    return ops.clip(u, -1.0, 1.0)


@functools.cache
def digits(count=IMAGES):
    """`(x_train, y_train), (x_test, y_test)`: 4,000 images and `count`."""
    train, (x, y) = kwp.datasets.load("mnist5k")
    return train, (x[:count], y[:count])


def sequential(*layers):
    return keras.Sequential([keras.Input(SHAPE), *layers])


def layers_of(model):
    """Those of a model that is one chain, without its input."""
    return [
        layer
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]


def with_weights(model, weights):
    model.set_weights(weights)
    return model


def copy(model):
    """A functional or sequential model of layers of its own."""
    return with_weights(keras.models.clone_model(model), model.get_weights())


def masked(build, real, softs, weights, **fields):
    """One model and its twins: they differ in what `build` is given.

    Args:
        build: Takes a maker of a layer, and returns a model.
        real: The maker of the layer that masks the gradient.
        softs: The makers of what takes its place.
        weights: Of all of them.
        **fields: Of `Masked`.
    """
    model = with_weights(build(real), weights)
    twin, *others = [with_weights(build(soft), weights) for soft in softs]
    return Masked(model, twin, others=tuple(others), **fields)


def fit(model, training="plain", epochs=None, rate=0.003, eps=EPS):
    """Train on the 4,000 images, plainly or on the images that PGD finds."""
    keras.utils.set_random_seed(0)
    if training == "plain":
        trained, options = model, {}
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        options["loss"] = loss
    else:
        attack = kwp.attacks.PGD(eps=eps, steps=4, step_size=0.4 * eps)
        trained = kwp.defenses.AdversarialTraining(model, attack)
        options = {}
    trained.compile(keras.optimizers.Adam(rate), **options)
    if epochs is None:
        epochs = 4 if training == "plain" else 6
    trained.fit(*digits()[0], batch_size=64, epochs=epochs, verbose=0)
    return model


def batch_norm():
    return keras.layers.BatchNormalization(momentum=0.9)


def dense_trunk():
    """From images to features without their activation."""
    return sequential(
        keras.layers.Flatten(),
        keras.layers.Dense(HIDDEN, activation="relu"),
        keras.layers.Dense(FEATURES),
        batch_norm(),
    )


def cnn_trunk():
    model = kwp.models.small_cnn(
        SHAPE, CLASSES, widths=(8, 8, 16, 16), dense=(64, FEATURES)
    )
    return keras.Model(model.inputs, model.layers[-1].input)


TRUNKS = {"dense": dense_trunk, "cnn": cnn_trunk}


@functools.cache
def trained_trunk(kind, training="plain"):
    """The weights of a trunk, and those of its head: `(48, 10)`."""
    keras.utils.set_random_seed(0)
    features = TRUNKS[kind]()
    head = kwp.RobustHead(CLASSES, s=1.0, alpha=1.0)
    fit(sequential(*layers_of(features), head), training)
    return features.get_weights(), np.asarray(head.kernel)


def trunk(kind="dense", training="plain"):
    """A trained trunk of its own layers, and the head's kernel."""
    weights, kernel = trained_trunk(kind, training)
    return with_weights(TRUNKS[kind](), weights), kernel


def robust_head(activation="tanh"):
    return kwp.RobustHead(CLASSES, s=1.0, alpha=1.0, activation=activation)


def network(kind="dense", training="plain"):
    """The trained network as it is, with a tanh head."""
    features, kernel = trunk(kind, training)
    head = robust_head()
    model = sequential(*layers_of(features), head)
    head.dense.set_weights([kernel])
    return model


def hidden_network(mask):
    """A dense network with a layer of our choice after its first."""
    return sequential(
        keras.layers.Flatten(),
        keras.layers.Dense(HIDDEN),
        batch_norm(),
        mask(),
        keras.layers.Dense(FEATURES, activation="relu"),
        keras.layers.Dense(CLASSES),
    )


def trained(build, layer, training="plain", first=None, epochs=None, eps=EPS):
    """The weights of a network trained with a layer in it.

    Args:
        build: Takes a maker of a layer, and returns a model.
        layer: The maker to train with, or the later part of training if
            there is a `first`.
        training: `"plain"` or `"adversarial"`.
        first: The maker to begin with, for as long as usual.
        epochs: How long to train with `layer`.
        eps: The budget of adversarial training.
    """
    keras.utils.set_random_seed(0)
    weights = None
    if first is not None:
        weights = fit(build(first), training, eps=eps).get_weights()
        epochs = epochs or 2
    model = build(layer)
    if weights is not None:
        model.set_weights(weights)
    return fit(model, training, epochs, eps=eps).get_weights()


class Averaged(keras.Model):
    """The mean of a model's logits over an image's noisy copies.

    Args:
        inner: The model.
        deviation: Of the noise, which is the same for all images.
        copies: How many there are.
    """

    def __init__(self, inner, deviation, copies=16):
        super().__init__()
        rng = np.random.default_rng(0)
        noise = rng.normal(0, deviation, (copies, 1, *SHAPE))
        self.inner, self.copies = inner, copies
        self.noise = noise.astype(np.float32)
        self(np.zeros((1, *SHAPE), np.float32))

    def call(self, inputs):
        noisy = ops.reshape(inputs[None] + self.noise, (-1, *SHAPE))
        logits = self.inner(noisy, training=False)
        logits = ops.reshape(logits, (self.copies, -1, CLASSES))
        return ops.mean(logits, axis=0)
