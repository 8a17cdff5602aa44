"""A comparison of two models as one HTML page."""

import math

from keras_wp.reports import wording
from keras_wp.reports.html import figures, sections
from keras_wp.reports.html.document import document
from keras_wp.reports.html.markup import element


def page(comparison):
    """The comparison as an HTML document.

    Args:
        comparison: A `Comparison`.
    """
    first, second = comparison.names
    return document(
        f"{first} and {second}",
        element(
            "header",
            element("h1", f"{first} and {second}"),
            element(
                "p",
                f"{comparison.pairs[0].count:,} images, each classified by "
                "both models",
                class_="soft",
            ),
            element("p", _summary(comparison), class_="verdict none"),
        ),
        _table(comparison),
        sections.findings(comparison),
        _made_with(comparison),
        element(
            "footer",
            element(
                "p",
                "Intervals of accuracies are Wilson's, those of differences "
                "Newcombe's for paired outcomes (method 10), all at 95 %. The "
                "p-value is that of McNemar's exact test: how likely a "
                "division as uneven would be among the images on which just "
                "one model is right, if both were right equally often. Each "
                "row is tested by itself: of twenty rows without a true "
                "difference, one is expected below 0.05.",
            ),
            element(
                "p",
                "The worst case is that over the attacks in each model's own "
                "report.",
            ),
        ),
    )


def _made_with(comparison):
    """What both reports depend on; None if that is not known."""
    if not comparison.environments:
        return None
    sides = zip(comparison.names, comparison.environments, strict=True)
    return element(
        "section",
        element("h2", "How to reproduce it"),
        element(
            "div",
            [
                (element("h3", name), sections.made_with(environment))
                for name, environment in sides
            ],
            class_="card",
        ),
    )


def _summary(comparison):
    """What the worst case within the largest budget says."""
    pair = comparison["worst case"]
    low, high = pair.interval
    where = f"in the worst case, {wording.within(pair.norm, pair.eps)}"
    if low <= 0 <= high:
        who = "No difference is shown"
    else:
        who = f"{'B' if pair.difference > 0 else 'A'} is right more often"
    return (
        f"{who} {where}: B less A is {_points(pair.difference)} points, with "
        f"the interval from {_points(low)} to {_points(high)}."
    )


def _points(share):
    return f"{100 * share:+.1f}".replace("-", "−")


def _table(comparison):
    first, second = comparison.names
    header = ["", first, second, "only A", "only B", "B − A, points", ""]
    header.append("p-value")
    reach = max(
        abs(bound) for pair in comparison.pairs for bound in pair.interval
    )
    reach = math.ceil(10 * reach) / 10 or 0.1
    body, group = [], None
    for pair in comparison.pairs:
        threat = (pair.norm, pair.eps)
        if threat != group and pair.norm is not None:
            body.append(
                element(
                    "tr",
                    element(
                        "th",
                        wording.within(*threat),
                        colspan=len(header),
                        scope="rowgroup",
                    ),
                    class_="group",
                )
            )
        group = threat
        body.append(_row(pair, reach))
    return element(
        "section",
        element("h2", "Image by image"),
        element(
            "div",
            element(
                "table",
                element(
                    "thead",
                    element(
                        "tr",
                        [
                            element(
                                "th",
                                text,
                                scope="col",
                                class_="chart" if i == 6 else None,
                            )
                            for i, text in enumerate(header)
                        ],
                    ),
                ),
                element("tbody", body),
            ),
            class_="card scroll",
            tabindex=0,
            role="region",
            aria_label="Table of accuracies and differences",
        ),
    )


def _row(pair, reach):
    low, high = pair.interval
    accuracies = [
        element(
            "td",
            f"{100 * right / pair.count:.1f} %",
            element(
                "span", wording.interval(right, pair.count), class_="range-text"
            ),
        )
        for right in (pair.both + pair.first, pair.both + pair.second)
    ]
    return element(
        "tr",
        element("th", pair.condition, scope="row"),
        accuracies,
        element("td", pair.first),
        element("td", pair.second),
        element(
            "td",
            _points(pair.difference),
            element(
                "span",
                f"{_points(low)} to {_points(high)}",
                class_="range-text",
            ),
        ),
        element(
            "td",
            figures.deviation(pair.difference, low, high, reach),
            class_="chart",
        ),
        element("td", f"{pair.p_value:.2g}"),
        class_="worst" if pair.condition == "worst case" else None,
    )
