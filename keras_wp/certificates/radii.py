"""Radii within which no prediction changes, from logits and a `Graph`."""

import math
from typing import NamedTuple

import numpy as np

from keras_wp.certificates.refusals import RefusedError
from keras_wp.lipschitz import norms

# What float64 may do to a quotient.
_ROUNDED_DOWN = 1 - 1e-12


class Radii(NamedTuple):
    """For each image, in l2.

    Attributes:
        radius: `(n,)`, 0 where nothing is proved.
        rounding: `(n,)`, by how much it is shorter than in exact arithmetic.
        constant: The Lipschitz constant from the images to the features
            before the head (or to the logits, if the model has no head).
    """

    radius: np.ndarray
    rounding: np.ndarray
    constant: float


def radii(graph, lengths, logits):
    """The radii of images.

    With features `f` of Lipschitz constant `L`, and class weights `w`, it is
    `min_j (z_y - z_j - 2 e_j) / (L ||w_y - w_j||)`: logits are those of
    float32, and `e_j` bounds how far float32 may take `z_y - z_j` from exact
    arithmetic, at the image as well as at any image within the radius.

    Args:
        graph: The model's `Graph`.
        lengths: `(n, 2)`, those of the images, as the graph tells.
        logits: `(n, K)`, what the model makes of them.

    Returns:
        The `Radii`.
    """
    logits = np.asarray(logits, np.float64)
    predicted = logits.argmax(-1)
    rows = np.arange(len(logits))
    constant = graph.constant(graph.features)
    head = _Head(graph, logits.shape[-1])
    stretch = head.distances[predicted] * max(constant, 1e-30)
    margins = logits[rows, predicted][:, None] - logits
    margins[rows, predicted] = np.inf
    exact = np.divide(
        margins, stretch, out=np.full_like(margins, np.inf), where=stretch > 0
    )
    # Where two class weights are equal, margins do not depend on the image.
    farthest = exact.min(-1)
    farthest = np.where(np.isfinite(farthest), farthest, 0.0)
    bound = graph.bound(graph.features, lengths + farthest[:, None])
    errors = head.errors(bound, predicted)
    proved = np.divide(
        margins - 2 * errors,
        stretch,
        out=np.where(margins > 2 * errors, np.inf, 0.0),
        where=stretch > 0,
    )
    proved[rows, predicted] = np.inf
    radius = np.minimum(proved.min(-1), farthest).clip(0) * _ROUNDED_DOWN
    return Radii(radius, farthest - radius, constant)


class _Head:
    """Distances of class weights `(K, K)`, and errors of differences."""

    def __init__(self, graph, classes):
        if graph.head is None:
            # Of any two numbers, the difference is stretched by root 2.
            self.distances = math.sqrt(2) * (1 - np.eye(classes))
            self._weights = None
            return
        layer = graph.head.operation
        self._weights = weights = norms.float64(layer.kernel).T
        bias = getattr(layer, "bias", None)
        bias = np.zeros(classes) if bias is None else norms.float64(bias)
        self._bias = np.abs(bias)
        self.distances = np.stack(
            [np.linalg.norm(weights - w, axis=1) for w in weights]
        ) * (1 + 1e-10)

    def errors(self, bound, predicted):
        """How far float32 may take `z_y - z_j` from exact numbers, `(n, K)`.

        Args:
            bound: The `Bound` of the features.
            predicted: `(n,)`, the class `y`.
        """
        errors = self.distances[predicted] * bound.error[:, None]
        if self._weights is None:
            return errors
        lengths = np.linalg.norm(self._weights, axis=1)
        unit = norms.gamma(self._weights.shape[1] + 1)
        own = unit * (lengths * bound.size[:, None] + self._bias)
        own = own + own[np.arange(len(own)), predicted][:, None]
        return errors + own + norms.FLUSHED


def check_arithmetic(hint):
    """Raise an error if the device computes more coarsely than float32.

    Args:
        hint: What `_backend.coarse_products()` says.
    """
    if hint is not None:
        raise RefusedError(
            "A certificate is about float32 arithmetic, and this device "
            f"multiplies more coarsely: {hint}"
        )
