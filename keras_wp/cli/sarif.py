"""A report as a SARIF file, as code scanning shows results of analyses.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version
2.1.0".
"""

import json
import pathlib
import shlex
import urllib.parse

from keras_wp._version import __version__

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
    "sarif-schema-2.1.0.json"
)
_LEVELS = {"high": "error", "warning": "warning", "info": "note"}
# The rule that an accuracy breaks, beside those of the audit.
_ACCURACY = "robust_accuracy"


def encode(report, model, call, shortfalls):
    """The text of the file.

    Args:
        report: The report.
        model: The path of the model, where all results are.
        call: The command, as a list.
        shortfalls: Why the report does not reach what was asked for, in
            sentences.
    """
    found = [
        (f.check or "finding", _LEVELS[f.severity], f.message)
        for f in report.findings
    ]
    grave = {f.message for f in report.findings if f.severity == "high"}
    found += [
        (_ACCURACY, "error", _sentence(told))
        for told in shortfalls
        # A finding is told as what it is.
        if not any(told.endswith(message) for message in grave)
    ]
    rules = list(dict.fromkeys(rule for rule, _, _ in found))
    run = {
        "tool": {
            "driver": {
                "name": "keras_wp",
                "version": __version__,
                "rules": [
                    {"id": rule, "shortDescription": {"text": _words(rule)}}
                    for rule in rules
                ],
            }
        },
        "invocations": [
            {"executionSuccessful": True, "commandLine": shlex.join(call)}
        ],
        "results": [
            {
                "ruleId": rule,
                "ruleIndex": rules.index(rule),
                "level": level,
                "message": {"text": message},
                "locations": [_location(model)],
            }
            for rule, level, message in found
        ],
        "properties": {
            "clean_accuracy": report.clean_accuracy,
            "robust_accuracy": report.robust_accuracy,
            "images": len(report),
            "attacks": [
                {
                    "name": result.name,
                    "norm": result.norm,
                    "eps": result.eps,
                    "robust_accuracy": result.robust_accuracy,
                }
                for result in report.results
            ],
        },
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1) + "\n"


def _words(rule):
    return f"{rule.replace('_', ' ').capitalize()}."


def _sentence(text):
    return text[:1].upper() + text[1:]


def _location(model):
    path = pathlib.PurePath(model)
    if path.is_absolute():
        uri = path.as_uri()
    else:
        uri = urllib.parse.quote(path.as_posix())
    return {"physicalLocation": {"artifactLocation": {"uri": uri}}}
