"""What the tests of stream and programs share."""

import numpy as np
from helpers import (
    linear_model,
    to_numpy,
)
from keras import ops

from keras_wp import _noise
from keras_wp.attacks import PGD
from keras_wp.engine import stream

# Steps that float32 adds without rounding.
STEP = 1 / 32

# With this model the class of an image is 1 where its one pixel exceeds 0.5.
THRESHOLD = linear_model(
    np.array([[0.0, 8.0]], np.float32), np.array([0.0, -4.0], np.float32)
)

WALK = PGD(eps=1.0, steps=8, step_size=STEP, random_start=False, loss="margin")


def images_of(x, y, model, attack=WALK, target=None):
    """What the engine is fed with, lazily."""
    logits = to_numpy(model(ops.convert_to_tensor(x)))
    keys = _noise.seeded(_noise.image_digests(x), attack.seed)
    target = y if target is None else target
    return (
        stream.Image(i, x[i], int(y[i]), int(target[i]), keys[i], logits[i])
        for i in range(len(x))
    )


def walkers(needed):
    """Images of class 0 that reach class 1 after so many steps of `WALK`."""
    start = 0.5 - (np.asarray(needed) - 0.5) * STEP
    return start.astype(np.float32).reshape(-1, 1)
