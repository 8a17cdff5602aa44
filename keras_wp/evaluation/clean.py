"""The clean pass: what a model makes of the images as they are."""

import warnings
from typing import NamedTuple

import numpy as np

from keras_wp import _backend, checks, engine, finish, noise
from keras_wp.evaluation.data import identities


class Clean(NamedTuple):
    """Per image: logits `(n, K)`, label, digest, name, and whether right.

    And the logits of an image of noise, which tell apart models that have the
    same weights.
    """

    logits: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    identities: list
    correct: np.ndarray
    probe: list


def clean_pass(classifier, data, bounds, batch_size, bars):
    """One forward pass over the data, with every check of the input."""
    size = _backend.preferred_slots(batch_size)
    parts, probe = [], []
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
            checks.logits(logits, classifier.model)
            if not parts:
                _check_steadiness(program, x[:size], logits[:size], size)
                probe = _probe(program, x.shape[1:], bounds, size)
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
        probe,
    )


def _probe(program, shape, bounds, size):
    image = np.random.default_rng(0).uniform(*bounds, (1, *shape))
    logits = finish.forward(program, image.astype(np.float32), size)[0]
    return np.nan_to_num(logits).tolist()


def _check_steadiness(program, x, logits, size):
    """The model must be a function of each image by itself."""
    tolerance = 1e-3 * (np.abs(logits).max() + np.ptp(logits))
    alone = finish.forward(program, x[:1], size)
    change = np.abs(alone - logits[:1]).max()
    if not change > tolerance:
        return
    if np.abs(finish.forward(program, x, size) - logits).max() > tolerance:
        warnings.warn(
            "The model gives different logits for the same images: it is "
            "randomized or in training mode, and a single gradient says "
            "little about it.",
            stacklevel=4,
        )
        return
    raise ValueError(
        "The model's logits for an image must not depend on the other "
        "images of its batch: is it in training mode? Received: logits "
        f"that differ by {change:.2g} between an image alone and in a batch "
        f"of {len(x)}"
    )
