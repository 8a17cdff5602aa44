"""What tells a model apart from others: what it is made of, and computes."""

import numpy as np

from keras_wp import _checks
from keras_wp.engine import predict
from keras_wp.inspection.description import digest as digest

# So many logits are kept of large data.
_MOST = 4_000_000
_NOISE = "noise"
# The gradient is compared along so many directions.
_DIRECTIONS = 8


def blank(shape, bounds):
    """An image of noise, `(1, *shape)` float32, always the same."""
    pixels = np.random.default_rng(0).uniform(
        *_checks.span(bounds), (1, *shape)
    )
    return pixels.astype(np.float32)


def gradient(classifier, noise, batch_size):
    """The margin's gradient at an image, along fixed directions: a list.

    Models may agree in their logits where they differ in this: a layer that
    rounds may be left out on the way back, or not.
    """
    label = predict.logits(classifier, noise, batch_size).argmax(-1)
    found = predict.margin_gradients(classifier, noise, label, batch_size)
    found = found.ravel()
    signs = np.random.default_rng(1).choice(
        [-1.0, 1.0], (_DIRECTIONS, found.size)
    )
    return (signs @ found.astype(np.float64)).tolist()


def logits(classifier, clean, batch_size):
    """By identity, the logits of the clean images: at most about 4 million.

    A saturated network shows nothing at an image of noise, by which alone
    models can be compared on data that are not the same.

    Args:
        classifier: The `Classifier`.
        clean: The `Clean` pass.
        batch_size: How many images a device works on at a time, at most.

    Returns:
        A dictionary, which is empty for a randomized model.
    """
    if clean.change is not None:
        return {}
    rows = dict(zip(clean.identities, clean.logits, strict=True))
    names = sorted(rows)
    most = max(1, _MOST // clean.logits.shape[-1])
    if len(names) > most:
        places = np.linspace(0, len(names) - 1, most).astype(int)
        names = [names[place] for place in places]
    (noise,) = predict.logits(classifier, clean.noise, batch_size)
    noise = np.nan_to_num(noise).tolist()
    return {**{name: rows[name] for name in names}, _NOISE: noise}
