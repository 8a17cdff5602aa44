"""Figures of the last layer's geometry, as SVG."""

import numpy as np

from keras_wp.reports.html.figures import Axes
from keras_wp.reports.html.markup import element

MOST_CLASSES = 20
_CELL = 34
# A class's name is cut where it is longer.
_LETTERS = 12
# The deviation from the ideal at which a color is full, in degrees.
_FULL = 45.0


def histogram(geometry):
    """How many pairs of classes are how far apart, and the ideal."""
    low = min(60.0, float(geometry.pairs.min()) - 5)
    high = max(130.0, float(geometry.pairs.max()) + 5, geometry.ideal + 5)
    counts, edges = np.histogram(geometry.pairs, 40, (low, high))
    axes = Axes((low, high), (0.0, 1.15 * counts.max()), 520, 260)
    bars = [
        element(
            "rect",
            element("title", f"{a:.0f}° to {b:.0f}°: {count} pairs"),
            x=axes.x(a) + 0.5,
            y=axes.y(count),
            width=axes.x(b) - axes.x(a) - 1,
            height=axes.y(0) - axes.y(count),
            class_="column",
        )
        for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    x = axes.x(geometry.ideal)
    ideal = [
        element(
            "line",
            x1=x,
            x2=x,
            y1=axes.y(0),
            y2=axes.y(1.15 * counts.max()),
            class_="ideal",
        ),
        element(
            "text",
            f"ideal {geometry.ideal:.1f}°",
            x=x + 6,
            y=axes.y(1.15 * counts.max()) + 12,
            class_="strong",
        ),
    ]
    label = (
        f"Histogram of the angles between {len(geometry.pairs)} pairs of "
        f"classes: {geometry.pairs.min():.1f}° to {geometry.pairs.max():.1f}°; "
        f"the ideal is {geometry.ideal:.1f}°"
    )
    grid = axes.grid(
        "angle between two classes (degrees)",
        "pairs of classes",
        lambda t: f"{t:.6g}",
    )
    return axes.svg(label, grid, bars, ideal)


def matrix(geometry, names):
    """The angle of each pair of classes, colored by its deviation.

    Args:
        geometry: A `Geometry` of at most `MOST_CLASSES` classes.
        names: The classes' names.
    """
    k = geometry.num_classes
    cells = [_cell(geometry, names, i, j) for i in range(k) for j in range(i)]
    longest = max(map(len, names))
    marks = [
        element(
            "text",
            name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…",
            element("title", name),
            x=i * _CELL + 6,
            y=(i + 0.5) * _CELL + 4,
            class_="strong",
        )
        for i, name in enumerate(names)
    ]
    # The names stand on the diagonal, and the last one sticks out.
    width = (k - 1) * _CELL + max(_CELL, 12 + 8 * min(longest, _LETTERS))
    return element(
        "svg",
        cells,
        marks,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {k * _CELL}",
        role="img",
        aria_label=f"Angles between the {k} classes, pair by pair, in degrees",
        class_="matrix",
    )


def _cell(geometry, names, i, j):
    angle = geometry.angles[i, j]
    deviation = angle - geometry.ideal
    x, y = j * _CELL, i * _CELL
    return [
        element(
            "rect",
            element("title", f"{names[i]} and {names[j]}: {angle:.2f}°"),
            x=x + 1,
            y=y + 1,
            width=_CELL - 2,
            height=_CELL - 2,
            rx=3,
            class_="near" if deviation < 0 else "far",
            fill_opacity=round(0.06 + 0.6 * min(1, abs(deviation) / _FULL), 3),
        ),
        element(
            "text",
            f"{angle:.0f}",
            x=x + _CELL / 2,
            y=y + _CELL / 2 + 4,
            text_anchor="middle",
        ),
    ]
