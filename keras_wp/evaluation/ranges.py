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


def findings(model, data, raw, batch_size, output=None):
    """What is better for a model than the range that a type of bytes tells.

    The first images pass through it as they are, in [0, 1] and in [-1, 1].

    Args:
        model: The model.
        data: The `Data`.
        raw: Its first images, as they are.
        batch_size: As in `evaluate`.
        output: Which output of several are the classes.

    Yields:
        A `Finding` of the best range, if that is not the one taken.
    """
    bytes_ = raw is not None and raw.dtype.kind in "iu" and raw.max() > 1
    if not bytes_ or whole_numbers(model):
        return
    bounds, found = data.units.bounds, []
    for images, labels in data:
        found.append((data.images(images), labels))
        if sum(len(y) for _, y in found) >= len(raw):
            break
    x, y = (
        np.concatenate(part)[: len(raw)] for part in zip(*found, strict=True)
    )

    def right(units):
        view = View(units, None, output)
        logits = predict.logits(Classifier(model, view), x, batch_size)
        return logits.argmax(-1) == y

    taken = right(data.units)
    others = {r: right(Units(bounds, Inputs(bounds=r))) for r in _RANGES}
    best = max(others, key=lambda r: others[r].sum())
    gained = int((others[best] & ~taken).sum())
    lost = int((taken & ~others[best]).sum())
    if gained > lost and mcnemar(gained, lost) < _CHANCE:
        yield Finding(
            severity_of((gained - lost) / len(y)) or "warning",
            "The images are whole numbers, and were given to the model as they "
            f"are: it classifies {taken.mean():.1%} of the first {len(y)} "
            f"correctly. With pixels {_RANGES[best]}, it would be "
            f"{others[best].mean():.1%}: all numbers are those of a model that "
            "sees images in another range than it was trained on.",
            {"taken": float(taken.mean()), "best": float(others[best].mean())},
            "pixels",
        )
