"""Masks at the input and in the logits, and outputs that say little."""

import keras
import numpy as np
from bases import (
    CLASSES,
    FEATURES,
    HIDDEN,
    SHAPE,
    Averaged,
    Do,
    Masked,
    Through,
    batch_norm,
    digits,
    identity,
    layers_of,
    masked,
    network,
    sequential,
    trained,
)
from keras import ops


def before(function, training="plain", backward=(identity,), **fields):
    """A function of the image, before the trained dense network."""

    def build(layer):
        return sequential(layer(), *layers_of(network("dense", training)))

    twin, *others = [build(lambda b=b: Through(function, b)) for b in backward]
    model = build(lambda: Do(function))
    others = (*others, Averaged(twin, 0.03))
    return Masked(model, twin, trained=training, others=others, **fields)


def rounded(x, levels=16):
    return ops.round(x * (levels - 1)) / (levels - 1)


def floored(x, levels=16):
    return ops.floor(x * (levels - 1e-3)) / (levels - 1)


def as_bytes(x):
    """What a model does that keeps images as integers."""
    return ops.cast(ops.cast(x * 255.0, "uint8"), "float32") / 255.0


def plateau(x):
    return ops.clip(2.0 * x - 0.5, 0.0, 1.0)


def brightest(x, count=150):
    """The brightest pixels; the others are 0."""
    flat = ops.reshape(x, (-1, x.shape[1] * x.shape[2]))
    least = ops.top_k(flat, count)[0][:, -1:]
    return ops.where(x >= least[:, None, None], x, ops.zeros_like(x))


def rippled(x):
    """Athalye, Carlini and Wagner, ICML 2018: shattered gradients."""
    return x + 0.02 * ops.sin(1e4 * x)


THRESHOLDS = (np.arange(10, dtype=np.float32) + 0.5) / 10


def thermometer(x):
    """Buckman et al., ICLR 2018: which thresholds a pixel exceeds."""
    return ops.cast(x > THRESHOLDS, "float32")


def thermometer_network(mask):
    return sequential(
        mask(),
        keras.layers.Flatten(),
        keras.layers.Dense(HIDDEN, activation="relu"),
        keras.layers.Dense(FEATURES),
        batch_norm(),
        keras.layers.Activation("tanh"),
        keras.layers.Dense(CLASSES),
    )


def coded(training="plain"):
    backward = [
        lambda x: ops.clip((x - THRESHOLDS) / 0.2 + 0.5, 0.0, 1.0),
        lambda x: ops.sigmoid((x - THRESHOLDS) / 0.1),
        lambda x: x - THRESHOLDS,
    ]
    softs = [lambda b=b: Through(thermometer, b) for b in backward]
    weights = trained(thermometer_network, softs[0], training)
    return masked(
        thermometer_network,
        lambda: Do(thermometer),
        softs,
        weights,
        trained=training,
    )


def after(function, kind="dense", training="plain"):
    """A function of the trained network's logits."""

    def build():
        return layers_of(network(kind, training))

    model = sequential(*build(), Do(function))
    return Masked(model, sequential(*build()), trained=training)


def capped():
    """Logits of more than what the second usually has are the same."""
    (x, _), _ = digits()
    logits = network().predict(x[:1000], verbose=0)
    cap = float(np.quantile(np.sort(logits)[:, -2], 0.9))
    return after(lambda z: ops.clip(z, -cap, cap))


class Ripple(keras.layers.Layer):
    """Adds to logits what changes with the least change of the image."""

    def __init__(self, inner, height, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.height = inner, height
        rng = np.random.default_rng(0)
        waves = rng.normal(size=(SHAPE[0] * SHAPE[1], CLASSES))
        self.waves = 1e3 * waves.astype(np.float32)

    def call(self, inputs):
        flat = ops.reshape(inputs, (-1, self.waves.shape[0]))
        wave = ops.sin(ops.matmul(flat, self.waves))
        return self.inner(inputs) + self.height * wave


def rippled_logits():
    inner = network()
    images = keras.Input(SHAPE)
    (x, _), _ = digits()
    height = 0.2 * float(inner.predict(x[:100], verbose=0).std())
    model = keras.Model(images, Ripple(inner, height)(images))
    return Masked(model, network())


def constant():
    model = sequential(keras.layers.Flatten(), keras.layers.Dense(CLASSES))
    bias = np.linspace(0, 1, CLASSES)
    model.set_weights([np.zeros((SHAPE[0] * SHAPE[1], CLASSES)), bias])
    return Masked(model, model, trained="untrained")


def padding():
    """A head that sees a corner which padding has filled with zeros."""
    keras.utils.set_random_seed(3)
    model = sequential(
        keras.layers.ZeroPadding2D(4),
        keras.layers.Cropping2D(((0, 32), (0, 32))),
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="tanh"),
        keras.layers.Dense(CLASSES, bias_initializer="random_normal"),
    )
    return Masked(model, model, trained="untrained")


ENDS = {
    "input plateau, eps 0.2": lambda: before(plateau, eps=0.2),
    "input plateau, eps 0.3": lambda: before(plateau, eps=0.3),
    "input plateau, eps 0.3, adversarial": lambda: before(
        plateau, "adversarial", eps=0.3
    ),
    "16 levels, input": lambda: before(rounded),
    "16 levels, input, adversarial": lambda: before(rounded, "adversarial"),
    "16 levels by floor, input": lambda: before(floored),
    "input as uint8": lambda: before(as_bytes),
    "thermometer": coded,
    "brightest 150 pixels": lambda: before(brightest),
    "shattered gradients": lambda: before(rippled),
    "ripple on the logits": rippled_logits,
    "logits x1e4": lambda: after(lambda z: 1e4 * z),
    "logits x1e-4": lambda: after(lambda z: 1e-4 * z),
    "logits x1e30": lambda: after(lambda z: 1e30 * z),
    "logits x1e-30": lambda: after(lambda z: 1e-30 * z),
    "logits x1e4, adversarial cnn": lambda: after(
        lambda z: 1e4 * z, "cnn", "adversarial"
    ),
    "log_softmax at temperature 0.001": lambda: after(
        lambda z: ops.log_softmax(z / 0.001)
    ),
    "logits capped": capped,
    "logits rounded to one decimal": lambda: after(
        lambda z: ops.round(10.0 * z) / 10.0
    ),
    "probabilities": lambda: after(ops.softmax),
    "constant output": constant,
    "only padding": padding,
}
