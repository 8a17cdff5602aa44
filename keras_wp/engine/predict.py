"""A model's logits and gradients on the host, for any number of points."""

import keras
import numpy as np

from keras_wp import _backend, objectives
from keras_wp.engine.problem import Problem


def forward_pass(classifier, shape):
    """The compiled forward pass of a model."""
    classifier.build(shape)

    def logits(x, extra=None):
        return classifier.given(extra)(x)

    return classifier.compile(("forward", shape), lambda: logits)


def forward(program, x, size, extra=None):
    """Logits of any number of images, `size` at a time on each device.

    Args:
        program: What `forward_pass` returns.
        x: The images, `(N, ...)`.
        size: How many images a device works on at a time, at most.
        extra: What each image brings of its own: a tuple of arrays `(N, ...)`.
    """
    return _in_batches(program, [x] if extra is None else [x, extra], size)


def _in_batches(program, inputs, size):
    """What a program makes of any number of rows, on the host."""
    devices, count = program.devices, len(inputs[0])
    size *= len(devices)
    least = len(devices) if _backend.DYNAMIC_BATCH else size
    found = []
    for begin in range(0, count, size):
        real = min(size, count - begin)
        # Copies of the last row fill up what must not be empty.
        rows = np.arange(begin, begin + max(real, least)).clip(max=count - 1)
        batch = keras.tree.map_structure(lambda x, rows=rows: x[rows], inputs)
        outputs = program(*_backend.spread(batch, devices))
        found.append(_backend.to_numpy(outputs)[:real])
    return np.concatenate(found)


def logits(classifier, x, batch_size):
    """The logits at any number of points, on the host."""
    program = forward_pass(classifier, x.shape[1:])
    size = _backend.preferred_slots(batch_size)
    return forward(program, x, size)


def margin_gradients(classifier, x, labels, batch_size):
    """The gradient of the margin at any number of points, on the host.

    Args:
        classifier: A `Classifier`.
        x: The points, `(N, ...)` float32.
        labels: Their labels, `(N,)` integers.
        batch_size: How many a device works on at a time, at most.
    """

    def one_batch(x, y):
        view = Problem(classifier, x, y, target=y, keys=None, clean_logits=None)
        return view.value_and_grad(objectives.get("margin"), x)[1]

    classifier.build(x.shape[1:])
    key = ("margin gradient", x.shape[1:])
    program = classifier.compile(key, lambda: one_batch)
    size = _backend.preferred_slots(batch_size)
    return _in_batches(program, [x, labels.astype(np.int32)], size)
