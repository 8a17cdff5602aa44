"""Read-outs of two classes on a model's features, one for each image."""

import numpy as np
from keras import ops

from keras_wp.inspection import features
from keras_wp.inspection.classifier import Classifier

# So many random points keep a read-out from finding adversarial what is not:
# some to make it, others to check it.
INNER, CHECKED = 64, 128
# The read-out's boundary lies at this share of the way from the random point
# that comes nearest to the planted one.
_PLACE = 0.7
# Classes beyond the two, which losses of four classes want, and no point
# reaches.
OTHERS = (-10.0, -11.0)
_RIDGE = 1e-3


def discriminant(values):
    """Weights `(P,)` and an offset that single out the planted point's values.

    Args:
        values: `(m, P)`: of the image, the planted point, and random points.

    Returns:
        `(weights, offset)` in float32, so that `values @ weights + offset` is
        -1 at the image and above 0 at the planted point, and below at all
        random ones; None if there are none such.
    """
    clean, planted, random = values[0], values[1], values[2:]
    made = np.concatenate([clean[None], random[:INNER]])
    middle = made.mean(0)
    centered = made - middle
    # In the space of the points, which are fewer than the features may be.
    gram = centered @ centered.T
    ridge = _RIDGE * np.trace(gram) / len(gram)
    away = planted - middle
    if not np.isfinite(values).all() or ridge <= 0:
        # Nothing moves: any change would be one to single out.
        weights = away
    else:
        inner = np.linalg.solve(
            gram + ridge * np.eye(len(gram)), centered @ away
        )
        weights = away - centered.T @ inner
    heights = (values - middle) @ weights
    highest = max(heights[0], heights[2:].max())
    boundary = highest + _PLACE * (heights[1] - highest)
    depth = boundary - heights[0]
    rounding = 1e-4 * np.abs(values).max() * np.abs(weights).max()
    if not (heights[1] - highest > rounding and depth > 0):
        return None
    offset = (-boundary - middle @ weights) / depth
    weights = (weights / depth).astype(np.float32)
    exact = values.astype(np.float32) @ weights + np.float32(offset)
    if not (exact[1] > 0 and exact[0] < 0 and exact[2:].max() < 0):
        return None
    return weights, np.asarray(offset, np.float32)


class ReadOuts(Classifier):
    """A `Classifier` of which each image has a read-out of its own.

    Args:
        classifier: The model's `Classifier`.
        of_features: Whether read-outs are of the model's features; otherwise
            of its logits.
    """

    def __init__(self, classifier, of_features):
        super().__init__(classifier.model)
        self.opened = classifier.opened
        self._classifier = classifier
        self._of_features = of_features

    def compile(self, key, make, more_variables=lambda: ()):
        """As that of the classifier, under another name."""
        key = ("planted", self._of_features, key)
        return self._classifier.compile(key, make, more_variables)

    def values(self, surrogate=None):
        """Maps images to what read-outs see, with a surrogate's gradient."""
        classifier = self._classifier
        if self._of_features:
            opened, instead = classifier.opened, {}
            if surrogate is not None:
                instead = surrogate.instead(opened, classifier.model)
            halves = features.cut(classifier.model, opened.anatomy, instead)
            return halves.features
        if surrogate is None:
            return classifier
        return classifier.through(surrogate)

    def features_program(self, shape):
        """The compiled function from images to what read-outs see."""
        self._classifier.build(shape)
        return self.compile(("values", shape), self.values)

    def given(self, extra):
        """The model with the read-outs of a batch of images."""
        return _Given(self, extra, 1)


class _Given:
    """Images to the logits of their read-outs."""

    def __init__(self, readouts, extra, copies):
        self._readouts = readouts
        self._extra = extra
        self._copies = copies

    @property
    def opened(self):
        return self._readouts.opened

    @property
    def model(self):
        return self._readouts.model

    def copied(self, count):
        return _Given(self._readouts, self._extra, count)

    def __call__(self, x):
        return self._read(self._readouts.values(), x)

    def through(self, surrogate):
        values = self._readouts.values(surrogate)
        return lambda x: self._read(values, x)

    def _read(self, values, x):
        weights, offset = self._extra
        if self._copies > 1:
            weights = ops.repeat(weights, self._copies, axis=0)
            offset = ops.repeat(offset, self._copies, axis=0)
        found = ops.sum(values(x) * weights, axis=-1) + offset
        zeros = ops.zeros_like(found)
        others = [zeros + value for value in OTHERS]
        return ops.stack([zeros, found, *others], axis=-1)
