"""Reports: numbers, tables, files."""

import json
import math

import numpy as np
import pytest

from keras_wp import AttackResult, Report
from keras_wp.reports.statistics import wilson

pytestmark = pytest.mark.once


CLEAN = np.array([True, True, True, True, False])


def result(name, robust, eps=0.1, norm="linf", distance=None, **values):
    robust = np.array(robust, bool)
    if distance is None:
        distance = np.where(CLEAN & ~robust, eps, np.inf)
    return AttackResult(
        name=name,
        norm=norm,
        eps=eps,
        attack={"attack": name},
        robust=robust,
        distance=np.asarray(distance, float),
        **{
            "attacked": CLEAN,
            "minimum_norm": False,
            "steps": np.array([1, 2, 3, 4, 0]),
            "zero_gradients": np.array([0, 0, 7, 0, 0]),
            "bad_gradients": np.zeros(5, int),
            "seconds": 1.5,
            **values,
        },
    )


ENVIRONMENT = {"model": "net", "keras": "3", "backend": "jax", "seed": 4}


@pytest.fixture
def report():
    return Report(
        clean_correct=CLEAN,
        results=(
            result("A", [1, 1, 1, 0, 0], eps=0.1),
            result("A", [1, 1, 0, 1, 0], eps=0.2),
            result("B", [0, 1, 1, 1, 0], eps=0.1),
            result(
                "C",
                [1, 1, 1, 1, 0],
                eps=2.0,
                norm="l2",
                minimum_norm=True,
                distance=[2.5, 3.0, 4.0, math.inf, math.inf],
            ),
        ),
        environment=ENVIRONMENT,
    )


def test_worst_case_combines_attacks_and_smaller_budgets(report):
    assert report.clean_accuracy == 0.8
    assert report.robust("linf", 0.1).tolist() == [0, 1, 1, 0, 0]
    # What broke image 3 within 0.1 breaks it within 0.2 as well.
    assert report.robust("linf", 0.2).tolist() == [0, 1, 0, 0, 0]
    assert report.robust_accuracy == 0.2
    assert report.curve("linf") == {0.1: 0.4, 0.2: 0.2}
    assert report.curve("l2") == {2.0: 0.8}


def test_worst_case_counts_what_larger_budgets_found_nearby():
    near = [0.05, 0.15, np.inf, np.inf, np.inf]
    report = Report(
        clean_correct=CLEAN,
        results=(
            result("A", [1, 1, 0, 1, 0], eps=0.1),
            result("B", [0, 0, 1, 1, 0], eps=0.2, distance=near),
            result("C", [1, 1, 1, 0, 0], eps=None, distance=[1, 1, 1, 0.1, 1]),
        ),
        environment=ENVIRONMENT,
    )
    assert report.robust("linf", 0.1).tolist() == [0, 1, 0, 0, 0]
    assert report.curve() == {0.1: 0.2, 0.2: 0.0}


def test_worst_case_counts_what_was_found_beyond_an_attacks_own_budget():
    far = [0.05, 0.2, 0.4, np.inf, np.inf]
    report = Report(
        clean_correct=CLEAN,
        results=(
            result("PGD", [1, 1, 1, 1, 0], eps=0.3),
            result("DeepFool", [0, 1, 1, 1, 0], eps=0.1, distance=far),
        ),
        environment=ENVIRONMENT,
    )
    assert report.robust("linf", 0.3).tolist() == [0, 0, 1, 1, 0]
    assert report.robust("linf", np.inf).tolist() == [0, 0, 0, 1, 0]


def test_results_are_found_by_name_and_eps(report):
    assert report["A"].eps == 0.2
    assert report["A", 0.1].robust_accuracy == 0.6
    assert report["C"].median_distance == 3.5
    with pytest.raises(KeyError) as error:
        report["D"]
    assert error.value.args[0] == (
        "No result 'D'. There are: A (eps 0.1), A (eps 0.2), B (eps 0.1), "
        "C (eps 2)"
    )


def test_curve_needs_a_norm_if_there_are_several(report):
    with pytest.raises(ValueError) as error:
        report.curve()
    assert str(error.value) == (
        "Argument `norm` must be given, as the attacks use several: "
        "['l2', 'linf']. Received: norm=None"
    )


def test_table_at_a_terminal(report):
    lines = str(report).splitlines()
    assert lines[0] == (
        "5 images; accuracy in % with its 95 % interval; net, keras 3 on "
        "jax, seed 4"
    )
    assert lines[2].split() == [
        *["attack", "l2", "2", "linf", "0.1", "linf", "0.2", "median"],
        *["distance", "steps/image", "zero", "grad", "seconds"],
    ]
    rows = {line.split()[0]: line.split()[1:] for line in lines[4:-2]}
    assert rows["clean"] == ["80.0", "(37.6-96.4)"] * 3
    assert rows["A"] == [
        *["60.0", "(23.1-88.2)", "60.0", "(23.1-88.2)"],
        *["2.5", "25.0%", "3.0"],
    ]
    assert rows["C"][-4:] == ["3.5", "2.5", "25.0%", "1.5"]
    assert len(set(map(len, lines[3:5]))) <= 2
    assert lines[-3].startswith("worst case")
    assert lines[-1] == (
        "Robust accuracy: at most 80.0 % within ℓ2 ≤ 2, 20.0 % within ℓ∞ ≤ "
        "0.2. No audit was run (audit=False), so whether the attacks worked is "
        "not known."
    )


def test_markdown_has_the_same_rows(report):
    lines = report.to_markdown().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 5
    assert len({line.count("|") for line in table}) == 1
    assert table[-1] == (
        "| worst case | 80.0 (37.6-96.4) | 40.0 (11.8-76.9) | "
        "20.0 (3.6-62.4) |  |  |  |  |"
    )


def test_json_holds_every_image(report, tmp_path):
    path = tmp_path / "report.json"
    text = report.to_json(path)
    assert path.read_text() == text + "\n"
    loaded = json.loads(text)
    assert loaded["robust_accuracy"] == 0.2
    assert loaded["environment"] == ENVIRONMENT
    assert loaded["clean_correct"] == [1, 1, 1, 1, 0]
    last = loaded["results"][3]
    assert last["distance"] == [2.5, 3.0, 4.0, None, None]
    assert last["confidence_interval"] == pytest.approx([0.3755, 0.9638], 1e-3)


def test_no_attacked_image_has_no_median():
    none = np.zeros(5, bool)
    nothing = result("A", none, attacked=none)
    assert math.isnan(nothing.median_distance)
    assert nothing.vanished_gradients == 0.0


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion"
    # (Statistics in Medicine 17, 1998), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_matches_published_values(successes, count, low, high):
    interval = wilson(successes, count)
    assert interval == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(7, 7)[1] == 1.0
