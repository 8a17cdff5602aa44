"""Confidence intervals and tests for accuracies."""

import functools
import math

from scipy import stats


@functools.cache  # A chart asks for many, and SciPy takes 0.3 ms for each.
def wilson(successes, count):
    """The 95 % score interval of a proportion (Wilson, 1927).

    Args:
        successes: Number of successes.
        count: Number of trials.

    Returns:
        `(low, high)`, within [0, 1]; `(0.0, 1.0)` if `count` is 0.
    """
    if count == 0:
        return 0.0, 1.0
    found = stats.binomtest(int(successes), int(count))
    low, high = found.proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def paired_difference(both, first, second, neither):
    """The 95 % interval of the difference of two paired proportions.

    Of the same trials, the first proportion is `(both + first) / n` and the
    second `(both + second) / n`. Wilson's intervals of the two are combined
    in the way of independent proportions, except for their correlation.

    Args:
        both: Number of trials in which both succeeded.
        first: Number of trials in which only the first succeeded.
        second: Number of trials in which only the second succeeded.
        neither: Number of trials in which neither succeeded.

    Returns:
        `(low, high)`, within [-1, 1], of the first proportion less the
        second.

    Source: Newcombe, "Improved confidence intervals for the difference
    between binomial proportions based on paired data" (Statistics in Medicine
    17, 1998), method 10.
    """
    n = both + first + second + neither
    if n == 0:
        return -1.0, 1.0
    p, q = (both + first) / n, (both + second) / n
    (p_low, p_high), (q_low, q_high) = (
        wilson(both + first, n),
        wilson(both + second, n),
    )
    phi = _correlation(both, first, second, neither)
    below, above = (p - p_low, q_high - q), (p_high - p, q - q_low)
    low, high = (
        math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))
        for a, b in (below, above)
    )
    return p - q - low, p - q + high


def _correlation(both, first, second, neither):
    margins = (
        (both + first)
        * (second + neither)
        * (both + second)
        * (first + neither)
    )
    if margins == 0:
        return 0.0
    excess = both * neither - first * second
    if excess > 0:
        n = both + first + second + neither
        excess = max(excess - n / 2, 0)
    return excess / math.sqrt(margins)


def holm(p_values):
    """P-values of several tests, corrected for their number.

    To reject those at most `alpha` keeps the probability that any true
    hypothesis is rejected at `alpha` or below, however the tests depend on
    each other. Of `m` values in rising order the one at the place `i`, from 1,
    becomes `max over j <= i of min(1, (m - j + 1) p_j)`.

    Args:
        p_values: The p-values of the single tests.

    Returns:
        A list in the same order.

    Source: Holm, "A simple sequentially rejective multiple test procedure"
    (Scandinavian Journal of Statistics 6, 1979).
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for left, place in zip(range(len(order), 0, -1), order, strict=True):
        largest = max(largest, min(1.0, left * p_values[place]))
        corrected[place] = largest
    return corrected


def mcnemar(first, second):
    """The two-sided p-value of McNemar's exact test.

    If two classifiers are right equally often, each image on which just one
    of them is right belongs to either with probability 1/2. The p-value is
    the probability of a division at least as uneven as that seen.

    Args:
        first: Number of images on which only the first is right.
        second: Number of images on which only the second is right.

    Returns:
        A probability; 1.0 if both are 0.

    Source: McNemar, "Note on the sampling error of the difference between
    correlated proportions or percentages" (Psychometrika 12, 1947), with the
    binomial distribution itself in place of its approximation.
    """
    if first + second == 0:
        return 1.0
    return float(stats.binomtest(first, first + second).pvalue)
