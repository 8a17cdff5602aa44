"""Values on the command line: names, numbers, budgets."""

import argparse
import math
from fractions import Fraction

from keras_wp import _names


def names(text):
    """Names of attacks, with commas, as a list."""
    found = _names.split(text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"expected names of attacks. Received: {text!r}"
        )
    for name in found:
        try:
            _names.read(name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
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


def shard(text):
    """`(K, N)` for K/N, the Kth of N parts."""
    first, _, second = text.partition("/")
    try:
        index, total = int(first), int(second)
    except ValueError:
        index, total = 0, 0
    if not 1 <= index <= total:
        raise argparse.ArgumentTypeError(
            "expected K/N with 1 <= K <= N, such as 3/16 for the third of 16. "
            f"Received: {text!r}"
        )
    return index, total


def cluster(text):
    """The options of a `keras_wp.cluster.Ray`."""
    name, equals, address = text.partition("=")
    if name != "ray" or bool(equals) != bool(address):
        raise argparse.ArgumentTypeError(
            f"expected ray, or ray=ADDRESS such as ray=auto. Received: {text!r}"
        )
    return {"address": address or None}


def share(text):
    """A number from 0 to 1, or a percentage."""
    number, percent, rest = text.strip().partition("%")
    value = _number(number) / (100 if percent else 1)
    if rest or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"expected a share such as 0.4 or 40%. Received: {text!r}"
        )
    return value


def bounds(text):
    """The lowest and the highest value of a pixel."""
    found = tuple(map(_number, text.split(",")))
    if not (len(found) == 2 and -math.inf < found[0] < found[1] < math.inf):
        raise argparse.ArgumentTypeError(
            "expected the lowest and the highest value of a pixel, such as "
            f"0,255. Received: {text!r}"
        )
    return found


def channels(text):
    """A number for all channels, or one for each."""
    found = tuple(map(_number, text.split(",")))
    if not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(
            "expected a number, or one for each channel with commas. "
            f"Received: {text!r}"
        )
    return found


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
        value = _number(number)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(
                "expected numbers or fractions above 0, such as 0.3 or 8/255. "
                f"Received: {text!r}"
            )
        found.setdefault(norm, []).append(value)
    if None not in found:
        return found
    if len(found) > 1:
        raise argparse.ArgumentTypeError(
            f"expected a norm before the first budget. Received: {text!r}"
        )
    return found[None]


def _number(text):
    """A number or a fraction; NaN for anything else."""
    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan
