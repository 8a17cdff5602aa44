"""The sections of the HTML report around its table and images."""

import json

from keras_wp.reports import wording
from keras_wp.reports.findings import gravest_first
from keras_wp.reports.html import angles, code, figures
from keras_wp.reports.html.markup import element


def _label(key):
    """A key of the evidence or the environment, as people read it."""
    return key if key == "keras_wp" else key.replace("_", " ")


def findings(report):
    """Why the numbers may be too good; None if there is nothing to say."""
    if not report.findings:
        return None
    items = []
    for finding in gravest_first(report.findings):
        evidence = [
            (
                element("dt", _label(key)),
                element("dd", wording.value_text(value)),
            )
            for key, value in finding.evidence.items()
        ]
        details = element(
            "details",
            element("summary", "the figures behind it"),
            element("dl", evidence),
        )
        items.append(
            element(
                "li",
                element(
                    "p",
                    element("span", finding.severity, class_="badge"),
                    finding.message,
                ),
                details if evidence else None,
                class_=f"finding {finding.severity}",
            )
        )
    return element(
        "section",
        element("h2", "Findings"),
        element(
            "p",
            "What was seen, the gravest first.",
            class_="soft",
        ),
        element("ul", items, class_="findings"),
    )


def curves(report):
    """Accuracy against eps, norm by norm; None if there is no curve."""
    cards = []
    for norm in dict.fromkeys(norm for norm, _ in report.budgets):
        drawn = figures.accuracy_curve(report, norm)
        if drawn is None:
            continue
        svg, names = drawn
        minimum = {r.name for r in report.results if r.minimum_norm}
        keys = [
            element(
                "li",
                name,
                class_=f"key c{i % figures.SERIES}"
                + (" dots" if name not in minimum else ""),
            )
            for i, name in enumerate(names)
        ]
        if report.curve(norm):
            keys.append(element("li", "worst case", class_="key worst"))
        cards.append(
            element(
                "figure", svg, element("ul", keys, class_="keys"), class_="card"
            )
        )
    if not cards:
        return None
    return element(
        "section",
        element("h2", "Accuracy against eps"),
        element(
            "p",
            "Solid lines are known at every eps, from the smallest "
            "perturbations found. A dot is a run with that eps; what lies "
            "between dots on a dotted line is not measured. Bands and "
            "whiskers are 95 % intervals.",
            class_="soft",
        ),
        cards,
    )


def geometry(report, name):
    """How far apart the classes lie; None if that is not known."""
    layer = report.geometry
    if layer is None:
        return None
    parts = [element("p", " ".join(layer.summary()))]
    if layer.closest is not None:
        first, second = layer.closest
        parts.append(
            element(
                "p",
                "Closest to each other: "
                f"{name(first)} and {name(second)}, "
                f"{layer.angles[first, second]:.2f}°.",
            )
        )
        drawings = [element("figure", angles.histogram(layer))]
        if layer.num_classes <= angles.MOST_CLASSES:
            names = [name(i) for i in range(layer.num_classes)]
            drawings.append(
                element(
                    "figure",
                    angles.matrix(layer, names),
                    element(
                        "figcaption",
                        "Degrees between each pair of classes: orange where "
                        "they are closer than the ideal, blue where they are "
                        "farther apart.",
                    ),
                )
            )
        parts.append(element("div", drawings, class_="pair"))
    return element(
        "section",
        element("h2", "Geometry of the last layer"),
        element("div", parts, class_="card"),
    )


def reproduce(report):
    """Versions, seed, and the calls that make the report again."""
    env = report.environment
    configs = [
        {**r.attack, "name": r.name, "eps": r.eps} for r in report.results
    ]
    return element(
        "section",
        element("h2", "How to reproduce it"),
        element(
            "div",
            made_with(env),
            element("h3", "Python"),
            _code(code.call(report)),
            element(
                "details",
                element("summary", "every setting of every attack"),
                _code(json.dumps(configs, indent=1, default=str)),
            ),
            class_="card",
        ),
    )


def made_with(environment):
    """What a result depends on, and the command behind it."""
    facts = [
        (
            element("dt", _label(key)),
            element("dd", wording.value_text(value)),
        )
        for key, value in environment.items()
        if key != "command" and value is not None
    ]
    command = environment.get("command")
    return [
        element("dl", facts, class_="facts"),
        [element("h3", "Command"), _code(command)] if command else None,
    ]


def _code(text):
    return element("pre", element("code", text), tabindex=0)


def reading(report):
    """How to read the numbers."""
    lines = [
        "An accuracy under attack is an upper bound: a stronger attack may "
        "find more.",
        "Steps an image are the iterations that an attacked image took, on "
        "average; most of them cost a gradient, those of Square a forward "
        "pass.",
        "Zero gradients is the share of attacked images that met a gradient "
        "of exactly zero. Where it is not small, that attack was blind, and "
        "its accuracy says little.",
        "The median distance is that of the smallest perturbations an attack "
        "found, over all images it attacked; where it failed, the distance "
        "counts as infinite.",
    ]
    if report.environment.get("adaptive"):
        lines.append(
            "The row adaptive is that of attacks chosen to fit the model; "
            "they were tried on the images that withstood all others, so "
            "that it is the worst case."
        )
    return element(
        "footer",
        [element("p", line) for line in lines],
        element("p", "Made by keras_wp. This page holds all it shows."),
    )
