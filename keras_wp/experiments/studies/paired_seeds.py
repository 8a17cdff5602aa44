"""How much two ways of training differ, over images and over seeds."""

import math

import numpy as np
from scipy import stats

from keras_wp.reports import pairs
from keras_wp.reports.statistics import paired_difference


def compare(first, second):
    """The second way less the first, of which each has several runs.

    Images and seeds are both samples of what there might have been. With
    `d[j, i]` the difference of the outcomes of image `i` with seed `j`, and
    the mean squares of their two-way analysis of variance,

        variance = (MS_seed + max(MS_image - MS_rest, 0)) / (m n)

    is that of their mean over `m` seeds and `n` images, and Student's t with
    `(m - 1) (1 + max(MS_image - MS_rest, 0) / MS_seed)^2` degrees of freedom
    gives the interval. `MS_seed` is taken to be at least `MS_rest`, which is
    what it is without any effect of the seed: that the means of a few seeds
    agree by chance makes nothing certain. The interval is wide with few seeds.
    One seed says nothing of others: then, and where all outcomes have the same
    difference, it is that of paired outcomes on images alone, of a single run.

    Args:
        first: `(m, n)` bool, which of `n` images the first way is right on,
            with each of `m` seeds.
        second: The same of the second way, on the same images.

    Returns:
        A dictionary: `"difference"`, the mean; `"interval"`, its 95 %
        interval; `"over"`, whether that is over `"images and seeds"` or over
        `"images"`; `"difference_by_seed"`; `"by_seed"` and `"pooled"`, on how
        many images both, only the first, only the second, or none is right.

    Source: Dorfman, Berbaum and Metz (Investigative Radiology 27, 1992), of
    several readers who see the same cases, and the degrees of freedom of
    Hillis (Statistics in Medicine 26, 2007).
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            "Expected the outcomes of the same seeds and images, (m, n). "
            f"Received: shapes {first.shape} and {second.shape}"
        )
    by_seed = [_counts(a, b) for a, b in zip(first, second, strict=True)]
    pooled = _counts(first, second)
    difference = second.astype(float) - first
    interval, over = crossed(difference), "images and seeds"
    if interval is None:
        order = ("both", "second", "first", "neither")
        of_one = [pooled[name] / len(first) for name in order]
        interval, over = paired_difference(*of_one), "images"
    return {
        "difference": float(difference.mean()),
        "interval": [float(limit) for limit in interval],
        "over": over,
        "difference_by_seed": difference.mean(1).tolist(),
        "by_seed": by_seed,
        "pooled": pooled,
    }


def _counts(first, second):
    """On how many images both, only the first, ... of two models are right."""
    pair = pairs.counted("", first, second)
    names = ("both", "first", "second", "neither")
    return {name: getattr(pair, name) for name in names}


def crossed(values):
    """The 95 % interval of the mean of values by seed and image, `(m, n)`.

    Returns:
        `(low, high)`; None for a single seed or image, or where it would be
        a point.
    """
    m, n = values.shape
    if min(m, n) < 2:
        return None
    mean = values.mean()
    seeds = values.mean(1, keepdims=True) - mean
    images = values.mean(0, keepdims=True) - mean
    rest = values - mean - seeds - images
    ms_seed = n * np.sum(seeds**2) / (m - 1)
    ms_image = m * np.sum(images**2) / (n - 1)
    ms_rest = np.sum(rest**2) / ((m - 1) * (n - 1))
    ms_seed = max(ms_seed, ms_rest)
    of_images = max(ms_image - ms_rest, 0.0)
    variance = (ms_seed + of_images) / (m * n)
    if variance < 1e-12:
        return None
    # With so many Student's t is the normal distribution.
    share = max(ms_seed / (ms_seed + of_images), 1e-3)
    freedom = (m - 1) / share**2
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    return max(-1.0, mean - half), min(1.0, mean + half)
