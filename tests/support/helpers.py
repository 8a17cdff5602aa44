"""Small models and images that several test modules build on."""

import weakref

import keras
import numpy as np
import pytest
from keras import ops
from processes import LIMIT, ROOT, run_python

import keras_wp
from keras_wp.inspection import classifier


def message_of(function, *args, **kwargs):
    """What the `ValueError` says that a call raises."""
    with pytest.raises(ValueError) as error:
        function(*args, **kwargs)
    return str(error.value)


def to_numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


class Alive:
    """Counts objects that have not been freed."""

    def __init__(self):
        self.count = 0

    def watch(self, thing):
        self.count += 1
        weakref.finalize(thing, self._freed)
        return thing

    def _freed(self):
        self.count -= 1


class CenterHead(keras.layers.Layer):
    """Logits are the negative squared distances to fixed centers."""

    def __init__(self, centers, **kwargs):
        super().__init__(**kwargs)
        self.centers = np.asarray(centers, np.float32)

    def call(self, inputs):
        delta = inputs[:, None, :] - ops.convert_to_tensor(self.centers)
        return -ops.sum(ops.square(delta), axis=-1)


def linear_model(kernel, bias=None):
    """A Keras model with logits `flatten(x) @ kernel + bias`.

    Args:
        kernel: `(*image_shape, K)`.
        bias: `(K,)`, or `None` for zeros.
    """
    *shape, units = kernel.shape
    inputs = keras.Input(tuple(shape))
    outputs = keras.layers.Dense(units)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    if bias is None:
        bias = np.zeros(units, np.float32)
    model.layers[-1].set_weights([kernel.reshape(-1, units), bias])
    return model


def linear_logits(kernel, bias, x):
    """What `linear_model` computes, in NumPy and float64."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    weights = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    return flat @ weights + bias


def randomize(model, seed=0, scale=1.0):
    """Set every weight of a model from NumPy, moving statistics included."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype in ("uint32", "int32"):
            continue
        values = rng.normal(size=weight.shape)
        if len(weight.shape) > 1:
            values *= scale * np.sqrt(2.0 / np.prod(weight.shape[:-1]))
        elif "variance" in weight.path or "gamma" in weight.path:
            values = 0.5 + np.abs(values)
        else:
            values *= 0.1
        weight.assign(values.astype(weight.dtype))
    return model


def tiny_cnn(
    shape=(6, 6, 1), num_classes=5, seed=0, scale=1.0, dropout=0.0, **conv
):
    """A convolution with BatchNorm before a dense layer, weights from NumPy."""
    layers = [
        keras.Input(shape),
        keras.layers.Conv2D(4, 3, **conv),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="tanh"),
        keras.layers.Dense(num_classes, dtype="float32"),
    ]
    if dropout:
        layers.insert(4, keras.layers.Dropout(dropout))
    return randomize(keras.Sequential(layers), seed, scale)


def random_images(count, shape=(6, 6, 1), seed=1, low=0.0, high=1.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(low, high, (count, *shape)).astype(np.float32)


def predictions(model, x):
    logits = model(ops.convert_to_tensor(np.asarray(x, np.float32)))
    return to_numpy(logits).argmax(-1)


def mixed_labels(model, x, wrong=4):
    """What the model predicts, but another class for each `wrong`-th image."""
    logits = to_numpy(model(ops.convert_to_tensor(x)))
    labels = logits.argmax(-1)
    labels[::wrong] = (labels[::wrong] + 1) % logits.shape[-1]
    return labels.astype(np.int32)


def compiled_functions(model):
    """What is compiled for a Keras model, by key; each counts its traces."""
    _, functions = classifier._compiled[model]
    return functions


def snapshot(model):
    return [np.array(to_numpy(weight.value)) for weight in model.variables]


def _choices(image, padding):
    """All that augmentation can make of an image, and where it cut it out."""
    height, width, _ = image.shape
    around = ((padding, padding), (padding, padding), (0, 0))
    padded = np.pad(image, around, mode="reflect")
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            part = padded[row : row + height, column : column + width]
            yield (row, column, 0), part
            yield (row, column, 1), part[:, ::-1]


def places(images, augmented, padding):
    """Where each augmented image was cut out: (row, column, flipped)."""
    found = []
    for image, result in zip(images, augmented, strict=True):
        same = [
            place
            for place, choice in _choices(image, padding)
            if np.array_equal(choice, result)
        ]
        assert len(same) == 1
        found += same
    return np.array(found)


def example(name):
    """A script of `examples/`."""
    return ROOT / "examples" / f"{name}.py"


def run_example(name, *flags, timeout=LIMIT, **variables):
    """Run a script of `examples/` to its end, in a process of its own."""
    return run_python(example(name), *flags, timeout=timeout, **variables)


def uniformity(samples, cdf=lambda x: x):
    """Kolmogorov's distance of samples from a distribution, times sqrt(n).

    It exceeds 1.95 with probability 0.001 for independent samples of it.
    """
    samples = np.sort(np.ravel(samples).astype(np.float64))
    expected = cdf(samples)
    n = len(samples)
    above = (np.arange(n) + 1) / n - expected
    below = expected - np.arange(n) / n
    return max(above.max(), below.max()) * np.sqrt(n)


def plainly(*args, **options):
    """`keras_wp.evaluate` with the attacks asked for, and nothing else."""
    return keras_wp.evaluate(
        *args, **{"adaptive": False, "audit": False, **options}
    )
