"""The geometry of a model's last layer: how far apart its classes lie."""

import dataclasses

import numpy as np
from keras import ops

from keras_wp import simplex


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Angles and lengths of class weights.

    Attributes:
        layer: What the last layer is called, and of which type.
        features: Number of features P.
        angles: `(K, K)`, the angles between class weights, in degrees. NaN
            where a class weight is zero.
        lengths: `(K,)`, the lengths of the class weights.
        centers: Whether these are centers of classes, seen from their mean,
            instead of the weights of a linear layer.
    """

    layer: str
    features: int
    angles: np.ndarray
    lengths: np.ndarray
    centers: bool = False

    @property
    def num_classes(self):
        """The number of classes K."""
        return len(self.lengths)

    @property
    def ideal(self):
        """The largest smallest angle there can be, in degrees.

        `arccos(1 / (1 - K))`, by Theorem 1 of Xu, Li and Yang; it can be
        reached if K is at most P + 1.
        """
        return float(np.degrees(simplex.ideal_angle(self.num_classes)))

    @property
    def pairs(self):
        """The angles of all pairs of classes, in degrees: `(K (K-1) / 2,)`."""
        return self.angles[np.triu_indices(self.num_classes, k=1)]

    @property
    def closest(self):
        """The two classes with the smallest angle; None if there is a NaN."""
        angles = self.angles + np.diag(np.full(self.num_classes, np.inf))
        if np.isnan(self.pairs).any():
            return None
        first, second = np.unravel_index(angles.argmin(), angles.shape)
        return int(first), int(second)

    def summary(self):
        """The geometry in a few plain sentences."""
        what = "Class centers" if self.centers else "Class weights"
        lines = [
            f"Last layer {self.layer}: {self.features} features, "
            f"{self.num_classes} classes."
        ]
        if np.isnan(self.pairs).any():
            return [*lines, f"{what} of length 0 have no direction."]
        lines.append(
            f"{what} are {self.pairs.min():.2f}° to {self.pairs.max():.2f}° "
            f"apart, {self.pairs.mean():.2f}° on average; at best each pair "
            f"is {self.ideal:.2f}° apart."
        )
        lines.append(
            f"Their lengths are {self.lengths.min():.4g} to "
            f"{self.lengths.max():.4g}."
        )
        return lines


def head_geometry(model):
    """The geometry of a model's last layer.

    Args:
        model: A Keras model whose last layer has a `kernel` `(P, K)`, as
            `keras.layers.Dense` and `keras_wp.RobustHead`, or `centers`
            `(K, P)`; or anything else.

    Returns:
        A `Geometry`, or None for anything else.

    Example:

    >>> for line in keras_wp.head_geometry(model).summary():
    ...     print(line)
    """
    layers = getattr(model, "layers", None)
    while layers:
        head = layers[-1]
        layers = getattr(head, "layers", None)
        given = hasattr(head, "centers")
        rows = getattr(head, "centers" if given else "kernel", None)
        if rows is None or len(rows.shape) != 2:
            continue
        rows = np.asarray(ops.convert_to_numpy(rows), np.float64)
        rows = rows - rows.mean(0) if given else rows.T
        if len(rows) < 2:
            return None
        return Geometry(
            layer=f"{head.name!r} ({type(head).__name__})",
            features=rows.shape[1],
            angles=_angles(rows),
            lengths=np.linalg.norm(rows, axis=1),
            centers=given,
        )
    return None


def _angles(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0, lengths, np.nan)
    angles = np.degrees(np.arccos(np.clip(unit @ unit.T, -1, 1)))
    angles[np.diag_indices(len(rows))] = 0.0
    return angles
