"""What the tests of pgd and pgd_steps share."""

import numpy as np
from helpers import (
    random_images,
)
from keras import ops

from keras_wp import _noise
from keras_wp.engine.problem import Problem
from keras_wp.inspection import classifier

SHAPE = (3, 4, 2)

# Far from the bounds, so that only the ball limits the attacks.
IMAGES = random_images(60, SHAPE, low=0.3, high=0.7)


def random_linear(classes, seed=3):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(*SHAPE, classes)).astype(np.float32)
    center = 0.5 * kernel.reshape(-1, classes).sum(0)
    # Centered, so that each class has its share of the images.
    return kernel, (rng.normal(size=classes) * 0.1 - center).astype(np.float32)


def length(norm, delta):
    flat = delta.astype(np.float64).reshape(len(delta), -1)
    return np.linalg.norm(flat, np.inf if norm == "linf" else 2, axis=1)


def problem_of(model, x, y, target=None, seed=0, **options):
    keys = _noise.seeded(_noise.image_digests(x), 0, seed)
    classes = model.output_shape[-1]
    return Problem(
        classifier.Classifier(model),
        x=ops.convert_to_tensor(x),
        y=ops.convert_to_tensor(np.asarray(y, np.int32)),
        target=ops.convert_to_tensor(
            np.asarray(y if target is None else target, np.int32)
        ),
        keys=ops.convert_to_tensor(keys),
        clean_logits=ops.zeros((len(x), classes)),
        **options,
    )
