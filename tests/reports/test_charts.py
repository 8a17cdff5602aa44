"""The charts of a page: what they show is where it belongs."""

import re

import numpy as np
import pytest
from made_reports import attack_result, full_report, identities
from pages import HOSTILE, Page, drawing

from keras_wp import Report
from keras_wp.reports import charts

pytestmark = pytest.mark.once


@pytest.fixture
def report(rng):
    return full_report(rng)


def test_full_curve_counts_every_distance():
    attacked = np.array([1, 1, 1, 1, 0], bool)
    result = attack_result(
        "A",
        attacked,
        attacked,
        minimum_norm=True,
        distance=[0.3, 0.1, np.inf, 0.2, np.inf],
    )
    eps, right = charts.distance_curve(attacked, result.distance)
    assert eps.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert right.tolist() == [4, 3, 2, 1]


def test_thinned_curve_is_never_too_high(rng):
    count = 1000
    attacked = np.ones(count, bool)
    distance = rng.permutation(np.arange(1, count + 1) / count)
    result = attack_result(
        "A", attacked, attacked, 1.0, minimum_norm=True, distance=distance
    )
    report = Report(attacked, (result,), {}, identities=identities(count))
    svg = drawing(report.to_html(), "in linf")
    (line,) = [
        attributes["d"]
        for attributes in svg.all("path")
        if attributes["class"] == "line c0"
    ]
    x, y = np.array(re.findall(r"[\d.]+", line), float).reshape(-1, 2).T
    axes = charts.Axes((0.0, 1.0), (0.0, 1.0))
    eps = (x - axes.x(0.0)) / (axes.x(1.0) - axes.x(0.0)) * 1.12
    share = (y - axes.y(0.0)) / (axes.y(1.0) - axes.y(0.0))
    # At the right end of each step, before it falls.
    left = [(distance > e - 1e-4).mean() for e in eps]
    assert len(eps) < count
    assert (share <= np.array(left) + 1e-4).all()


def test_points_are_where_their_accuracy_is(rng):
    attacked = np.ones(10, bool)
    robust = np.arange(10) < 4
    report = Report(
        attacked,
        (attack_result("A", attacked, robust, eps=0.2),),
        {},
        identities=identities(10),
    )
    chart = charts.accuracy(report, "linf")
    assert [curve["name"] for curve in chart["curves"]] == ["A"]
    svg = drawing(report.to_html(), "in linf")
    axes = charts.Axes((0.0, 1.12 * 0.2), (0.0, 1.0))
    dots = svg.all("circle")
    assert {(d["cx"], d["cy"]) for d in dots} == {
        (f"{axes.x(0.2):.6g}", f"{axes.y(0.4):.6g}")
    }


def test_keys_tell_what_is_known_at_every_eps(report):
    keys = [
        attributes["class"]
        for attributes in Page(report.to_html()).all("li")
        if attributes["class"].startswith("key")
    ]
    assert keys == [
        *["key c0 dots", "key worst dots"],  # l2: CW.
        *["key c0 dots", "key c1", "key worst"],  # linf: PGD20, DeepFool50.
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.035, [0, 0.01, 0.02, 0.03]),
        (60, 130, [60, 80, 100, 120]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_matrix_shows_each_pair(report):
    svg = drawing(report.to_html(class_names=HOSTILE), "pair by pair")
    assert [t for t in svg.text.split() if t in {"125", "110", "130"}] == [
        "125",
        "110",
        "130",
    ]
    deviations = [a["class"] for a in svg.all("rect")]
    assert deviations == ["far", "near", "far"]


def test_histogram_counts_each_pair(report):
    svg = drawing(report.to_html(), "Histogram")
    assert svg.text.count("1 pairs") == 3
    assert "ideal 120.0°" in svg.text
