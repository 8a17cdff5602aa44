"""Two models on the same images."""

import dataclasses
import json

import numpy as np
import pytest
from made_reports import ENVIRONMENT, attack_result, identities

from keras_wp import Report, compare
from keras_wp.reports.findings import Finding

pytestmark = pytest.mark.once


CLEAN = np.array([1, 1, 1, 1, 1, 0], bool)
FIRST = np.array([1, 1, 0, 0, 0, 0], bool)
SECOND = np.array([1, 0, 1, 1, 1, 0], bool)


def report(robust, eps=0.1, name="PGD20", order=None, clean=CLEAN):
    order = np.arange(6) if order is None else order
    names = np.array(identities(6))
    return Report(
        clean_correct=clean[order],
        results=(attack_result(name, clean[order], robust[order], eps),),
        environment=ENVIRONMENT,
        identities=tuple(names[order]),
    )


def test_images_are_counted_where_just_one_is_right():
    pair = compare(report(FIRST), report(SECOND))["PGD20"]
    counts = (pair.both, pair.first, pair.second, pair.neither)
    assert counts == (1, 1, 3, 1)
    assert pair.accuracies == (2 / 6, 4 / 6)
    assert pair.difference == pytest.approx(2 / 6)
    assert pair.p_value == pytest.approx(2 * 5 / 16)
    low, high = pair.interval
    assert low < 2 / 6 < high


def test_order_of_the_images_is_of_no_matter():
    order = np.array([5, 2, 0, 1, 4, 3])
    plain = compare(report(FIRST), report(SECOND))
    assert compare(report(FIRST), report(SECOND, order=order)) == plain


def test_the_same_model_does_not_differ_from_itself():
    comparison = compare(report(FIRST), report(FIRST))
    for pair in comparison.pairs:
        assert pair.first == pair.second == 0
        assert pair.p_value == 1


def test_conditions_are_those_of_both():
    both = dataclasses.replace(
        report(FIRST),
        results=(
            *report(FIRST).results,
            *report(FIRST, eps=0.2).results,
            *report(SECOND, name="FGSM").results,
        ),
    )
    comparison = compare(both, report(SECOND))
    assert [(p.condition, p.eps) for p in comparison.pairs] == [
        ("clean", None),
        ("PGD20", 0.1),
        ("worst case", 0.1),
    ]
    # The worst case is over all attacks of each report.
    assert comparison["worst case"].accuracies[0] == 1 / 6


def with_any_distance(robust):
    """With an attack without eps besides, which fools every image."""
    near = report(CLEAN & False, eps=None, name="DeepFool")
    given = report(robust)
    return dataclasses.replace(given, results=given.results + near.results)


def test_verdict_is_about_a_budget_where_there_is_one():
    comparison = compare(
        with_any_distance(CLEAN & False), with_any_distance(CLEAN)
    )
    assert comparison["worst case"].eps == 0.1
    assert comparison["DeepFool"].eps is None
    text = comparison.to_html()
    assert "B is right more often in the worst case, ℓ∞ ≤ 0.1" in text


def test_what_is_no_report_is_refused():
    with pytest.raises(ValueError) as error:
        compare(report(FIRST), CLEAN)
    assert str(error.value) == (
        "`compare` takes reports, as `evaluate` returns them. Received: a "
        "ndarray"
    )


def test_reports_without_a_common_budget_are_refused():
    with pytest.raises(ValueError) as error:
        compare(report(FIRST, eps=0.3), report(SECOND, eps=None))
    assert str(error.value) == (
        "The two models must be attacked within the same norm and eps at "
        "least once. Received: linf 0.3 for the first, and linf for the second"
    )


@pytest.mark.parametrize(
    "second, common",
    [
        (dataclasses.replace(report(SECOND), identities=()), 0),
        (
            dataclasses.replace(
                report(SECOND), identities=tuple("abcde") + identities(1)
            ),
            1,
        ),
    ],
)
def test_other_images_are_refused(second, common):
    with pytest.raises(ValueError) as error:
        compare(report(FIRST), second)
    assert str(error.value) == (
        "The two reports must be of the same images. Received: 6 and 6 "
        f"images, of which {common} are known to be the same"
    )


def test_table_has_both_intervals_and_the_difference():
    comparison = compare(report(FIRST), report(SECOND), names=("old", "new"))
    lines = str(comparison).splitlines()
    assert lines[2].split()[:2] == ["old", "new"]
    row = next(line for line in lines if line.startswith("PGD20"))
    assert row.split() == [
        *["PGD20,", "linf", "0.1", "33.3", "(9.7-70.0)", "66.7"],
        *["(30.0-90.3)", "1", "3", "+33.3", "(-24.6", "to", "+70.7)"],
        "0.62",
    ]
    table = [s for s in comparison.to_markdown().splitlines() if "|" in s]
    assert len(table) == 2 + 3
    assert len({line.count("|") for line in table}) == 1


def test_json_holds_the_counts(tmp_path):
    path = tmp_path / "comparison.json"
    comparison = compare(report(FIRST), report(SECOND))
    text = comparison.to_json(path)
    assert path.read_text() == text + "\n"
    loaded = json.loads(text)
    assert loaded["names"] == ["A: net", "B: net"]
    pair = loaded["pairs"][1]
    assert (pair["condition"], pair["first"], pair["second"]) == ("PGD20", 1, 3)
    assert pair["p_value"] == pytest.approx(0.625)


def test_page_says_who_is_right_more_often(tmp_path):
    path = tmp_path / "comparison.html"
    names = ("old", "<script>new</script>")
    comparison = compare(report(FIRST), report(SECOND), names=names)
    text = comparison.to_html(path)
    assert path.read_text(encoding="utf-8") == text
    assert "<script" not in text and "&lt;script&gt;new" in text
    assert "No difference is shown in the worst case, ℓ∞ ≤ 0.1" in text
    assert "+33.3" in text and "−24.6 to +70.7" in text
    better = compare(report(CLEAN & False), report(CLEAN)).to_html()
    assert "B is right more often in the worst case, ℓ∞ ≤ 0.1" in better
    worse = compare(report(CLEAN), report(CLEAN & False)).to_html()
    assert "A is right more often in the worst case, ℓ∞ ≤ 0.1" in worse


def with_findings(robust, *findings):
    return dataclasses.replace(report(robust), findings=findings)


def test_findings_of_both_are_shown():
    grave = Finding("high", "Gradients vanish.", {"share": 0.5})
    slight = Finding("info", "It is a network.", {})
    odd = Finding("warning", "It rounds.", {})
    comparison = compare(
        with_findings(FIRST, slight, odd), with_findings(SECOND, grave)
    )
    shown = ["B: Gradients vanish.", "A: It rounds."]
    assert [f.message for f in comparison.findings] == shown
    found = json.loads(comparison.to_json())["findings"]
    assert [f["message"] for f in found] == shown
    assert str(comparison).splitlines()[-3:] == [
        "Findings:",
        "  high: B: Gradients vanish.",
        "  warning: A: It rounds.",
    ]
    assert "- **high**: B: Gradients vanish." in comparison.to_markdown()
    text = comparison.to_html()
    assert "A: It rounds." in text and "It is a network." not in text
    places = [
        text.index(f"<h2>{heading}</h2>")
        for heading in ("Image by image", "Findings", "How to reproduce it")
    ]
    assert places == sorted(places)
    assert "Findings" not in compare(report(FIRST), report(SECOND)).to_html()


def with_more(robust, *results):
    given = report(robust)
    return dataclasses.replace(given, results=(*given.results, *results))


def test_attacks_of_one_side_alone_are_a_grave_finding():
    more = attack_result("adaptive", CLEAN, CLEAN & False)
    (finding,) = compare(report(FIRST), with_more(SECOND, more)).findings
    assert (finding.severity, finding.check) == ("high", "unequal_attacks")
    assert finding.message == (
        "Not both were attacked alike: only B with adaptive, linf 0.1. The "
        "worst cases are not over the same attacks, so that their difference "
        "may be that of the attacks."
    )
    assert finding.evidence == {"only A": [], "only B": ["adaptive, linf 0.1"]}


def test_only_attacks_that_count_are_looked_for():
    # Beyond the budgets of both they are of no matter; below them they are.
    far = attack_result("FGSM", CLEAN, CLEAN, eps=0.3)
    assert compare(report(FIRST), with_more(SECOND, far)).findings == ()
    near = attack_result("FGSM", CLEAN, CLEAN, eps=0.05)
    (finding,) = compare(with_more(FIRST, near), report(SECOND)).findings
    assert finding.severity == "high"
    assert finding.evidence["only A"] == ["FGSM, linf 0.05"]
    again = attack_result("PGD20", CLEAN, CLEAN, eps=0.05)
    (finding,) = compare(report(FIRST), with_more(SECOND, again)).findings
    assert finding.severity == "warning"
    assert finding.evidence["only B"] == ["PGD20, linf 0.05"]


def test_what_is_written_says_what_was_compared():
    second = dataclasses.replace(
        report(SECOND),
        environment={**ENVIRONMENT, "command": "python -m <keras_wp>"},
    )
    comparison = compare(report(FIRST), second)
    assert json.loads(comparison.to_json())["environments"] == [
        ENVIRONMENT,
        second.environment,
    ]
    assert comparison.to_markdown().splitlines()[-2:] == [
        "- A: net: model net, keras 3, backend jax, seed 4",
        "- B: net: model net, keras 3, backend jax, seed 4; "
        "`python -m <keras_wp>`",
    ]
    assert "python -m &lt;keras_wp&gt;" in comparison.to_html()


def test_attacks_of_one_name_must_be_the_same():
    first, second = report(FIRST), report(SECOND)
    (result,) = second.results
    result = dataclasses.replace(
        result, attack={**result.attack, "steps": 9, "seed": 3}
    )
    second = dataclasses.replace(second, results=(result,))
    with pytest.raises(ValueError) as error:
        compare(first, second)
    assert str(error.value) == (
        "The two models must be attacked in the same way. Received: 'PGD20' "
        "with steps=20 and with steps=9"
    )


def test_unknown_condition_is_named():
    with pytest.raises(KeyError) as error:
        compare(report(FIRST), report(SECOND))["CW"]
    assert error.value.args[0] == (
        "No condition 'CW'. There are: clean, PGD20, worst case"
    )
