"""Samples that are no images: signals as lines, rows of tables as tables."""

import numpy as np

from keras_wp.reports import charts, pictures, wording

# A row of so many features at most is a table; what is longer is a signal.
_FEATURES = 24


def gallery(report, name):
    """The report's samples that are no images, before and after attacks.

    Args:
        report: A `Report`.
        name: A function from a label to the class's name.

    Returns:
        A list, each with a `chart` or a `table`.
    """
    found = []
    for sample in report.samples:
        values = _columns(sample.image)
        if values is None:
            continue
        attempts = [(a, _columns(a.image)) for a in sample.attempts]
        few = len(values) <= _FEATURES
        found.append(
            {
                "index": sample.index,
                "label": name(sample.label),
                "attempts": [
                    {
                        "name": a.name,
                        "kind": f"c{place % charts.SERIES}",
                        "predicted": name(a.predicted),
                        "norm": wording.norm_text(a.norm),
                        "distance": wording.eps_text(a.distance),
                    }
                    for place, a in enumerate(sample.attempts)
                ],
                "resisted": sample.resisted,
                "chart": None if few else _chart(values, attempts),
                "table": _table(values, attempts) if few else None,
            }
        )
    return found


def _columns(x):
    """The channels of a signal, `(T, C)`; None for what is none."""
    if x.ndim == 1:
        return x[:, None]
    if pictures.drawable(x) is None and x.ndim == 2:
        return x if x.shape[0] >= x.shape[1] else x.T
    return None


def _chart(values, attempts):
    every = np.concatenate([values, *(v for _, v in attempts)])
    low, high = float(every.min()), float(every.max())
    room = 0.05 * (high - low) or 1.0
    axes = charts.Axes(
        (0.0, len(values) - 1.0),
        (low - room, high + room),
        "position",
        "value",
        height=220,
    )
    named = [("the signal", "worst", values)]
    for place, (attempt, found) in enumerate(attempts):
        named.append((attempt.name, f"c{place % charts.SERIES}", found))
    places = range(len(values))
    return {
        "axes": axes,
        "label": "A signal before and after attacks",
        "curves": [
            {"name": what, "kind": kind, "line": axes.path(places, column)}
            for what, kind, found in reversed(named)
            for column in found.T.tolist()
        ],
    }


def _table(values, attempts):
    columns = ["feature", "value", *(a.name for a, _ in attempts)]
    rows = [
        {
            "name": str(place),
            "kind": None,
            "cells": [f"{v:.4g}" for v in (before, *after)],
        }
        for place, (before, *after) in enumerate(
            zip(
                values.ravel().tolist(),
                *(found.ravel().tolist() for _, found in attempts),
                strict=True,
            )
        )
    ]
    return {"columns": columns, "rows": rows}
