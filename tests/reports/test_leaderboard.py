"""Several models on the same images, each beside the first."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from made_reports import ENVIRONMENT, attack_result, identities
from scipy import stats

from keras_wp import Comparison, Report, compare
from keras_wp.reports.findings import Finding
from keras_wp.reports.statistics import holm
from keras_wp.reports.wording import letters

pytestmark = pytest.mark.once
COUNT = 200
CLEAN = np.arange(COUNT) < 180
# How many images each model is right on, the first ones, at either budget.
RIGHT = ((100, 60), (104, 61), (140, 90), (70, 30))


def report(right, **environment):
    return Report(
        clean_correct=CLEAN,
        results=tuple(
            attack_result("PGD20", CLEAN, np.arange(COUNT) < count, eps)
            for count, eps in zip(right, (0.1, 0.2), strict=True)
        ),
        environment={**ENVIRONMENT, **environment},
        identities=identities(COUNT),
    )


@pytest.fixture(scope="module")
def board():
    names = ("plain", "late", "robust", "poor")
    return compare(*map(report, RIGHT), names=names)


def closed_testing(p_values):
    """Holm's method as the closure of Bonferroni's, over all subsets."""
    places = range(len(p_values))
    subsets = [
        set(subset)
        for size in range(1, len(p_values) + 1)
        for subset in itertools.combinations(places, size)
    ]
    return [
        max(
            min(1.0, len(subset) * min(p_values[i] for i in subset))
            for subset in subsets
            if place in subset
        )
        for place in places
    ]


def test_holm_is_the_closure_of_bonferroni(rng):
    for size in range(1, 7):
        p_values = list(rng.uniform(0, 0.5, size) ** 3)
        assert holm(p_values) == pytest.approx(closed_testing(p_values))
    assert holm([0.04, 0.04]) == pytest.approx([0.08, 0.08])
    assert holm([]) == []


def test_the_best_come_first_and_each_is_tested_beside_the_first(board):
    found = board.standings()
    assert [s.letter for s in found] == ["C", "B", "A", "D"]
    assert [s.right for s in found] == [90, 61, 60, 30]
    by_letter = {s.letter: s for s in found}
    assert by_letter["A"].pair is None
    # All that just one of two is right on lie on one side.
    raw = [stats.binomtest(0, n).pvalue for n in (1, 30, 30)]
    corrected = closed_testing(raw)
    for letter, p, holms in zip("BCD", raw, corrected, strict=True):
        assert by_letter[letter].pair.p_value == pytest.approx(p)
        assert by_letter[letter].corrected == pytest.approx(holms)
    smaller = board.standings(("worst case", "linf", 0.1))
    assert [s.right for s in smaller] == [140, 104, 100, 70]
    assert len(board.standings(("clean", None, None))) == 4
    with pytest.raises(KeyError, match="No condition 'PGD20'"):
        board.standings("PGD20")


def test_headline_names_those_that_differ_for_certain(board):
    assert board.headline.startswith(
        "In the worst case, ℓ∞ ≤ 0.2, C is right more often, and D is right "
        "less often than A (5%, 3 tests by Holm's method)."
    )
    assert "(of A and B and C and D)" in board.headline
    same = compare(*[report(RIGHT[0])] * 3)
    assert "no difference from A is shown" in same.headline


def test_comparison_with_one_is_as_if_of_the_two(board):
    assert isinstance(board["robust"], Comparison)
    pair = compare(report(RIGHT[0]), report(RIGHT[2]))
    assert board["robust"].pairs == pair.pairs
    with pytest.raises(KeyError, match="late, robust, poor"):
        board["plain"]


def test_forms_have_a_row_for_each_model(board, tmp_path):
    table = str(board).splitlines()
    assert "4 models, 200 images" in table[0] and "3 tests" in table[0]
    assert [line.split()[0] for line in table[4:8]] == ["C:", "B:", "A:", "D:"]
    assert "45.0 (38.3-51.9)" in table[4] and "+15.0" in table[4]
    assert "| D: poor |" in board.to_markdown()
    page = board.to_html(tmp_path / "page.html")
    assert page.count("C: robust") == 3  # Under each condition.
    assert "corrected by Holm's method for the 3 tests" in page
    loaded = json.loads(board.to_json(tmp_path / "board.json"))
    last = loaded["conditions"][-1]
    assert (last["condition"], last["eps"]) == ("worst case", 0.2)
    assert [m["right"] for m in last["models"]] == [90, 61, 60, 30]
    assert last["models"][0]["only_this"] == 30


def test_findings_say_whose_they_are():
    grave = Finding("high", "Gradients vanish.", {}, "zero_gradients")
    third = dataclasses.replace(report(RIGHT[2]), findings=(grave,))
    more = attack_result("FGSM", CLEAN, CLEAN, 0.2)
    fourth = report(RIGHT[3])
    fourth = dataclasses.replace(fourth, results=(*fourth.results, more))
    board = compare(report(RIGHT[0]), report(RIGHT[1]), third, fourth)
    messages = [finding.message for finding in board.findings]
    assert "C: Gradients vanish." in messages
    assert any("D with FGSM, linf 0.2" in message for message in messages)
    assert "high severity about C." in board.headline


def test_what_cannot_be_compared_is_named():
    reports = [report(right) for right in RIGHT[:3]]
    other = dataclasses.replace(
        reports[2], identities=tuple(f"x{i}" for i in identities(COUNT))
    )
    with pytest.raises(ValueError, match=r"^C beside A: The two reports must"):
        compare(*reports[:2], other)
    halves = [
        dataclasses.replace(r, results=r.results[k : k + 1])
        for k, r in enumerate(reports[:2])
    ]
    with pytest.raises(ValueError, match="Received: none that they have in"):
        compare(reports[2], *halves)
    with pytest.raises(ValueError, match="2 names for 3 reports"):
        compare(*reports, names=["a", "b"])


def test_letters_go_on_after_z():
    assert letters(28)[-3:] == ["Z", "AA", "AB"]
