"""What becomes of each class under attack, and what it is taken for."""

import collections
from typing import NamedTuple

import numpy as np

from keras_wp.reports import wording

# So many classes are named that another one is taken for.
_MOST = 3


class ClassCount(NamedTuple):
    """The images of one class: how many, how many right, and taken for what."""

    label: int
    count: int
    clean: int
    robust: int
    taken_for: tuple


def per_class(report):
    """The `ClassCount` of each class that there is; empty if not known.

    Args:
        report: A `Report`.
    """
    labels = report.labels
    if labels is None:
        return ()
    robust, taken = report.robust(), report.confused_with()
    found = []
    for label in np.unique(labels).tolist():
        mine = labels == label
        # In rising order, as `most_common` keeps that of equally many.
        others = np.sort(taken[mine & (taken >= 0)]).tolist()
        found.append(
            ClassCount(
                label,
                int(mine.sum()),
                int((report.clean_correct & mine).sum()),
                int((robust & mine).sum()),
                tuple(collections.Counter(others).most_common()),
            )
        )
    return tuple(found)


def rows(report, name):
    """The rows of the table of classes, for a page.

    Args:
        report: A `Report`.
        name: A function from a label to the class's name.
    """
    for one in per_class(report):
        taken = [f"{name(k)} ({n})" for k, n in one.taken_for[:_MOST]]
        if len(one.taken_for) > _MOST:
            taken.append("…")
        cells = [
            str(one.count),
            wording.accuracy(one.clean, one.count),
            wording.accuracy(one.robust, one.count),
            ", ".join(taken) or "–",
        ]
        yield {"name": name(one.label), "kind": None, "cells": cells}


def confusion(report):
    """How many images of each class are taken for which: `(labels, counts)`.

    `counts[i, j]` is that of images of class `labels[i]` that are taken for
    `labels[j]` in the worst case. None if it is not known.
    """
    counted = per_class(report)
    labels = sorted(
        {one.label for one in counted}
        | {other for one in counted for other, _ in one.taken_for}
    )
    if not any(one.taken_for for one in counted):
        return None
    place = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for one in counted:
        counts[place[one.label], place[one.label]] = one.robust
        for other, count in one.taken_for:
            counts[place[one.label], place[other]] = count
    return labels, counts
