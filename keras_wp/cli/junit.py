"""A report as a JUnit file, which CI systems show as tests.

One suite in the form of Ant's reports, of which there is a schema
(`JUnit.xsd` by Windy Road), and which Jenkins, GitLab and others read.
"""

import datetime
import platform
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
    from keras_wp.reports.wording import budget

    seconds = sum(result.seconds for result in report.results)
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", name="keras_wp", id="0")
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in report.environment.items():
        if isinstance(value, (str, int, float)):
            ElementTree.SubElement(
                properties, "property", name=_text(name), value=_text(value)
            )
    name = "robust accuracy"
    _case(suite, model, name, seconds, shortfalls)
    largest = report.threat_model
    for result in report.results:
        name = f"{result.name}, {budget(result.norm, result.eps)}"
        accuracy = result.robust_accuracy
        counts = largest.get(result.norm) == result.eps
        low = least is not None and counts and accuracy < least
        reason = [f"{accuracy:.4g} resist, below {least}."] if low else []
        _case(suite, model, name, result.seconds, reason)
    for finding in report.findings:
        name = f"finding: {finding.check or finding.message}"
        grave = [finding.message] if finding.severity == "high" else []
        _case(suite, model, name, 0.0, grave)
    ElementTree.SubElement(suite, "system-out").text = _text(report)
    ElementTree.SubElement(suite, "system-err")
    now = datetime.datetime.now(datetime.UTC)
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": 0,
        "skipped": 0,
        "time": f"{seconds:.3f}",
        "timestamp": now.strftime("%Y-%m-%dT%H:%M:%S"),
        "hostname": platform.node() or "localhost",
        "package": "keras_wp",
    }
    for name, value in counts.items():
        suite.set(name, str(value))
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite, model, name, seconds, failures):
    """A case, failed for these reasons, if there are any."""
    case = ElementTree.SubElement(
        suite,
        "testcase",
        name=_text(name),
        classname=_text(f"keras_wp.{model}"),
        time=f"{seconds:.3f}",
    )
    if failures:
        message = _text(" ".join(failures))
        failure = ElementTree.SubElement(
            case, "failure", message=message, type="keras_wp"
        )
        failure.text = message


def _text(value):
    return _FORBIDDEN.sub("?", str(value))
