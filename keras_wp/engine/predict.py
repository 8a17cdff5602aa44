"""A model's logits and gradients on the host, for any number of points."""

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
    devices = program.devices
    size *= len(devices)
    least = len(devices) if _backend.DYNAMIC_BATCH else size
    logits = []
    for begin in range(0, len(x), size):
        rows = np.arange(begin, min(begin + size, len(x)))
        count = len(rows)
        if count < least:
            rows = np.concatenate([rows, np.repeat(rows[:1], least - count)])
        batch = [x[rows]]
        if extra is not None:
            batch.append(tuple(part[rows] for part in extra))
        outputs = program(*_backend.spread(batch, devices))
        logits.append(_backend.to_numpy(outputs)[:count])
    return np.concatenate(logits)


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
    size = _backend.preferred_slots(batch_size) * len(program.devices)
    found = []
    for begin in range(0, len(x), size):
        places = np.arange(begin, begin + size).clip(max=len(x) - 1)
        batch = x[places], labels[places].astype(np.int32)
        batch = _backend.spread(batch, program.devices)
        found.append(_backend.to_numpy(program(*batch)))
    return np.concatenate(found)[: len(x)]
