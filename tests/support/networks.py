"""What the tests of models and networks share."""

TINY = {"widths": (2, 2, 3, 3), "dense": (8, 8)}


def batch_norms(count, *widths):
    return 2 * count * sum(widths)
