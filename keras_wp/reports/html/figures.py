"""Figures as SVG: accuracy against eps, intervals, and angles of the head.

Colors are classes of the page's style sheet, so that they follow its theme.
"""

import math

import numpy as np

from keras_wp.reports import wording
from keras_wp.reports.html.markup import element
from keras_wp.reports.statistics import wilson

_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 16, 36, 52
# Beyond this many points, a curve looks the same with fewer.
_POINTS = 200
SERIES = 7


class Axes:
    """The frame of a plot: maps numbers to places, and draws the axes."""

    def __init__(self, x_range, y_range, width=_WIDTH, height=_HEIGHT):
        self._x, self._y = x_range, y_range
        self._width, self._height = width, height

    def x(self, value):
        low, high = self._x
        share = (value - low) / (high - low)
        return round(_LEFT + share * (self._width - _LEFT - _RIGHT), 2)

    def y(self, value):
        low, high = self._y
        share = (value - low) / (high - low)
        return round(
            self._height - _BOTTOM - share * (self._height - _TOP - _BOTTOM), 2
        )

    def path(self, xs, ys):
        """A line through points, as the data of a `path`."""
        points = zip(map(self.x, xs), map(self.y, ys), strict=True)
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)

    def grid(self, x_label, y_label, y_text):
        """Ticks, lines and labels."""
        left, right = self.x(self._x[0]), self.x(self._x[1])
        bottom = self.y(self._y[0])
        parts = []
        for tick in ticks(*self._y):
            y = self.y(tick)
            parts += [
                element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"),
                _label(left - 8, y + 4, y_text(tick), "end"),
            ]
        for tick in ticks(*self._x):
            x = self.x(tick)
            parts += [
                element(
                    "line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="axis"
                ),
                _label(x, bottom + 20, f"{tick:.6g}"),
            ]
        parts += [
            element(
                "line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"
            ),
            _label((left + right) / 2, self._height - 6, x_label),
            _label(left - 8, 18, y_label, "start"),
        ]
        return parts

    def svg(self, label, *children):
        """The drawing, with a text for those who cannot see it."""
        return element(
            "svg",
            *children,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {self._width} {self._height}",
            role="img",
            aria_label=label,
            class_="plot",
        )


def _label(x, y, text, anchor="middle"):
    return element("text", text, x=x, y=y, text_anchor=anchor)


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
        attacked: `(n,)` bool, the images that are classified rightly.
        distances: `(n,)`, the smallest perturbation found for each of them,
            infinite if there is none.

    Returns:
        `(eps, right)`: distances in rising order, beginning with 0, and the
        number of images that are still classified rightly at each of them.
    """
    found = np.sort(distances[np.isfinite(distances) & attacked])
    right = int(attacked.sum()) - np.arange(len(found) + 1)
    return np.concatenate([[0.0], found]), right


def accuracy_curve(report, norm):
    """Accuracy against eps in one norm, with 95 % intervals.

    Args:
        report: A `Report`.
        norm: One of its norms.

    Returns:
        `(svg, names)`: the drawing, and the attacks in the order of their
        colors, the worst case left out. None if there is nothing to draw.
    """
    results = [r for r in report.results if r.norm == norm]
    names = list(dict.fromkeys(r.name for r in results))
    budgets = [r.eps for r in results if r.eps is not None]
    limit = 1.12 * max(budgets, default=0.0)
    if not budgets:
        found = [r.distance[np.isfinite(r.distance)] for r in results]
        found = np.concatenate(found)
        if not len(found) or not found.max() > 0:
            return None
        limit = float(np.quantile(found, 0.98)) or float(found.max())
    total, clean = len(report), report.clean_correct
    top = wilson(int(clean.sum()), total)[1]
    axes = Axes((0.0, limit), (0.0, min(1.0, math.ceil(5 * top) / 5)))
    drawn, texts = [], []
    for place, name in enumerate(names):
        mine = [r for r in results if r.name == name]
        kind = f"c{place % SERIES}"
        if mine[0].minimum_norm:
            curve = distance_curve(clean, mine[0].distance)
            drawn.append(_steps(axes, *curve, total, limit, kind, name))
        else:
            pairs = sorted(
                (r.eps, int(r.robust.sum())) for r in mine if r.eps is not None
            )
            drawn.append(_way(axes, int(clean.sum()), pairs, total, kind))
            drawn.append(_points(axes, pairs, total, kind, name))
            texts += [f"{name} {k} at {e:.4g}" for e, k in pairs]
    worst = [(e, round(a * total)) for e, a in report.curve(norm).items()]
    if any(r.minimum_norm for r in results):
        nearest = np.min([r.distance for r in results], axis=0)
        curve = distance_curve(clean, nearest)
        drawn.append(_steps(axes, *curve, total, limit, "worst", "Worst case"))
    else:
        drawn.append(_way(axes, int(clean.sum()), worst, total, "worst"))
    drawn.append(_points(axes, worst, total, "worst", "Worst case"))
    texts += [f"worst case {k} at {e:.4g}" for e, k in worst]
    label = (
        f"Accuracy against the largest perturbation in {norm}. Images right "
        f"of {total}: clean {int(clean.sum())}; " + ", ".join(texts)
    )
    grid = axes.grid(
        f"largest perturbation, eps ({wording.norm_text(norm)})",
        "images classified rightly",
        lambda tick: f"{100 * tick:.0f} %",
    )
    return axes.svg(label, grid, drawn), names


def _steps(axes, eps, right, total, limit, kind, name):
    """A curve that falls at each distance, with its band."""
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
    return [
        element("path", d=f"{there}L{back[1:]}Z", class_=f"band {kind}"),
        element(
            "path",
            element("title", name),
            d=axes.path(xs, counts / total),
            class_=f"line {kind}",
        ),
    ]


def _way(axes, clean, pairs, total, kind):
    """The way from the clean accuracy through the runs with an eps."""
    xs = [0.0, *(eps for eps, _ in pairs)]
    shares = [count / total for count in (clean, *(k for _, k in pairs))]
    return element(
        "path", d=axes.path(xs, shares), class_=f"line between {kind}"
    )


def _points(axes, pairs, total, kind, name):
    """Runs with an eps, and their intervals."""
    parts = []
    for eps, right in pairs:
        low, high = wilson(right, total)
        x, share = axes.x(eps), right / total
        text = f"{name}, eps {eps:.4g}: {share:.1%} ({low:.1%} to {high:.1%})"
        parts += [
            element(
                "line",
                x1=x,
                x2=x,
                y1=axes.y(low),
                y2=axes.y(high),
                class_=f"whisker {kind}",
            ),
            element(
                "circle",
                element("title", text),
                cx=x,
                cy=axes.y(share),
                r=4,
                class_=f"dot {kind}",
            ),
        ]
    return parts


def bar(successes, count, kind):
    """A proportion and its interval as a small bar, for a table."""
    low, high = (100 * bound for bound in wilson(successes, count))
    share = 100 * successes / count
    return element(
        "svg",
        element("rect", x=0, y=6, width=100, height=4, rx=2, class_="track"),
        element("rect", x=0, y=6, width=share, height=4, rx=2, class_="fill"),
        element("rect", x=low, y=4, width=high - low, height=8, class_="range"),
        element("rect", x=share - 0.75, y=2, width=1.5, height=12),
        viewBox="0 0 100 16",
        preserveAspectRatio="none",
        aria_hidden="true",
        class_=f"bar {kind}",
    )


def deviation(value, low, high, reach):
    """A difference and its interval about zero, for a table.

    Args:
        value: The difference.
        low: The lower end of its interval.
        high: The upper end.
        reach: What the chart's ends stand for.
    """

    def x(number):
        return 50 + 50 * number / reach

    return element(
        "svg",
        element("rect", x=0, y=7, width=100, height=2, class_="track"),
        element("rect", x=49.6, y=1, width=0.8, height=14, class_="zero"),
        element(
            "rect",
            x=x(low),
            y=5,
            width=x(high) - x(low),
            height=6,
            class_="range",
        ),
        element("rect", x=x(value) - 0.75, y=2, width=1.5, height=12),
        viewBox="0 0 100 16",
        preserveAspectRatio="none",
        aria_hidden="true",
        class_="bar tone",
    )
