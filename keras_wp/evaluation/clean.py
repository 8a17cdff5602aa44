"""The clean pass: what a model makes of the images as they are."""

import warnings
from typing import NamedTuple

import numpy as np

from keras_wp import _backend, _checks, _noise
from keras_wp.engine import predict
from keras_wp.engine.judge import FRESH_DRAWS
from keras_wp.engine.slots import Image
from keras_wp.evaluation import fingerprint
from keras_wp.evaluation.data import identities
from keras_wp.inspection.anatomy import TOLERANCE
from keras_wp.objectives import predicted
from keras_wp.reports.shard import EmptyError


class Clean(NamedTuple):
    """Per image: logits `(n, K)`, label, digest, name, and whether right.

    And an image of noise `(1, ...)`, at which models are told apart; the first
    few images `(m, ...)`; by how much logits change from call to call or with
    the batch, None if they do not; and how many draws of a randomized model a
    gradient is taken of, None if the model is not. Of a randomized model the
    logits are means over draws, and an image is classified correctly if more
    than half of the draws are.
    """

    logits: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    identities: list
    correct: np.ndarray
    noise: np.ndarray
    images: np.ndarray
    change: float | None = None
    draws: int | None = None

    @property
    def shape(self):
        """The shape of an image."""
        return self.images.shape[1:]

    def to_attack(self, i, image, key):
        """An image by its number, as the engine takes it.

        Its target is the wrong class that the model finds likeliest.
        """
        others = self.logits[i].copy()
        others[self.labels[i]] = -np.inf
        return Image(
            index=int(i),
            x=image,
            y=int(self.labels[i]),
            target=int(others.argmax()),
            key=key,
            clean_logits=self.logits[i],
        )


def clean_pass(classifier, data, batch_size, bars, lenient=False):
    """One forward pass over the data, with every check of the input.

    Args:
        classifier: The `Classifier`.
        data: The `Data`.
        batch_size: How many images the device works on at a time, at most.
        bars: The `Progress`.
        lenient: Whether probabilities and randomness are but noted, for an
            audit to tell of them.
    """

    def forward(x):
        return predict.logits(classifier, x, batch_size)

    parts, change, draws = [], None, None
    done, bounds = 0, data.units.bounds
    try:
        total = len(data)
    except TypeError:
        total = None
    with bars.task("clean", total) as report:
        for raw, y in data:
            x = data.images(raw)
            if not parts:
                # Every shard finds the same at the first of all images.
                first = x
                if data.shard is not None:
                    first = data.images(data.beginning()[0])
                classifier.settle(first)
            logits = forward(x)
            if not parts and classifier.refresh(x, logits):
                logits = forward(x)
            _checks.logits(logits, classifier.model)
            if not parts:
                blank = fingerprint.blank(x.shape[1:], bounds)
                images = first[:_FIRST]
                draws = _draws(forward, images, bounds)
                strict = draws is None and not lenient
                size = _backend.preferred_slots(batch_size)
                change = _unsteadiness(
                    forward, x[:size], logits[:size], blank, strict
                )
                if draws is not None:
                    change = change or 0.0  # It may be steady at the images.
                    if not lenient:
                        _warn_of_randomness()
            y = _checks.labels(y, len(x), logits.shape[-1])
            right = predicted(logits) == y
            if draws is not None:
                logits, right = _mean(forward, x, y)
            parts.append((logits, y, _noise.image_digests(x), right))
            done += len(x)
            report(done)
    if not parts:
        told = "`data` must hold at least one image. Received: none"
        if data.shard is not None:
            raise EmptyError("{} in shard {} of {}".format(told, *data.shard))
        raise ValueError(told)
    logits, labels, digests, correct = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return Clean(
        logits=logits,
        labels=labels,
        digests=digests,
        identities=identities(digests, labels),
        correct=correct,
        noise=blank,
        images=images,
        change=change,
        draws=draws,
    )


# So many images are looked at for what a model is like, and so far from them,
# as a share of the range of the pixels.
_FIRST, _BESIDE = 32, 0.1
# The fewest and the most draws for a gradient; the deviation of the mean
# margin is brought to this share of the margin, if they suffice.
_DRAWS, _ACCURACY = (4, 32), 0.1


def _mean(forward, x, y):
    """Mean logits over draws, and whether most of these are right."""
    total, right = 0.0, np.zeros(len(x))
    for _ in range(FRESH_DRAWS):
        logits = forward(x)
        total = total + logits
        right += predicted(logits) == y
    return total / FRESH_DRAWS, right > FRESH_DRAWS / 2


def _draws(forward, x, bounds):
    """How many draws of a randomized model a gradient is taken of, or None.

    Looked at on the images, and beside them, as randomness may begin there.
    """
    low, high = _checks.span(bounds)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], x.shape)
    beside = x + _BESIDE * (high - low) * signs.astype(np.float32)
    points = np.concatenate([x, beside.clip(*bounds)])
    found = [forward(points) for _ in range(2)]
    largest = np.abs(found[0]).max()
    if not np.abs(found[0] - found[1]).max() > TOLERANCE * largest:
        return None
    found += [forward(points) for _ in range(14)]
    top = np.sort(np.stack(found), axis=-1)
    margins = top[..., -1] - top[..., -2]
    mean, deviation = margins.mean(0), margins.std(0)
    share = np.median(deviation / np.maximum(mean, 1e-6 * largest))
    # A power of two, as the size of noise is seen with noise, and a resumed
    # evaluation is to find the same.
    wanted = 2.0 ** np.round(2 * np.log2(max(share, 1e-3) / _ACCURACY))
    return int(np.clip(wanted, *_DRAWS))


# Of four parts, the first and the last have some.
_BLANKS = 6


def _unsteadiness(forward, x, logits, blank, strict):
    """How much the logits of an image change without cause, or None.

    Two images change places, as a jitted function of JAX draws the same
    random numbers for the same place; and an image of noise, `blank`, joins
    them, as there may be but one image: several times, as the batch may be
    passed in parts.
    """
    tolerance = 1e-3 * (np.abs(logits).max() + np.ptp(logits))
    others = np.concatenate([x[1:2], *[blank] * _BLANKS, x[:1]])
    found = forward(others)[[-1, 0]]
    change = np.abs(found[: len(x)] - logits[:2]).max()
    if not change > tolerance:
        return None
    if strict:
        raise ValueError(
            "The model's logits for an image must not depend on the other "
            "images of its batch: is it in training mode? Received: logits "
            f"that differ by {change:.2g} between an image in a batch of "
            f"{len(others)} and in one of {len(x)}"
        )
    return float(change)


def _warn_of_randomness():
    warnings.warn(
        "The model gives different logits for the same images: it is "
        "randomized, or in training mode. Gradients are means over several "
        f"draws, and an image counts as fooled if most of {FRESH_DRAWS} "
        "fresh draws are.",
        stacklevel=4,
    )
