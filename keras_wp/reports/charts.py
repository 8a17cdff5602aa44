"""The charts of the pages: where everything lies, and what it says.

`templates/charts.svg.j2` draws them. Colors are classes of the style sheet, so
that they follow its theme.
"""

import collections.abc
import dataclasses
import math

import numpy as np

from keras_wp.reports import wording
from keras_wp.reports.statistics import wilson

# Beyond this many points, a curve looks the same with fewer.
_POINTS = 200
# How many attacks have a color of their own.
SERIES = 7
# With more classes, the matrix of their angles is too large to read.
MOST_CLASSES = 20
# The side of a square of that matrix.
_SIDE = 34
# A class's name is cut where it is longer.
_LETTERS = 12
# The deviation from the ideal at which a color is full, in degrees.
_FULL = 45.0


@dataclasses.dataclass(frozen=True)
class Axes:
    """The frame of a plot, which maps numbers to places.

    Attributes:
        x_range: The smallest and the largest number from left to right.
        y_range: The same from bottom to top.
        x_label: What the x-axis shows.
        y_label: What the y-axis shows.
        y_text: A function from a number on the y-axis to its text.
        width: Width of the drawing.
        height: Its height.
    """

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    _: dataclasses.KW_ONLY
    y_text: collections.abc.Callable = "{:.6g}".format
    width: int = 640
    height: int = 340

    left, top = 66, 36

    @property
    def right(self):
        """The right end of the x-axis."""
        return self.width - 16

    @property
    def bottom(self):
        """The lower end of the y-axis."""
        return self.height - 52

    @property
    def ticks(self):
        """Round numbers on the x-axis, and on the y-axis."""
        return ticks(*self.x_range), ticks(*self.y_range)

    def x(self, value):
        """The place of a number, counted from the left."""
        low, high = self.x_range
        share = (value - low) / (high - low)
        return round(self.left + share * (self.right - self.left), 2)

    def y(self, value):
        """The place of a number, counted from the top."""
        low, high = self.y_range
        share = (value - low) / (high - low)
        return round(self.bottom - share * (self.bottom - self.top), 2)

    def path(self, xs, ys):
        """A line through points, as the data of a `path`."""
        points = zip(map(self.x, xs), map(self.y, ys), strict=True)
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def ticks(low, high, most=6):
    """At most about `most` round numbers from `low` to `high`."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [(first + i) * step for i in range(count)]


def distance_curve(attacked, distances):
    """How many images are left at every eps.

    Args:
        attacked: `(n,)` bool, the images that are classified correctly.
        distances: `(n,)`, the smallest perturbation found for each of them,
            infinite if there is none.

    Returns:
        `(eps, right)`: distances in rising order, beginning with 0, and the
        number of images that are still classified correctly at each of them.
    """
    found = np.sort(distances[np.isfinite(distances) & attacked])
    right = int(attacked.sum()) - np.arange(len(found) + 1)
    return np.concatenate([[0.0], found]), right


def accuracy(report, norm):
    """Accuracy against eps in one norm, with 95 % intervals.

    Args:
        report: A `Report`.
        norm: One of its norms.

    Returns:
        The chart, with the curve of each attack and that of the worst case;
        None if there is nothing to draw.
    """
    results = [r for r in report.results if r.norm == norm]
    limit = _largest(results)
    if limit is None:
        return None
    clean, right = report.clean_correct, int(report.clean_correct.sum())
    top = wilson(right, len(clean))[1]
    axes = Axes(
        (0.0, limit),
        (0.0, min(1.0, math.ceil(5 * top) / 5)),
        f"largest perturbation, eps ({wording.norm_text(norm)})",
        "images classified correctly",
        y_text=lambda share: f"{100 * share:.0f} %",
    )
    curves, told = [], []
    for place, (name, distances, runs) in enumerate(_attacks(results)):
        told += [f"{name} {count} at {eps:.4g}" for eps, count in runs]
        curve = _curve(axes, clean, name, distances, runs)
        curves.append({**curve, "kind": f"c{place % SERIES}"})
    shares = report.curve(norm).items()
    runs = [(eps, round(share * len(clean))) for eps, share in shares]
    told += [f"worst case {count} at {eps:.4g}" for eps, count in runs]
    # Not those of runs with an eps, which lie at it: the line would fall there.
    known = [r.distance for r in results if r.minimum_norm]
    nearest = np.min(known, axis=0) if known else None
    worst = _curve(axes, clean, "Worst case", nearest, runs)
    return {
        "axes": axes,
        "label": f"Accuracy against the largest perturbation in {norm}. Images "
        f"right of {len(clean)}: clean {right}; {', '.join(told)}",
        "curves": curves,
        "worst": {**worst, "kind": "worst"},
    }


def _largest(results):
    """The eps at the right end; None if there is nothing to draw."""
    budgets = [r.eps for r in results if r.eps is not None]
    if budgets:
        return 1.12 * max(budgets)
    found = np.concatenate([r.distance for r in results])
    found = found[np.isfinite(found)]
    if not len(found) or not found.max() > 0:
        return None
    return float(np.quantile(found, 0.98)) or float(found.max())


def _attacks(results):
    """Each attack with what is known: every distance, or runs with an eps."""
    for name in dict.fromkeys(result.name for result in results):
        mine = [r for r in results if r.name == name]
        if mine[0].minimum_norm:
            yield name, mine[0].distance, []
        else:
            runs = [r for r in mine if r.eps is not None]
            yield name, None, sorted((r.eps, int(r.robust.sum())) for r in runs)


def _curve(axes, clean, name, distances, runs):
    """A curve with its band if distances are known, and the runs on it."""
    total, points = len(clean), []
    for eps, right in runs:
        low, high = wilson(right, total)
        share = right / total
        text = f"{name}, eps {eps:.4g}: {share:.1%} ({low:.1%} to {high:.1%})"
        points.append((text, axes.x(eps), *map(axes.y, (share, low, high))))
    if distances is not None:
        line, band = _steps(axes, clean, distances)
    else:
        # The way from the clean accuracy through the runs.
        counts = [int(clean.sum()), *(right for _, right in runs)]
        shares = [right / total for right in counts]
        line, band = axes.path([0.0, *(eps for eps, _ in runs)], shares), None
    return {"name": name, "line": line, "band": band, "points": points}


def _steps(axes, clean, distances):
    """A line that falls at each distance, and the band about it."""
    limit, total = axes.x_range[1], len(clean)
    eps, right = distance_curve(clean, distances)
    inside = eps <= limit
    eps, right = eps[inside], right[inside]
    if len(eps) > _POINTS:
        chosen = np.linspace(0, len(eps) - 1, _POINTS).round().astype(int)
        # The lowest count up to the next point: better too low than too high.
        last = np.append(chosen[1:] - 1, chosen[-1])
        eps, right = eps[chosen], right[last]
    xs = np.append(np.repeat(eps, 2)[1:], limit)
    counts = np.repeat(right, 2)
    bounds = [wilson(int(k), total) for k in counts]
    lows, highs = zip(*bounds, strict=True)
    there, back = axes.path(xs, highs), axes.path(xs[::-1], lows[::-1])
    return axes.path(xs, counts / total), f"{there}L{back[1:]}Z"


def bar(successes, count):
    """A proportion and its interval, in percent."""
    low, high = wilson(successes, count)
    share = 100 * successes / count
    return {"share": share, "low": 100 * low, "high": 100 * high}


def deviation(value, interval, reach):
    """A difference and its interval: from 0 to 100, with zero at 50.

    Args:
        value: The difference.
        interval: The lower and the upper end of its interval.
        reach: What the chart's ends stand for.
    """
    share, low, high = (50 + 50 * x / reach for x in (value, *interval))
    return {"share": share, "low": low, "high": high}


def histogram(geometry):
    """How many pairs of classes are how far apart, and the ideal.

    Args:
        geometry: A `Geometry` without a NaN.
    """
    pairs, ideal = geometry.pairs, geometry.ideal
    low = min(60.0, float(pairs.min()) - 5)
    high = max(130.0, float(pairs.max()) + 5, ideal + 5)
    counts, edges = np.histogram(pairs, 40, (low, high))
    return {
        "axes": Axes(
            (low, high),
            (0.0, 1.15 * counts.max()),
            "angle between two classes (degrees)",
            "pairs of classes",
            width=520,
            height=260,
        ),
        "label": f"Histogram of the angles between {len(pairs)} pairs of "
        f"classes: {pairs.min():.1f}° to {pairs.max():.1f}°; the ideal is "
        f"{ideal:.1f}°",
        "bars": list(zip(counts, edges[:-1], edges[1:], strict=True)),
        "ideal": ideal,
    }


def matrix(geometry, names):
    """The angle of each pair of classes, colored by its deviation.

    Args:
        geometry: A `Geometry` of at most `MOST_CLASSES` classes.
        names: The classes' names.
    """
    k, longest = geometry.num_classes, max(map(len, names))
    # The names stand on the diagonal, and the last one sticks out.
    last = max(_SIDE, 12 + 8 * min(longest, _LETTERS))
    cells = []
    for i in range(k):
        for j in range(i):
            deviation = geometry.angles[i, j] - geometry.ideal
            strength = min(1, abs(deviation) / _FULL)
            kind = "near" if deviation < 0 else "far"
            opacity = round(0.06 + 0.6 * strength, 3)
            cells.append((i, j, geometry.angles[i, j], kind, opacity))
    return {
        "cells": cells,
        "names": names,
        "letters": _LETTERS,
        "side": _SIDE,
        "width": (k - 1) * _SIDE + last,
        "height": k * _SIDE,
    }
