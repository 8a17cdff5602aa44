"""Whole numbers that a model may want in another range."""

import numpy as np

from keras_wp._units import Units
from keras_wp.engine import predict
from keras_wp.inputs import Inputs
from keras_wp.inspection.classifier import Classifier
from keras_wp.inspection.ends import whole_numbers
from keras_wp.inspection.view import View
from keras_wp.reports.findings import Finding, severity_of
from keras_wp.reports.statistics import mcnemar

# What people make of bytes, and how they say it.
_RANGES = {
    (0.0, 1.0): "in [0, 1], as x / 255",
    (-1.0, 1.0): "in [-1, 1], as x / 127.5 - 1",
}
# So unlikely must it be that another range is better by chance only.
_CHANCE = 0.05


def first(batches, count):
    """The first images and labels of batches, `count` of them at most."""
    found, seen = [], 0
    for x, y in batches:
        found.append((x, y))
        seen += len(x)
        if seen >= count:
            break
    return (np.concatenate(part)[:count] for part in zip(*found, strict=True))


def correct(model, view, x, y, batch_size):
    """Which images a model classifies correctly, and its number of classes.

    Args:
        model: The model.
        view: The `View` of it that has the range of the pixels.
        x: The images.
        y: `(N,)` labels.
        batch_size: As in `evaluate`.
    """
    classifier = Classifier(model, view)
    classifier.settle(x)
    logits = predict.logits(classifier, x, batch_size)
    return logits.argmax(-1) == y, logits.shape[-1]


def clearly_better(one, other):
    """Whether one of two is correct on more of the same images, not by chance.

    By McNemar's exact test at the level 0.05.
    """
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return gained > lost and mcnemar(gained, lost) < _CHANCE


def findings(session, raw, output=None):
    """What is better for a model than the range that a type of bytes tells.

    The first images, which have passed through it as they are, do so in [0, 1]
    and in [-1, 1].

    Args:
        session: The `Session`.
        raw: The first images, as they are.
        output: Which output of several are the classes.

    Yields:
        A `Finding` of the best range, if that is not the one taken.
    """
    bytes_ = raw is not None and raw.dtype.kind in "iu" and raw.max() > 1
    model, data = session.model, session.data
    if not bytes_ or whole_numbers(model):
        return
    x, y = first(data, len(raw))
    x = data.images(x)

    def right(pixels):
        units = Units(data.units.bounds, Inputs(bounds=pixels))
        view = View(units, None, output)
        return correct(model, view, x, y, session.batch_size)[0]

    taken = session.clean.correct[: len(y)]
    others = {pixels: right(pixels) for pixels in _RANGES}
    best = max(others, key=lambda r: others[r].sum())
    if clearly_better(others[best], taken):
        yield Finding(
            severity_of(others[best].mean() - taken.mean()) or "warning",
            "The images are whole numbers, and were given to the model as they "
            f"are: it classifies {taken.mean():.1%} of the first {len(y)} "
            f"correctly. With pixels {_RANGES[best]}, it would be "
            f"{others[best].mean():.1%}: all numbers are those of a model that "
            "sees images in another range than it was trained on.",
            {"taken": float(taken.mean()), "best": float(others[best].mean())},
            "pixels",
        )
