"""Confidence intervals for accuracies."""

import math

# The 97.5 % quantile of the standard normal distribution.
_Z = 1.959963984540054


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
    share = successes / count
    center = share + _Z**2 / (2 * count)
    spread = _Z * math.sqrt(
        share * (1 - share) / count + _Z**2 / (4 * count**2)
    )
    scale = 1 + _Z**2 / count
    low = 0.0 if successes == 0 else (center - spread) / scale
    high = 1.0 if successes == count else (center + spread) / scale
    return low, high
