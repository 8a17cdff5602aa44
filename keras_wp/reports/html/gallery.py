"""Images, what attacks made of them, and the differences, magnified."""

import numpy as np

from keras_wp.reports import wording
from keras_wp.reports.html import png
from keras_wp.reports.html.markup import element


def gallery(report, name):
    """The section with the report's samples; None if there are none.

    Args:
        report: A `Report`.
        name: A function from a label to the class's name.
    """
    bounds = next((r.attack.get("bounds") for r in report.results), None)
    low, high = bounds or (0.0, 1.0)
    rows = [
        _row(sample, name, float(low), float(high)) for sample in report.samples
    ]
    rows = [row for row in rows if row is not None]
    if not rows:
        return None
    return element(
        "section",
        element("h2", "Images"),
        element(
            "p",
            "The first image of each class that is classified rightly, ten at "
            "most: not chosen by how well attacks did. Beside it, what each "
            "attack with its largest eps made of it, and the difference, "
            "magnified around gray.",
            class_="soft",
        ),
        rows,
    )


def _row(sample, name, low, high):
    clean = png.drawable(sample.image)
    if clean is None:
        return None
    label = name(sample.label)
    figures = [
        element(
            "figure",
            _image((clean - low) / (high - low), f"The image, of {label}"),
            element(
                "figcaption", element("b", label), f" (no. {sample.index})"
            ),
            class_="original",
        )
    ]
    for attempt in sample.attempts:
        found = png.drawable(attempt.image)
        predicted = name(attempt.predicted)
        delta = (found - clean) / (high - low)
        largest = float(np.abs(delta).max())
        gain = 0.5 / largest if largest > 0 else 1.0
        distance = wording.eps_text(attempt.distance)
        figures.append(
            element(
                "figure",
                element(
                    "div",
                    _image(
                        (found - low) / (high - low),
                        f"The image after {attempt.name}, taken for "
                        f"{predicted}",
                    ),
                    _image(
                        0.5 + gain * delta,
                        "What the attack changed, magnified "
                        f"{_times(gain)} times",
                    ),
                    class_="images",
                ),
                element(
                    "figcaption",
                    element("b", attempt.name),
                    ": taken for ",
                    element("b", predicted),
                    f"; {wording.norm_text(attempt.norm)} "
                    f"{distance}; change × {_times(gain)}",
                ),
                class_="attempt",
            )
        )
    if sample.resisted:
        figures.append(
            element(
                "p", "Withstands: " + ", ".join(sample.resisted), class_="note"
            )
        )
    return element("div", figures, class_="card sample")


def _times(gain):
    return f"{gain:.0f}" if gain >= 3 else f"{gain:.1f}"


def _image(values, text):
    pixels = png.to_bytes(values)
    height, width = pixels.shape[:2]
    return element(
        "img", src=png.data_uri(pixels), alt=text, width=width, height=height
    )
