"""Which part of the data a report is of, and what the other parts must share.

The rule: of `count` shards, the one numbered `index` (from 1) has the images
whose place in the data, counted from 0, leaves the remainder `index - 1` when
divided by `count`. It depends on nothing but places, and gives every shard its
share of each class where data come class by class.
"""

import dataclasses
import numbers

import numpy as np


class EmptyError(ValueError):
    """A shard has no images."""


def check(shard):
    """A shard as `(index, count)`.

    Args:
        shard: The pair.

    Raises:
        ValueError: If it is no pair of whole numbers, `1 <= index <= count`.
    """
    pair = isinstance(shard, (tuple, list)) and len(shard) == 2
    if pair and all(
        isinstance(n, numbers.Integral) and not isinstance(n, bool)
        for n in shard
    ):
        index, count = map(int, shard)
        if 1 <= index <= count:
            return index, count
    raise ValueError(
        "Argument `shard` must be a pair (k, n) of whole numbers, 1 <= k <= n, "
        f"such as (3, 16) for the third of 16. Received: shard={shard!r}"
    )


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of the data that a report is of: `index` of `count`.

    Attributes:
        index: Its number, from 1 to `count`.
        count: How many shards there are.
        images: How many images all shards have together.
        classes: How many classes the model tells apart.
        model: A digest of the model's layers and weights.
        data: A digest of the first images of the whole data.
        randomized: Whether the model is randomized.
        at_least: Whether it knows of its own images only, as a function reads
            them: `images` is then the least that there can be, and other
            shards may have any number of them.
    """

    index: int
    count: int
    images: int
    classes: int
    model: str
    data: str
    randomized: bool = False
    at_least: bool = False

    def places(self, n):
        """The places of its `n` images in the whole data, from 0: `(n,)`."""
        return self.index - 1 + self.count * np.arange(n)


def missing(found, count):
    """Which shards are not there, in words; None if all are.

    Args:
        found: The numbers of those that are.
        count: How many there are to be.
    """
    lacking = [str(i) for i in range(1, count + 1) if i not in {*found}]
    if not lacking:
        return None
    *first, last = lacking
    which = f"{', '.join(first)} and {last}" if first else last
    one = not first
    return (
        f"shard{'' if one else 's'} {which} of {count} "
        f"{'is' if one else 'are'} missing"
    )


def told(report):
    """What part of the data a report is of, in words; "" if it is all."""
    if report.shard is not None:
        return f"shard {report.shard.index} of {report.shard.count}"
    lacking = report.environment.get("missing")
    return f"partial: {lacking}" if lacking else ""
