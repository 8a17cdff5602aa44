"""What an attack is asked to solve, and all that it may see of the model."""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import ops

from keras_wp import _backend, _noise, objectives
from keras_wp.norms import select


def _as_they_are(logits):
    return logits


@dataclasses.dataclass
class Problem:
    """A batch of images to be misclassified.

    Attributes:
        model: Maps images `(N, ...)` to float32 logits `(N, K)`.
        x: The clean images, `(N, ...)` float32.
        y: Their labels, `(N,)` int32.
        target: The classes that targeted attacks aim at, `(N,)` int32.
        keys: The images' random keys, `(N, 2)` uint32.
        clean_logits: The model's logits at `x`, `(N, K)`; zeros if the attack
            has said that it does not need them.
        bounds: Lowest and highest value of a pixel.
        seen: Maps logits to what `value_and_grad` gives to objectives.
        reach_target: Whether an image counts as adversarial only if it is
            classified as its target, instead of for any wrong class.
        zero_gradients: `(N,)` int32, how many of the gradients asked for so
            far were zero in every pixel.
        bad_gradients: `(N,)` int32, how many of them were not finite.
        start: Where runs begin, `(N, ...)`, or None for where attacks choose.
    """

    model: Callable
    x: object
    y: object
    target: object
    keys: object
    clean_logits: object
    bounds: tuple[float, float] = (0.0, 1.0)
    seen: Callable = _as_they_are
    reach_target: bool = False
    zero_gradients: object = 0
    bad_gradients: object = 0
    start: object = None

    def fresh(self):
        """The same problem with the counts of gradients at zero."""
        return dataclasses.replace(self, zero_gradients=0, bad_gradients=0)

    def logits(self, x):
        """The model's logits at `x`: `(N, K)`."""
        return self.model(x)

    def linearize(self, x):
        """Logits at `x`, and a function from cotangents to gradients.

        The function maps `(N, K)` to the gradient, in `x`, of the sum of
        logits weighted by it. Each call costs one backward pass.
        """
        logits, pullback = _backend.vjp(self.model, x)
        return logits, lambda cotangent: self._checked(pullback(cotangent))

    def value_and_grad(self, objective, x):
        """`(values, gradient, logits)` of an objective at `x`.

        Args:
            objective: A function of `(logits, y, target)`, as in
                `keras_wp.objectives`, with one value for each image.
            x: Images, `(N, ...)`.
        """
        logits, pullback = self.linearize(x)
        values, to_logits = _backend.vjp(
            lambda z: objective(self.seen(z), self.y, self.target), logits
        )
        return values, pullback(to_logits(ops.ones_like(values))), logits

    def cut(self):
        """The model's two halves; see `keras_wp.inspection.features.Cut`."""
        return self.model.cut()

    def feature_grad(self, cut, objective, x):
        """`(values, gradient, logits)` of an objective of the features at `x`.

        Args:
            cut: What `cut()` returns.
            objective: A function of the features `(N, P)`, with one value for
                each image.
            x: Images, `(N, ...)`.
        """
        features, pullback = _backend.vjp(cut.features, x)
        values, to_features = _backend.vjp(objective, features)
        gradient = pullback(to_features(ops.ones_like(values)))
        return values, self._checked(gradient), cut.classify(features)

    def is_adversarial(self, logits, confidence=0.0):
        """Which images are misclassified (or reach the target): `(N,)`.

        Logits that are not finite never count.

        Args:
            logits: `(N, K)`.
            confidence: By how much a wrong logit must exceed that of `y` (or
                the target's all others).
        """
        predicted = objectives.predicted(logits)
        if self.reach_target:
            fooled = predicted == self.target
        else:
            fooled = predicted != self.y
        finite = ops.all(ops.isfinite(logits), axis=-1)
        fooled = fooled & finite
        if confidence:
            objective = objectives.get("margin", self.reach_target)
            margin = objective(logits, self.y, self.target)
            fooled = fooled & (margin > confidence)
        return fooled

    def ranked_target(self, rank):
        """The wrong class of each image with its `rank`-th largest clean logit.

        Args:
            rank: `(N,)` int32, from 0 for the likeliest wrong class.

        Returns:
            `(N,)` int32 classes, in the order of the model's preference.
        """
        classes = self.clean_logits.shape[-1]
        correct = ops.one_hot(self.y, classes, dtype="bool")
        lowest = ops.full_like(self.clean_logits, -np.inf)
        logits = ops.where(correct, lowest, self.clean_logits)
        order = ops.top_k(logits, classes)[1]
        chosen = ops.one_hot(rank, classes, dtype="int32")
        return ops.sum(chosen * ops.cast(order, "int32"), axis=-1)

    def clip(self, x):
        """`x` with every pixel within the bounds."""
        return ops.clip(x, *self.bounds)

    def within(self, x, norm, eps):
        """The projection of `x` to the ball, then to the bounds."""
        return self.clip(self.x + norm.project(x - self.x, eps))

    def random_point(self, run, norm, eps):
        """Points drawn uniformly from the ball, then brought to the bounds."""
        keys = _noise.fold_in(self.keys, run)
        return self.clip(self.x + norm.sample(keys, self.x.shape[1:], eps))

    def _checked(self, gradient):
        axes = tuple(range(1, len(gradient.shape)))
        finite = ops.all(ops.isfinite(gradient), axis=axes)
        gradient = select(finite, gradient, ops.zeros_like(gradient))
        flat = finite & (ops.max(ops.abs(gradient), axis=axes) == 0)
        self.zero_gradients += ops.cast(flat, "int32")
        self.bad_gradients += ops.cast(~finite, "int32")
        return gradient
