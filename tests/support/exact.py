"""What the tests of objectives and objectives_digits share."""

import functools

import keras
import numpy as np
from helpers import to_numpy
from keras import ops

from keras_wp import _backend, objectives


def expected(loss, targeted, z, y, target):
    """Each objective by its definition, one image at a time, in float64."""
    values = []
    rows = np.asarray(z, np.float64)
    for row, label, aim in zip(rows, y, target, strict=True):
        goal = aim if targeted else label
        others = max(v for k, v in enumerate(row) if k != goal)
        ranked = sorted(row, reverse=True)
        if loss == "cross_entropy":
            value = np.log(np.exp(row - ranked[0]).sum()) + ranked[0]
            value -= row[goal]
        elif loss == "log_odds":
            rest = np.delete(row, goal)
            value = np.log(np.exp(rest - others).sum()) + others - row[goal]
        elif loss == "margin":
            value = others - row[goal]
        elif targeted:
            spread = ranked[0] - (ranked[2] + ranked[3]) / 2
            value = -(row[aim] - row[label]) / spread
        else:
            value = (others - row[label]) / (ranked[0] - ranked[2])
        values.append(-value if targeted else value)
    return np.array(values)


def batch(scale, count=100, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    z = (scale * rng.normal(size=(count, classes))).astype(np.float32)
    y = rng.integers(0, classes, count).astype(np.int32)
    target = ((y + rng.integers(1, classes, count)) % classes).astype(np.int32)
    return z, y, target


def at_once(fn):
    """On JAX, compiled: there, one operation at a time takes seconds."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(fn)
    return fn


def value_and_gradient(fn, z):
    @at_once
    def both(z):
        values, pullback = _backend.vjp(fn, z)
        return values, pullback(ops.ones_like(values))

    return tuple(map(to_numpy, both(ops.convert_to_tensor(z))))


@functools.cache
def compiled(loss, targeted):
    """Values and gradient of an objective, by its name."""
    name = f"targeted_{loss}" if targeted else loss
    objective = getattr(objectives, name)

    def both(z, *labels):
        # Untargeted forms, and those of one label only, take but the first.
        given = labels if targeted else labels[:1]
        values, pullback = _backend.vjp(lambda z: objective(z, *given), z)
        return values, pullback(ops.ones_like(values))

    return at_once(both)


def evaluate(loss, targeted, z, y, target):
    given = map(ops.convert_to_tensor, (z, y, target))
    return tuple(map(to_numpy, compiled(loss, targeted)(*given)))
