"""The table of the HTML report."""

import math

from keras_wp.reports import wording
from keras_wp.reports.html import figures
from keras_wp.reports.html.markup import element


def table(report):
    """The section with every accuracy and its interval."""
    header = ["attack", "still right", "", "median distance"]
    header += ["steps an image", "zero gradients", "seconds"]
    count = len(report)
    clean = int(report.clean_correct.sum())
    body = [_row("clean", clean, count, "clean")]
    for norm, eps in report.budgets:
        body.append(
            element(
                "tr",
                element(
                    "th",
                    wording.within(norm, eps),
                    colspan=len(header),
                    scope="rowgroup",
                ),
                class_="group",
            )
        )
        for result in report.results:
            if (result.norm, result.eps) == (norm, eps):
                right = int(result.robust.sum())
                body.append(_row(result.name, right, count, None, result))
        right = int(report.robust(norm, eps or math.inf).sum())
        body.append(_row("worst case", right, count, "worst"))
    cells = [
        element("th", text, scope="col", class_="chart" if i == 2 else None)
        for i, text in enumerate(header)
    ]
    return element(
        "section",
        element("h2", "Accuracy"),
        element(
            "p",
            f"The share of all {count:,} images that are classified rightly, "
            "with its 95 % (Wilson) interval. An image withstands the worst "
            "case only if every attack fails on it.",
            class_="soft",
        ),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", cells)),
                element("tbody", body),
            ),
            class_="card scroll",
            tabindex=0,
            role="region",
            aria_label="Table of accuracies",
        ),
    )


def _row(name, right, count, kind, result=None):
    cells = ["", "", "", ""]
    alarm = False
    if result is not None:
        median = result.median_distance
        cells = [
            _distance(median) if result.minimum_norm else "–",
            f"{result.mean_steps:.1f}",
            f"{100 * result.vanished_gradients:.1f} %",
            f"{result.seconds:.1f}",
        ]
        alarm = result.vanished_gradients > 0.05
    accuracy = element(
        "td",
        f"{100 * right / count:.1f} %",
        element("span", wording.interval(right, count), class_="range-text"),
    )
    chart = element(
        "td",
        figures.bar(right, count, f"tone-{kind}" if kind else "tone"),
        class_="chart",
    )
    rest = [
        element("td", text, class_="alarm" if alarm and i == 2 else None)
        for i, text in enumerate(cells)
    ]
    return element(
        "tr",
        element("th", name, scope="row"),
        accuracy,
        chart,
        rest,
        class_=kind,
    )


def _distance(value):
    return f"{value:.4g}" if math.isfinite(value) else "not found"
