"""The clean pass: what a model makes of the images as they are."""

import warnings
from typing import NamedTuple

import numpy as np

from keras_wp import _backend, checks, engine, finish, noise
from keras_wp.evaluation import probe
from keras_wp.evaluation.data import identities


class Clean(NamedTuple):
    """Per image: logits `(n, K)`, label, digest, name, and whether right.

    And an image of noise `(1, ...)`, at which models are told apart; the shape
    of an image; whether the logits look like probabilities; and by how much
    they change from call to call, None if they do not.
    """

    logits: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    identities: list
    correct: np.ndarray
    noise: np.ndarray
    shape: tuple
    probabilities: bool = False
    change: float | None = None

    def to_attack(self, i, image, key):
        """An image by its number, as the engine takes it.

        Its target is the wrong class that the model finds likeliest.
        """
        others = self.logits[i].copy()
        others[self.labels[i]] = -np.inf
        return engine.Image(
            int(i),
            image,
            int(self.labels[i]),
            int(others.argmax()),
            key,
            self.logits[i],
        )


def clean_pass(classifier, data, bounds, batch_size, bars, lenient=False):
    """One forward pass over the data, with every check of the input.

    Args:
        classifier: The `Classifier`.
        data: The `Data`.
        bounds: Lowest and highest value of a pixel.
        batch_size: How many images the device works on at a time, at most.
        bars: The `Progress`.
        lenient: Whether probabilities and randomness are but noted, for an
            audit to tell of them.
    """
    size = _backend.preferred_slots(batch_size)
    parts, change = [], None
    done = 0
    try:
        total = len(data)
    except TypeError:
        total = None
    with bars.task("clean", total) as report:
        for raw, y in data:
            x = checks.images(raw, bounds)
            program = engine.forward_program(classifier, x.shape[1:])
            logits = finish.forward(program, x, size)
            checks.logits(logits, classifier.model, probabilities=lenient)
            if not parts:
                blank = probe.image(x.shape[1:], bounds)
                change = _unsteadiness(
                    program, x[:size], logits[:size], blank, size, lenient
                )
            y = checks.labels(y, len(x), logits.shape[-1])
            parts.append((logits, y, noise.image_digests(x)))
            done += len(x)
            report(done)
    if not parts:
        raise ValueError("`data` must hold at least one image. Received: none")
    logits, labels, digests = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return Clean(
        logits,
        labels,
        digests,
        identities(digests, labels),
        logits.argmax(-1) == labels,
        blank,
        x.shape[1:],
        checks.are_probabilities(logits),
        change,
    )


# Of four parts, the first and the last have some.
_BLANKS = 6


def _unsteadiness(program, x, logits, blank, size, lenient):
    """How much the logits of an image change without cause, or None.

    Two images change places, as a jitted function of JAX draws the same
    random numbers for the same place; and an image of noise, `blank`, joins
    them, as there may be but one image: several times, as the batch may be
    passed in parts.
    """
    tolerance = 1e-3 * (np.abs(logits).max() + np.ptp(logits))
    others = np.concatenate([x[1:2], *[blank] * _BLANKS, x[:1]])
    found = finish.forward(program, others, size)[[-1, 0]]
    change = np.abs(found[: len(x)] - logits[:2]).max()
    if not change > tolerance:
        return None
    if lenient:
        return float(change)
    if np.abs(finish.forward(program, x, size) - logits).max() > tolerance:
        warnings.warn(
            "The model gives different logits for the same images: it is "
            "randomized or in training mode, and a single gradient says "
            "little about it.",
            stacklevel=4,
        )
        return float(change)
    raise ValueError(
        "The model's logits for an image must not depend on the other "
        "images of its batch: is it in training mode? Received: logits "
        f"that differ by {change:.2g} between an image in a batch of "
        f"{len(others)} and in one of {len(x)}"
    )
