"""Whether adversarial images are adversarial as files have them: in bytes."""

import numpy as np

from keras_wp.engine import predict
from keras_wp.objectives import predicted

# So many outcomes wait for each other, to be rounded in one pass.
_TOGETHER = 16


def rounded(outcomes, session):
    """Yield each outcome with 1 if its image, in bytes, fools the model still.

    With 0 if it does not, and -1 if there is nothing to round: no success, or
    an image that has no bounds; or the model is randomized.

    Args:
        outcomes: `Outcome`s, as they come about.
        session: The `Session`.
    """
    low, high = session.data.units.bounds
    unknown = session.clean.change is not None or not np.isfinite(high - low)
    waiting = []
    for outcome in outcomes:
        if unknown or not outcome.success:
            yield outcome, -1
            continue
        waiting.append(outcome)
        if len(waiting) == _TOGETHER:
            yield from _looked_at(waiting, session)
            waiting = []
    yield from _looked_at(waiting, session)


def in_bytes(x, bounds):
    """Images rounded to 256 levels, the nearest, from bound to bound."""
    low, high = bounds
    levels = np.rint((x.astype(np.float64) - low) / (high - low) * 255)
    return (low + levels / 255 * (high - low)).astype(np.float32)


def _looked_at(outcomes, session):
    if not outcomes:
        return
    x = np.stack([outcome.x_adv for outcome in outcomes])
    x = in_bytes(x, session.data.units.bounds)
    logits = predict.logits(session.classifier, x, session.batch_size)
    labels = session.clean.labels[[outcome.index for outcome in outcomes]]
    wrong = predicted(logits) != labels
    yield from zip(outcomes, wrong.astype(int).tolist(), strict=True)
