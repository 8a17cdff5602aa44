"""A report as one HTML page."""

from keras_wp.reports import wording
from keras_wp.reports.html import sections
from keras_wp.reports.html.document import document
from keras_wp.reports.html.gallery import gallery
from keras_wp.reports.html.markup import element
from keras_wp.reports.html.table import table


def page(report, class_names=None, title=None):
    """The report as an HTML document.

    Args:
        report: A `Report`.
        class_names: The classes' names, or None to number them.
        title: The page's title; defaults to the model's name.
    """
    model = report.environment.get("model", "model")
    title = title or f"Robustness of {model}"
    name = wording.namer(class_names)
    return document(
        title,
        _header(report, title),
        sections.findings(report),
        table(report),
        sections.curves(report),
        gallery(report, name),
        sections.geometry(report, name),
        sections.reproduce(report),
        sections.reading(report),
    )


def _header(report, title):
    env, count = report.environment, len(report)
    attacks = len(dict.fromkeys(r.name for r in report.results))
    facts = [
        f"{count:,} images",
        f"{attacks} attack" + "s" * (attacks != 1),
        f"{env.get('backend', '')} backend",
        env.get("date"),
    ]
    clean = int(report.clean_correct.sum())
    tiles = [_tile("Clean accuracy", clean, count, "without any attack")]
    threats = report.threat_model
    for norm, eps in threats.items():
        right = int(report.robust(norm, eps).sum())
        where = f"worst case, {wording.within(norm, eps)}"
        tiles.append(_tile("Robust accuracy", right, count, where))
    if len(threats) > 1:
        right = int(report.robust().sum())
        tiles.append(
            _tile("Robust in all norms", right, count, "worst case of these")
        )
    return element(
        "header",
        element("h1", title),
        element("p", " · ".join(filter(None, facts)), class_="soft"),
        element("div", tiles, class_="tiles"),
        _verdict(report),
    )


def _tile(what, successes, count, where):
    return element(
        "div",
        element("span", what, class_="what"),
        element("b", f"{100 * successes / count:.1f} %"),
        element("span", f"95 % interval {wording.interval(successes, count)}"),
        element("span", where),
        class_="tile",
    )


def _verdict(report):
    severities = [f.severity for f in report.findings]
    high, warning = severities.count("high"), severities.count("warning")
    if high:
        tone = "high"
        text = (
            f"Do not rely on the robust accuracy: {_count(high, 'finding')} "
            "of high severity."
        )
    elif warning:
        tone = "warning"
        text = (
            "Read the robust accuracy with care: "
            f"{_count(warning, 'warning')} below."
        )
    elif report.environment.get("audit") or severities:
        tone, text = "good", "The audit found no sign that the attacks failed."
    else:
        tone = "none"
        text = (
            "No audit was run: whether the attacks worked is not known. "
            "evaluate(..., audit=True) tells."
        )
    return element("p", text, class_=f"verdict {tone}")


def _count(number, what):
    return f"{number} {what}" + "s" * (number != 1)
