"""The HTML pages of models compared: two of them, or many."""

import itertools
import math

from keras_wp.reports import charts, wording
from keras_wp.reports.findings import gravest_first
from keras_wp.reports.html import page


def comparison_page(comparison):
    """A comparison as an HTML document.

    Args:
        comparison: A `Comparison`.
    """
    names, pairs = comparison.names, comparison.pairs
    return _page(
        "comparison",
        comparison,
        title=" and ".join(names),
        facts=f"{pairs[0].count:,} images, each classified by both models",
        names=names,
        rows=list(_paired_rows(pairs)),
    )


def leaderboard_page(board):
    """A leaderboard as an HTML document.

    Args:
        board: A `Leaderboard`.
    """
    count = board.standings()[0].count
    return _page(
        "leaderboard",
        board,
        title=f"{len(board.names)} models, compared with {board.names[0]}",
        facts=f"{count:,} images, each classified by all models",
        rows=list(_standing_rows(board)),
        tests=wording.number(len(board.comparisons), "test"),
    )


def _page(kind, compared, **values):
    return page(
        kind,
        verdict=("none", compared.headline),
        findings=gravest_first(compared.findings),
        # There are none if it is not known what the reports depend on.
        sides=list(zip(compared.names, compared.environments, strict=False)),
        **values,
    )


def _paired_rows(pairs):
    """The rows of a comparison's table: titles of groups, and conditions."""
    reach = _reach(pairs)
    threats = itertools.groupby(pairs, lambda pair: (pair.norm, pair.eps))
    for (norm, eps), group in threats:
        if norm is not None:
            yield {"group": wording.within(norm, eps)}
        for pair in group:
            kind = "worst" if pair.condition == "worst case" else None
            cells = _paired_cells(pair, reach)
            yield {"name": pair.condition, "kind": kind, "cells": cells}


def _paired_cells(pair, reach):
    (low, high), difference = pair.interval, pair.difference
    interval = f"{wording.points(low)} to {wording.points(high)}"
    return [
        wording.accuracy(pair.both + pair.first, pair.count),
        wording.accuracy(pair.both + pair.second, pair.count),
        str(pair.first),
        str(pair.second),
        {"share": wording.points(difference), "interval": interval},
        {"deviation": charts.deviation(difference, (low, high), reach)},
        f"{pair.p_value:.2g}",
    ]


def _reach(pairs):
    """What the ends of a chart of differences stand for."""
    reach = max(abs(bound) for pair in pairs for bound in pair.interval)
    return math.ceil(10 * reach) / 10 or 0.1


def _standing_rows(board):
    """The rows of a leaderboard: each condition, the best model first.

    The worst case within the largest budget comes before all.
    """
    *others, last = board.conditions
    tables = {c: board.standings(c) for c in (last, *others)}
    pairs = [s.pair for found in tables.values() for s in found if s.pair]
    reach = _reach(pairs)
    for (condition, norm, eps), found in tables.items():
        where = "" if norm is None else f", {wording.within(norm, eps)}"
        yield {"group": condition + where}
        for standing in found:
            yield {
                "name": standing.title,
                "kind": None,
                "cells": list(_standing_cells(standing, reach)),
            }


def _standing_cells(standing, reach):
    right, count, pair = standing.right, standing.count, standing.pair
    yield wording.accuracy(right, count)
    yield {"bar": charts.bar(right, count), "tone": "tone"}
    if pair is None:
        yield from ("", "", "–", "", "", "")
        return
    yield str(pair.first)
    yield str(pair.second)
    difference, chart, p_value = _paired_cells(pair, reach)[4:]
    yield from (difference, chart, p_value, f"{standing.corrected:.2g}")
