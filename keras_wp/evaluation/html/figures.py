"""Figures as SVG: accuracy against eps, intervals, and angles of the head.

Colors are classes of the page's style sheet, so that they follow its theme.
"""

import math

import numpy as np

from keras_wp.evaluation.html.markup import element
from keras_wp.evaluation.statistics import wilson

_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 44
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
                _label(x, bottom + 19, f"{tick:.6g}"),
            ]
        parts += [
            element(
                "line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"
            ),
            _label((left + right) / 2, self._height - 6, x_label),
            _label(
                14,
                (self.y(self._y[0]) + self.y(self._y[1])) / 2,
                y_label,
                turned=True,
            ),
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


def _label(x, y, text, anchor="middle", turned=False):
    rotate = f"rotate(-90 {x:g} {y:g})" if turned else None
    return element("text", text, x=x, y=y, text_anchor=anchor, transform=rotate)


def ticks(low, high, most=6):
    """At most about `most` round numbers from `low` to `high`."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [(first + i) * step for i in range(count)]


def distance_curve(result):
    """What a minimum-norm attack leaves at every eps.

    Args:
        result: Its `AttackResult`.

    Returns:
        `(eps, right)`: distances in rising order, beginning with 0, and the
        number of images that are still classified rightly at each of them.
    """
    found = np.isfinite(result.distance) & result.attacked
    distances = np.sort(result.distance[found])
    right = int(result.attacked.sum()) - np.arange(len(distances) + 1)
    return np.concatenate([[0.0], distances]), right


def accuracy_curve(report, norm):
    """Accuracy against eps in one norm, with 95 % bands.

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
    axes = Axes((0.0, limit), (0.0, 1.0))
    clean = int(report.clean_correct.sum())
    drawn, texts = [], []
    for place, name in enumerate(names):
        mine = [r for r in results if r.name == name]
        kind = f"c{place % SERIES}"
        if mine[0].minimum_norm:
            eps, right = distance_curve(mine[0])
            drawn.append(_steps(axes, eps, right, report, limit, kind, name))
        else:
            pairs = sorted(
                (r.eps, int(r.robust.sum())) for r in mine if r.eps is not None
            )
            drawn.append(_points(axes, clean, pairs, report, kind, name))
            texts += [f"{name} {k} at {e:.4g}" for e, k in pairs]
    curve = report.curve(norm)
    if curve:
        pairs = [(e, round(a * len(report))) for e, a in curve.items()]
        drawn.append(_points(axes, clean, pairs, report, "worst", "Worst case"))
        texts += [f"worst case {k} at {e:.4g}" for e, k in pairs]
    label = (
        f"Accuracy against the largest perturbation in {norm}. Images right "
        f"of {len(report)}: clean {clean}; " + ", ".join(texts)
    )
    grid = axes.grid(
        f"largest perturbation (eps, {norm})",
        "accuracy",
        lambda tick: f"{100 * tick:.0f} %",
    )
    return axes.svg(label, grid, drawn), names


def _band(axes, xs, counts, total, kind):
    lows, highs = zip(*(wilson(int(k), total) for k in counts), strict=True)
    there = axes.path(xs, highs)
    back = axes.path(xs[::-1], lows[::-1])
    return element("path", d=f"{there}L{back[1:]}Z", class_=f"band {kind}")


def _steps(axes, eps, right, report, limit, kind, name):
    """A curve that falls at each distance."""
    inside = eps <= limit
    eps, right = eps[inside], right[inside]
    if len(eps) > _POINTS:
        chosen = np.linspace(0, len(eps) - 1, _POINTS).round().astype(int)
        eps, right = eps[chosen], right[chosen]
    xs = np.append(np.repeat(eps, 2)[1:], limit)
    counts = np.repeat(right, 2)
    line = element(
        "path",
        element("title", name),
        d=axes.path(xs, counts / len(report)),
        class_=f"line {kind}",
    )
    return [_band(axes, xs, counts, len(report), kind), line]


def _points(axes, clean, pairs, report, kind, name):
    """Points where an attack was run, and its way there from the clean."""
    total = len(report)
    xs = [0.0, *(eps for eps, _ in pairs)]
    counts = [clean, *(right for _, right in pairs)]
    parts = [
        _band(axes, xs, counts, total, kind),
        element(
            "path",
            d=axes.path(xs, [k / total for k in counts]),
            class_=f"line between {kind}",
        ),
    ]
    for x, right in zip(xs[1:], counts[1:], strict=True):
        low, high = wilson(right, total)
        px = axes.x(x)
        parts += [
            element(
                "line",
                x1=px,
                x2=px,
                y1=axes.y(low),
                y2=axes.y(high),
                class_=f"whisker {kind}",
            ),
            element(
                "circle",
                element(
                    "title",
                    f"{name}, eps {x:.4g}: {right / total:.1%} "
                    f"({low:.1%} to {high:.1%})",
                ),
                cx=px,
                cy=axes.y(right / total),
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
