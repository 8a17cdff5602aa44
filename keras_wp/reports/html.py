"""The HTML pages: the values that their templates show.

A page needs no network and runs no script. The templates escape every value,
and a Content-Security-Policy allows the page's own style sheet and images
within it, and nothing else.
"""

import base64
import hashlib
import json
import math

import jinja2

from keras_wp.reports import (
    brackets,
    charts,
    classes,
    listing,
    pictures,
    signals,
    text,
    wording,
)
from keras_wp.reports.findings import gravest_first
from keras_wp.reports.shard import told
from keras_wp.reports.verdict import doubtful, verdict


def _printed(value):
    """What a template writes for a value, before it is escaped."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and not hasattr(value, "__html__"):
        # What XML forbids is no text, and may end a document.
        return "".join(c for c in value if c.isprintable() or c in "\n\t ")
    return value


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("keras_wp.reports"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_printed,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["key_text"] = wording.key_text
TEMPLATES.filters["value_text"] = wording.value_text


def report_page(report, class_names=None, title=None):
    """A report as an HTML document.

    Args:
        report: A `Report`.
        class_names: The classes' names, or None to number them.
        title: The page's title; defaults to the model's name.
    """
    env = report.environment
    name = wording.namer(class_names)
    settings = [
        {**r.attack, "name": r.name, "eps": r.eps} for r in report.results
    ]
    norms = dict.fromkeys(norm for norm, _ in report.budgets)
    drawn = [_curves(report, norm) for norm in norms]
    return page(
        "report",
        title=title or f"Robustness of {env.get('model', 'model')}",
        facts=_facts(report),
        tiles=list(_tiles(report)),
        verdict=verdict(report),
        findings=gravest_first(report.findings),
        count=len(report),
        told=text.inside(report),
        columns=_columns(report),
        rows=list(_rows(report)),
        brackets=brackets.bars(report),
        curves=list(filter(None, drawn)),
        samples=pictures.gallery(report, name),
        signals=signals.gallery(report, name),
        classes=list(classes.rows(report, name)),
        confusion=_confusion(report, name),
        geometry=_geometry(report.geometry, name),
        environment=env,
        script=listing.call(report),
        settings=json.dumps(settings, indent=1, default=str),
    )


def _curves(report, norm):
    """The chart of a norm, and what was proved in it; None if there is none."""
    chart = charts.accuracy(report, norm)
    if chart is not None:
        chart["proved"] = brackets.curve(report, norm, chart["axes"])
    return chart


def smoothed_page(found, chart):
    """The certificate of a smoothed classifier as an HTML document.

    Args:
        found: A `SmoothedCertificate`.
        chart: Its chart.
    """
    count, abstained = len(found), int(found.abstained.sum())

    def row(name, images, kind=None):
        bar = {"bar": charts.bar(images, count), "tone": "tone"}
        shares = wording.accuracy(images, count)
        return {"name": name, "kind": kind, "cells": [shares, bar]}

    rows = [
        row(wording.within("l2", eps) if eps else "right", right)
        for eps, right in found.counts
    ]
    abstentions = wording.number(abstained, "abstention")
    return page(
        "smoothed",
        title="Certificate of a smoothed classifier",
        facts=f"{wording.number(count, 'image')} · {abstentions}",
        verdict=("none", found.note),
        rows=[*rows, row("abstained", abstained, "worst")],
        chart=chart,
    )


def page(name, **values):
    """The HTML of a template with these values."""
    css, *_ = TEMPLATES.loader.get_source(TEMPLATES, "style.css")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest())
    template = TEMPLATES.get_template(f"{name}.html.j2")
    return template.render(css=css, digest=digest.decode(), **values)


def _facts(report):
    attacks = len({result.name for result in report.results})
    facts = [
        f"{len(report):,} images",
        told(report),
        wording.number(attacks, "attack"),
        f"{report.environment.get('backend', '')} backend",
        report.environment.get("date"),
    ]
    return " · ".join(filter(None, facts))


def _tiles(report):
    def tile(what, right, where):
        shares = wording.accuracy(int(right.sum()), len(report))
        return {"what": what, "where": where, "least": "", **shares}

    least = "at most " if doubtful(report) else ""
    threats = report.threat_model
    yield tile("Clean accuracy", report.clean_correct, "without any attack")
    for norm, eps in threats.items():
        where = f"worst case, {wording.within(norm, eps)}"
        robust = tile("Robust accuracy", report.robust(norm, eps), where)
        yield {**robust, "least": least}
    if len(threats) > 1:
        where = "worst case of these"
        robust = tile("Robust in all norms", report.robust(), where)
        yield {**robust, "least": least}


def _columns(report):
    """The titles of a report's table."""
    names = ["attack", "still right", None]
    names += ["median distance"] if _smallest(report) else []
    return [*names, "steps per image", "zero gradients", "in bytes", "seconds"]


def _smallest(report):
    """Whether any attack looks for the smallest perturbation."""
    return any(result.minimum_norm for result in report.results)


def _rows(report):
    """The rows of a report's table: titles of groups, and accuracies."""
    few = _smallest(report)

    def row(name, right, kind=None, cells=("",) * (4 + few)):
        right, count = int(right.sum()), len(report)
        tone = f"tone-{kind}" if kind else "tone"
        bar = {"bar": charts.bar(right, count), "tone": tone}
        shares = wording.accuracy(right, count)
        return {"name": name, "kind": kind, "cells": [shares, bar, *cells]}

    yield row("clean", report.clean_correct, "clean")
    for norm, eps in report.budgets:
        yield {"group": wording.within(norm, eps)}
        for result in report.results:
            if (result.norm, result.eps) == (norm, eps):
                cells = _cells(result)[not few :]
                yield row(result.name, result.robust, cells=cells)
        yield row("worst case", report.robust(norm, eps or math.inf), "worst")


def _cells(result):
    median, vanished = result.median_distance, result.vanished_gradients
    found = f"{median:.4g}" if math.isfinite(median) else "not found"
    share = f"{100 * vanished:.1f} %"
    return [
        found if result.minimum_norm else "–",
        f"{result.mean_steps:.1f}",
        # An attack without gradients is blind.
        {"alarm": share} if vanished > 0.05 else share,
        wording.survival(result),
        f"{result.seconds:.1f}",
    ]


def _confusion(report, name):
    """The matrix of confusions under attack; None for none, or too many."""
    found = classes.confusion(report)
    if found is None or len(found[0]) > charts.MOST_CLASSES:
        return None
    labels, counts = found
    names = [name(label) for label in labels]
    rows = [
        {"name": one, "kind": None, "cells": [str(n) if n else "" for n in row]}
        for one, row in zip(names, counts.tolist(), strict=True)
    ]
    return {"columns": ["", *names], "rows": rows}


def _geometry(layer, name):
    """The geometry of the last layer; None if that is not known."""
    if layer is None:
        return None
    summary = " ".join(layer.summary())
    if layer.closest is None:
        return {"summary": summary, "closest": None}
    first, second = layer.closest
    names = [name(label) for label in range(layer.num_classes)]
    few = layer.num_classes <= charts.MOST_CLASSES
    return {
        "summary": summary,
        "closest": f"{names[first]} and {names[second]}, "
        f"{layer.angles[first, second]:.2f}°",
        "histogram": charts.histogram(layer),
        "matrix": charts.matrix(layer, names) if few else None,
    }
