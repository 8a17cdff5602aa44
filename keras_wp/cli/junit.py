"""A report as a JUnit file, which CI systems show as tests.

One suite in the form that Jenkins, GitLab and GitHub actions read: there is no
standard, and `jenkins-junit.xsd` is what most of them have in common.
"""

import re
from xml.etree import ElementTree

# What XML 1.0 cannot hold.
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


def encode(report, model, least, shortfalls):
    """The text of the file.

    Args:
        report: The report.
        model: The path of the model, by which cases are told apart.
        least: The least robust accuracy, or None.
        shortfalls: Why the report does not reach it, in sentences.
    """
    seconds = sum(result.seconds for result in report.results)
    suite = ElementTree.Element("testsuite", name="keras_wp")
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in report.environment.items():
        if isinstance(value, (str, int, float)):
            ElementTree.SubElement(
                properties, "property", name=_text(name), value=_text(value)
            )
    verdict = shortfalls if least is not None else []
    case = _case(suite, model, "robust accuracy", seconds)
    _tell(case, f"{report.robust_accuracy:.4g}", verdict, "accuracy")
    largest = report.threat_model
    for result in report.results:
        budget = "" if result.eps is None else f" {result.eps:.4g}"
        name = f"{result.name}, {result.norm}{budget}"
        case = _case(suite, model, name, result.seconds)
        accuracy = result.robust_accuracy
        counts = largest.get(result.norm) == result.eps
        low = least is not None and counts and accuracy < least
        reason = [f"{accuracy:.4g} resist, below {least:g}."] if low else []
        _tell(case, f"{accuracy:.4g}", reason, "accuracy")
    for finding in report.findings:
        name = f"finding: {finding.check or finding.message}"
        case = _case(suite, model, name, 0.0)
        grave = [finding.message] if finding.severity == "high" else []
        _tell(case, f"{finding.severity}: {finding.message}", grave, "finding")
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", "0")
    suite.set("time", f"{seconds:.3f}")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite, model, name, seconds):
    return ElementTree.SubElement(
        suite,
        "testcase",
        name=_text(name),
        classname=_text(f"keras_wp.{model}"),
        time=f"{seconds:.3f}",
    )


def _tell(case, text, failures, kind):
    if failures:
        failure = ElementTree.SubElement(
            case, "failure", message=_text(" ".join(failures)), type=kind
        )
        failure.text = _text("\n".join(failures))
    ElementTree.SubElement(case, "system-out").text = _text(text)


def _text(value):
    return _FORBIDDEN.sub("?", str(value))
