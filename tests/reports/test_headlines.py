"""What a headline says of what was not asked, or was found."""

import dataclasses

import numpy as np
import pytest
from made_reports import attack_result

from keras_wp import Finding, Report, compare
from keras_wp.reports import classes, verdict

pytestmark = pytest.mark.once


SETTINGS = {"model": "net", "keras": "3", "backend": "jax", "seed": 0}
LABELS = [0, 0, 1, 1, 2]


def made(findings=(), robust=(1, 0, 0, 1, 0), taken=(-1, 2, 0, -1, -1), **env):
    clean = np.array([1, 1, 1, 1, 0], bool)
    result = attack_result("PGD", clean, np.array(robust, bool))
    result = dataclasses.replace(
        result,
        distance=np.where(robust, np.inf, 0.1),
        predicted=np.array(taken),
        in_bytes=np.array([-1, 1, 0, -1, -1]),
    )
    names = tuple(f"{i:08x}00000000-{k}" for i, k in enumerate(LABELS))
    return Report(clean, (result,), {**SETTINGS, **env}, findings, names)


@pytest.mark.parametrize(
    "severity, env, tone, words",
    [
        (None, {}, "none", "at most 40.0 %"),
        (None, {"audit": True}, "none", "at most 40.0 %"),
        (None, {"adaptive": True}, "none", "at most 40.0 %"),
        (None, {"audit": True, "adaptive": True}, "good", "accuracy: 40.0 %"),
        ("info", {"audit": True, "adaptive": True}, "good", "cy: 40.0 %"),
        ("warning", {"audit": True, "adaptive": True}, "warning", "cy: 40.0 %"),
        ("high", {"audit": True, "adaptive": True}, "high", "at most 40.0 %"),
        ("high", {}, "high", "at most 40.0 %"),
    ],
)
def test_a_headline_is_no_better_than_what_was_asked(
    severity, env, tone, words
):
    findings = () if severity is None else (Finding(severity, "Why.", {}),)
    report = made(findings, **env)
    assert verdict.verdict(report)[0] == tone
    assert words in verdict.headline(report)
    assert verdict.headline(report) in str(report)
    page = report.to_html()
    assert ("at most" in page) == ("at most" in words)


def test_a_comparison_says_what_was_not_audited():
    plain, audited = made(), made(adaptive=True, audit=True)
    told = compare(plain, audited).headline
    assert told.startswith("No difference is shown in the worst case")
    assert "Without an audit and adaptive attacks (of A)" in told
    assert "Without" not in compare(audited, audited).headline
    grave = made((Finding("high", "Why.", {}),), adaptive=True, audit=True)
    told = compare(audited, grave).headline
    assert told.endswith(
        "Do not rely on it: findings of high severity about B."
    )
    comparison = compare(plain, audited)
    for shown in (str(comparison), comparison.to_markdown()):
        assert comparison.headline in shown


def test_classes_under_attack_and_what_they_are_taken_for(tmp_path):
    report = made()
    assert list(classes.per_class(report)) == [
        (0, 2, 2, 1, ((2, 1),)),
        (1, 2, 2, 1, ((0, 1),)),
        (2, 1, 0, 0, ()),
    ]
    labels, counts = classes.confusion(report)
    assert labels == [0, 1, 2]
    np.testing.assert_array_equal(counts, [[1, 0, 1], [1, 1, 0], [0, 0, 0]])
    page = report.to_html(class_names=["cat", "dog", "bird"])
    assert "bird (1)" in page
    assert "every class that is taken for another" in page
    report.to_json(tmp_path / "report.json")
    again = Report.from_json(tmp_path / "report.json")
    np.testing.assert_array_equal(again.confused_with(), report.confused_with())
    assert again.results[0].survives_bytes == 0.5
