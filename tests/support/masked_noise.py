"""Models that draw random numbers when they are asked.

Their twins are the same without noise, and the mean of 16 draws that are the
same for all images.
"""

import functools

import keras
import numpy as np
from bases import (
    CLASSES,
    SHAPE,
    Do,
    Masked,
    digits,
    layers_of,
    network,
    sequential,
)
from keras import ops

DRAWS = 16


class AlwaysNoise(keras.layers.Layer):
    """Noise at test time."""

    def __init__(self, deviation=0.3, **kwargs):
        super().__init__(**kwargs)
        self.deviation = deviation
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.seed)
        return inputs + self.deviation * noise


class AlwaysDropout(keras.layers.Layer):
    """Drops units at test time."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return keras.random.dropout(inputs, self.rate, seed=self.seed)


class NoiseAway(keras.layers.Layer):
    """Noise on a model's logits, where a statistic leaves its usual range.

    Args:
        inner: The model.
        statistic: Maps images to numbers `(N,)`, which are 0 within the range
            and deviations of the noise beyond it.
    """

    def __init__(self, inner, statistic, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.statistic = inner, statistic
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        logits = self.inner(inputs)
        noise = keras.random.normal(ops.shape(logits), seed=self.seed)
        return logits + self.statistic(inputs)[:, None] * noise


class MeanOfDraws(keras.Model):
    """The mean of a network's logits over draws that never change.

    Args:
        start: The layers before the one with noise.
        draws: Takes a shape, and returns `(DRAWS, 1, ...)` draws.
        apply: Takes values and draws.
        end: The layers after it.
    """

    def __init__(self, start, draws, apply, end):
        super().__init__()
        self.start, self.end = start, end
        self.apply = apply
        shape = start.outputs[0].shape[1:]
        self.draws = draws(np.random.default_rng(0), (DRAWS, 1, *shape))
        self(np.zeros((1, *SHAPE), np.float32))

    def call(self, inputs):
        h = self.start(inputs)
        values = self.apply(h[None], self.draws)
        logits = self.end(ops.reshape(values, (-1, *h.shape[1:])))
        return ops.mean(ops.reshape(logits, (DRAWS, -1, CLASSES)), axis=0)


def noisy(layer, place, draws, apply, training="plain"):
    """The trained network with a random layer among its others.

    Args:
        layer: The maker of the random layer.
        place: Before which of the network's layers.
        draws: Of `MeanOfDraws`.
        apply: Of `MeanOfDraws`.
        training: Of the network.
    """
    parts = layers_of(network("dense", training))
    model = sequential(*parts[:place], layer(), *parts[place:])
    parts = layers_of(network("dense", training))
    start = sequential(Do(lambda x: x), *parts[:place])
    end = keras.Sequential(
        [keras.Input(start.outputs[0].shape[1:]), *parts[place:]]
    )
    mean = MeanOfDraws(start, draws, apply, end)
    twin = network("dense", training)
    return Masked(model, twin, trained=training, others=(mean,), random=True)


def with_noise(deviation, place, training="plain"):
    def draws(rng, shape):
        return rng.normal(0, deviation, shape).astype(np.float32)

    return noisy(
        lambda: AlwaysNoise(deviation),
        place,
        draws,
        lambda h, noise: h + noise,
        training,
    )


def with_dropout(rate, place, training="plain"):
    def draws(rng, shape):
        kept = rng.uniform(size=shape) >= rate
        return (kept / (1 - rate)).astype(np.float32)

    return noisy(
        lambda: AlwaysDropout(rate),
        place,
        draws,
        lambda h, kept: h * kept,
        training,
    )


def beyond(statistic, slope):
    """Noise away from the data, where a statistic is beyond its usual range.

    Args:
        statistic: Takes a network and images; returns numbers `(N,)`.
        slope: The deviation of the noise at twice the end of the range, in
            deviations of the logits.
    """
    inner = network()
    (x, _), _ = digits()
    some = ops.convert_to_tensor(x[-1000:])
    usual = ops.convert_to_numpy(statistic(inner, some))
    end = float(np.quantile(usual, 0.995))
    spread = float(inner.predict(x[:200], verbose=0).std())

    def deviation(images):
        excess = ops.relu(statistic(inner, images) / end - 1.0)
        return slope * spread * excess

    images = keras.Input(SHAPE)
    layer = NoiseAway(inner, deviation)
    model = keras.Model(images, layer(images))
    return Masked(model, network(), random=True)


@functools.cache
def prototypes():
    """Fifty training images, flat."""
    (x, _), _ = digits()
    return x[:50].reshape(50, -1)


def distance(_, images):
    """From the nearest of some training images, in many small changes."""
    flat = ops.reshape(images, (-1, 1, SHAPE[0] * SHAPE[1]))
    apart = ops.sqrt(ops.abs(flat - prototypes()) + 1e-6)
    return ops.min(ops.mean(apart, axis=-1), axis=-1)


def activity(model, images):
    """Of the first hidden layer."""
    h = images
    for layer in layers_of(model)[:2]:
        h = layer(h)
    return ops.mean(h, axis=-1)


NOISES = {
    "noise at the input": lambda: with_noise(0.3, 0),
    "noise at the input, adversarial": lambda: with_noise(
        0.15, 0, "adversarial"
    ),
    "noise in a hidden layer": lambda: with_noise(0.5, 2),
    "noise in the last hidden layer": lambda: with_noise(0.7, 4),
    "dropout at test time": lambda: with_dropout(0.4, 2),
    "noise away from training images": lambda: beyond(distance, 10.0),
    "noise beyond the usual activity": lambda: beyond(activity, 10.0),
}
