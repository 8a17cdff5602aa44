"""Values on the command line: names, numbers, budgets."""

import argparse
import math
from fractions import Fraction

from keras_wp.attacks import named


def names(text):
    """Names of attacks, with commas, as a list."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(
            f"expected names of attacks. Received: {text!r}"
        )
    unknown = [name for name in found if name not in named.NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected names among {', '.join(named.NAMES)}. "
            f"Received: {', '.join(unknown)}"
        )
    return found


def count(text):
    """An integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"expected an integer of at least 1. Received: {text!r}"
        )
    return value


def budgets(text):
    """Budgets as `evaluate` takes them.

    Args:
        text: Numbers or fractions with commas, as `"2/255,8/255"`; a norm
            and an equals sign before the first of them hold for it and those
            after it, as `"linf=2/255,8/255,l2=0.5"`.

    Returns:
        A list of numbers, or a dictionary from norm to such a list.
    """
    found, norm = {}, None
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        if equals:
            norm = name.strip()
        found.setdefault(norm, []).append(_budget(number, text))
    if None not in found:
        return found
    if len(found) > 1:
        raise argparse.ArgumentTypeError(
            f"expected a norm before the first budget. Received: {text!r}"
        )
    return found[None]


def _budget(number, text):
    try:
        value = float(Fraction(number.strip()))
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            "expected numbers or fractions above 0, such as 0.3 or 8/255. "
            f"Received: {text!r}"
        )
    return value
