"""What CI systems are told: exit codes, JUnit and SARIF files."""

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from commands import EVALUATE, run
from helpers import tiny_cnn
from made_reports import full_report

from keras_wp.cli import junit, sarif, verdict
from keras_wp.reports.findings import Finding

pytestmark = pytest.mark.once

FINDINGS = (
    Finding("high", "Gradients vanish.", {}, "zero_gradients"),
    Finding("warning", "Steps are few & <far>\x00.", {}, "more_steps"),
    Finding("info", "Some were tried.", {}),
)


@pytest.fixture
def report():
    made = full_report(np.random.default_rng(0))
    return dataclasses.replace(made, findings=FINDINGS)


@pytest.mark.parametrize(
    "bar, code", [("0", 0), ("0%", 0), ("0.99", 3), ("99%", 3)]
)
def test_a_bar_has_an_exit_code_of_its_own(tmp_path, capsys, bar, code):
    tiny_cnn().save(tmp_path / "a.keras")
    files = [tmp_path / "r.xml", tmp_path / "r.sarif"]
    options = ["--fail-under", bar, "--junit", files[0], "--sarif", files[1]]
    assert run("evaluate", tmp_path / "a.keras", *EVALUATE, *options) == code
    captured = capsys.readouterr()
    assert captured.out.endswith(f"\nWritten: {files[0]}, {files[1]}\n")
    told = "failed: robust accuracy is " in captured.err
    assert told == (code == verdict.FAILED)
    failures = ElementTree.parse(files[0]).findall(".//failure")
    levels = [r["level"] for r in log(files[1].read_text())["results"]]
    assert bool(failures) == ("error" in levels) == told


def test_without_a_bar_nothing_fails(report):
    assert verdict.shortfalls(report, None) == []


def test_a_grave_finding_fails_even_a_high_accuracy(report):
    assert verdict.shortfalls(report, 0.0) == [
        "it may not be true: Gradients vanish."
    ]
    better = dataclasses.replace(report, findings=FINDINGS[1:])
    assert verdict.shortfalls(better, 0.0) == []
    (told,) = verdict.shortfalls(better, 1.0)
    assert told.startswith("robust accuracy is ")
    assert told.endswith(", below 1.")


@pytest.mark.parametrize("text", ["1.5", "-1", "x", "140%", "40%%", ""])
def test_other_bars_are_refused(capsys, text):
    assert run("evaluate", "a.keras", f"--fail-under={text}") == 2
    assert (
        "argument --fail-under: expected a share such as 0.4 or 40%. "
        f"Received: {text!r}"
    ) in capsys.readouterr().err


def suite_of(text):
    suites = ElementTree.fromstring(text)
    assert suites.tag == "testsuites"
    (suite,) = suites
    return suite


def test_junit_has_a_case_for_everything(report):
    suite = suite_of(junit.encode(report, "m.keras", None, []))
    names = [case.get("name") for case in suite.findall("testcase")]
    assert names == [
        "robust accuracy",
        *(f"{r.name}, {r.norm} {r.eps:.4g}" for r in report.results),
        "finding: zero_gradients",
        "finding: more_steps",
        "finding: Some were tried.",
    ]
    assert {c.get("classname") for c in suite.findall("testcase")} == {
        "keras_wp.m.keras"
    }
    (failed,) = [c for c in suite if c.find("failure") is not None]
    assert failed.get("name") == "finding: zero_gradients"
    assert failed.find("failure").get("message") == "Gradients vanish."


def test_junit_fails_what_is_below_the_bar(report):
    told = verdict.shortfalls(report, 1.0)
    suite = suite_of(junit.encode(report, "m.keras", 1.0, told))
    failed = {
        case.get("name") for case in suite if case.find("failure") is not None
    }
    largest = {("linf", 0.2), ("l2", 1.0)}
    assert failed >= {"robust accuracy", "finding: zero_gradients"}
    assert failed - {"robust accuracy", "finding: zero_gradients"} == {
        f"{r.name}, {r.norm} {r.eps:.4g}"
        for r in report.results
        if (r.norm, r.eps) in largest
    }


# What `JUnit.xsd` (Ant's reports) wants of a suite.
REQUIRED = {"name", "timestamp", "hostname", "tests", "failures", "errors"}
REQUIRED |= {"time", "package", "id"}


def test_junit_is_of_the_form_of_its_schema(report):
    suite = suite_of(junit.encode(report, "m.keras", 0.5, ["too low."]))
    assert set(suite.attrib) == REQUIRED | {"skipped"}
    tags = [part.tag for part in suite]
    cases = suite.findall("testcase")
    assert tags == [
        "properties",
        *["testcase"] * len(cases),
        "system-out",
        "system-err",
    ]
    assert int(suite.get("tests")) == len(cases)
    assert int(suite.get("failures")) == len(suite.findall(".//failure"))
    for case in cases:
        assert set(case.attrib) == {"name", "classname", "time"}
        assert all(part.tag == "failure" for part in case)
    # What XML cannot hold is taken out; what it can is kept.
    assert "few & <far>?." in suite.find("system-out").text


def log(text):
    found = json.loads(text)
    assert found["version"] == "2.1.0"
    assert found["$schema"].endswith("sarif-schema-2.1.0.json")
    (only,) = found["runs"]
    return only


def test_sarif_has_findings_as_results_with_levels(report):
    told = verdict.shortfalls(report, 1.0)
    found = log(sarif.encode(report, "m.keras", ["keras-wp", "a b"], told))
    assert [(r["ruleId"], r["level"]) for r in found["results"]] == [
        ("zero_gradients", "error"),
        ("more_steps", "warning"),
        ("finding", "note"),
        ("robust_accuracy", "error"),
    ]
    rules = [rule["id"] for rule in found["tool"]["driver"]["rules"]]
    for result in found["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        (location,) = result["locations"]
        file = location["physicalLocation"]["artifactLocation"]
        assert file == {"uri": "m.keras"}
    assert found["results"][0]["message"] == {"text": "Gradients vanish."}
    assert found["invocations"] == [
        {"executionSuccessful": True, "commandLine": "keras-wp 'a b'"}
    ]
    assert found["properties"]["robust_accuracy"] == report.robust_accuracy


@pytest.mark.parametrize(
    "path, uri",
    [
        ("runs/a b.keras", "runs/a%20b.keras"),
        ("/runs/a b.keras", "file:///runs/a%20b.keras"),
    ],
)
def test_sarif_names_files_by_uri(report, path, uri):
    found = log(sarif.encode(report, path, [], []))
    file = found["results"][0]["locations"][0]["physicalLocation"]
    assert file["artifactLocation"]["uri"] == uri


@pytest.mark.parametrize(
    "option, path", [("--junit", "r.json"), ("--sarif", "r.xml")]
)
def test_other_suffixes_are_refused(tmp_path, capsys, option, path):
    tiny_cnn().save(tmp_path / "a.keras")
    given = [option, tmp_path / path]
    assert run("evaluate", tmp_path / "a.keras", *EVALUATE, *given) == 2
    assert "must be a file with the suffix" in capsys.readouterr().err
