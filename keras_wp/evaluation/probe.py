"""What a model makes of an image of noise: it tells models apart."""

import numpy as np

from keras_wp import _backend, engine, finish, objectives
from keras_wp.problem import Problem

# The gradient is compared along so many directions.
_DIRECTIONS = 8


def image(shape, bounds):
    """The image of noise, `(1, *shape)` float32, always the same."""
    pixels = np.random.default_rng(0).uniform(*bounds, (1, *shape))
    return pixels.astype(np.float32)


def logits(classifier, noise, batch_size):
    """The logits of an image, as a list of numbers."""
    found = logits_at(classifier, noise, batch_size)
    return np.nan_to_num(found[0]).tolist()


def gradient(classifier, noise, batch_size):
    """The margin's gradient at an image, along fixed directions: a list.

    Models may agree in their logits where they differ in this: a layer that
    rounds may be left out on the way back, or not.
    """
    known = logits(classifier, noise, batch_size)
    label = np.asarray([np.argmax(known)])
    found = margin_gradients(classifier, noise, label, batch_size).ravel()
    signs = np.random.default_rng(1).choice(
        [-1.0, 1.0], (_DIRECTIONS, found.size)
    )
    return (signs @ found.astype(np.float64)).tolist()


def logits_at(classifier, x, batch_size):
    """The logits at any number of points, on the host."""
    program = engine.forward_program(classifier, x.shape[1:])
    size = _backend.preferred_slots(batch_size)
    return finish.forward(program, x, size)


def margin_gradients(classifier, x, labels, batch_size):
    """The gradient of the margin at any number of points, on the host.

    Args:
        classifier: A `Classifier`.
        x: The points, `(N, ...)` float32.
        labels: Their labels, `(N,)` integers.
        batch_size: How many a device works on at a time, at most.
    """

    def one_batch(x, y):
        view = Problem(classifier, x, y, y, None, None)
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
