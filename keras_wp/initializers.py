"""Initial values for the kernel of a robust head."""

import numbers
import random

import keras
import numpy as np
from keras import ops

from keras_wp import simplex


@keras.saving.register_keras_serializable(package="keras_wp")
class SimplexVertices(keras.initializers.Initializer):
    """Starts class weights at the optimum of Theorem 1.

    The columns of the kernel are the vertices of a regular simplex centered
    at the origin, `simplex.vertices`, turned by a random rotation, so that
    every feature takes part from the start. A `SimplexRegularizer` of the
    same `s` finds nothing to penalize.

    Args:
        s: Length of a class weight, a positive number. Defaults to `0.1`.
        seed: An integer. The rotation depends on nothing else. `None`, the
            default, draws a seed when the initializer is made
            (`keras.utils.set_random_seed` decides which).

    Raises:
        ValueError: If `s` or `seed` is out of its range; when called, if the
            shape is not `(features, classes)` with
            `1 < classes <= features + 1`.

    Reference:
        Xu, Li and Yang, "Improve adversarial robustness via weight
        penalization on classification layer", Theorem 1 and Lemma 2.

    Example:

    >>> kernel = SimplexVertices(s=0.1)(shape=(64, 10))
    >>> round(simplex.min_angle(kernel), 4)
    1.6821
    """

    def __init__(self, s=0.1, seed=None):
        simplex.validate_s(s)
        if seed is not None and (
            not isinstance(seed, numbers.Integral) or seed < 0
        ):
            raise ValueError(
                "`seed` must be `None` or an integer of at least 0. "
                f"Received: seed={seed!r}"
            )
        self.s = float(s)
        self.seed = seed if seed is None else int(seed)
        self._drawn_seed = (
            random.randint(1, 10**9) if seed is None else self.seed
        )

    def __call__(self, shape, dtype=None):
        """Returns a kernel of shape `(features, classes)`."""
        shape = tuple(shape)
        simplex.validate_kernel_rank(shape)
        dim, num_classes = shape
        weights = simplex.vertices(num_classes, dim, self.s)
        rng = np.random.default_rng(self._drawn_seed)
        rank = num_classes - 1
        rotation, _ = np.linalg.qr(rng.standard_normal((dim, rank)))
        kernel = rotation @ weights[:, :rank].T
        return ops.cast(kernel, dtype or keras.config.floatx())

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {"s": self.s, "seed": self.seed}
