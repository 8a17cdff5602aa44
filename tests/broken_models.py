"""Models whose gradients say little, and healthy ones, on real digits.

Each is made of one small network, so that its true robustness is known: by
construction, or from attacking the network that it was made of.
"""

import functools

import keras
import numpy as np
from keras import ops

import keras_wp as kwp

EPS = 0.1
IMAGES = 100


class Quantize(keras.layers.Layer):
    """Rounds pixels to a few levels: the derivative is 0 wherever it is."""

    def __init__(self, levels=16, **kwargs):
        super().__init__(**kwargs)
        self.levels = levels

    def call(self, inputs):
        return ops.round(inputs * (self.levels - 1)) / (self.levels - 1)


class Shatter(keras.layers.Layer):
    """A ripple too small to matter, but too steep to see past."""

    def __init__(self, height=0.02, frequency=1e4, **kwargs):
        super().__init__(**kwargs)
        self.height, self.frequency = height, frequency

    def call(self, inputs):
        return inputs + self.height * ops.sin(self.frequency * inputs)


class AlwaysNoise(keras.layers.Layer):
    """Noise at test time."""

    def __init__(self, deviation=0.3, **kwargs):
        super().__init__(**kwargs)
        self.deviation = deviation
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.seed)
        return inputs + self.deviation * noise


@functools.cache
def digits(count=IMAGES):
    """`(x_train, y_train), (x_test, y_test)`: 4,000 images and `count`."""
    train, (x, y) = kwp.datasets.load("mnist5k")
    return train, (x[:count], y[:count])


def dense_network():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(96, activation="relu"),
            keras.layers.Dense(48),
            keras.layers.BatchNormalization(momentum=0.9),
            kwp.RobustHead(10, s=1.0, alpha=1.0),
        ]
    )


@functools.cache
def plain(build=dense_network):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*digits()[0], batch_size=64, epochs=4, verbose=0)
    return model


@functools.cache
def adversarial(build=dense_network):
    keras.utils.set_random_seed(0)
    model = build()
    attack = kwp.attacks.PGD(eps=EPS, steps=4, step_size=0.04)
    defense = kwp.defenses.AdversarialTraining(model, attack)
    defense.compile(keras.optimizers.Adam(0.003))
    defense.fit(*digits()[0], batch_size=64, epochs=6, verbose=0)
    return model


def around(before=(), pre_activations=1.0, after=()):
    """What puts layers before, within and after the plain network."""

    def make(build=dense_network):
        base = plain(build)
        head = base.layers[-1]
        trunk = keras.Model(base.inputs, head.input)
        return keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                *[layer() for layer in before],
                trunk,
                keras.layers.Rescaling(pre_activations),
                head,
                *[layer() for layer in after],
            ]
        )

    return make


def constant(build=None):
    del build
    layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    bias = np.linspace(0, 1, 10)
    model.layers[-1].set_weights([np.zeros((784, 10)), bias])
    return model


def padding(build=None):
    """A head that sees a corner which padding has filled with zeros."""
    del build
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.ZeroPadding2D(4),
            keras.layers.Cropping2D(((0, 32), (0, 32))),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(10, bias_initializer="random_normal"),
        ]
    )


def rescaling(factor):
    return functools.partial(keras.layers.Rescaling, factor)


BROKEN = {
    "tanh x3": around(pre_activations=3.0),
    "tanh x30": around(pre_activations=30.0),
    "tanh x100": around(pre_activations=100.0),
    "logits x1e4": around(after=[rescaling(1e4)]),
    "logits x1e-4": around(after=[rescaling(1e-4)]),
    "probabilities": around(after=[keras.layers.Softmax]),
    "quantized input": around(before=[Quantize]),
    "shattered gradients": around(before=[Shatter]),
    "noise at test time": around(before=[AlwaysNoise]),
    "constant output": constant,
    "only padding": padding,
}
HEALTHY = {"plainly trained": plain, "adversarially trained": adversarial}
# What no attack can change is known; the rest is the plain network.
CONSTANT = ("constant output", "only padding")


def true_accuracy(name, build=dense_network, count=IMAGES):
    """Of a broken model at `EPS`: by construction, or that of its twin."""
    if name in CONSTANT:
        x, y = digits(count)[1]
        predicted = np.asarray(BROKEN[name]()(x)).argmax(-1)
        return float((predicted == y).mean())
    return strongly_attacked(plain(build), count)


@functools.cache
def strongly_attacked(model, count=IMAGES):
    """The accuracy that the strongest attacks here leave at `EPS`."""
    attacks = [
        kwp.attacks.APGD(eps=EPS, steps=50, loss="margin"),
        kwp.attacks.APGD(eps=EPS, steps=50, loss="dlr", targets=9),
    ]
    turn = kwp.attacks.InTurn(members=attacks)
    return kwp.evaluate(model, digits(count)[1], [turn]).robust_accuracy


def audited(model, count=IMAGES, **options):
    """What a user would write who knows of PGD only, with the audit."""
    attack = kwp.attacks.PGD(eps=EPS, steps=20)
    options = {"adaptive": True, "audit": True, **options}
    return kwp.evaluate(model, digits(count)[1], [attack], **options)


def high(report):
    return [f for f in report.findings if f.severity == "high"]
