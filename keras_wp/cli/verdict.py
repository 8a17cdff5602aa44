"""What a machine is told: an exit code, and files for CI systems."""

import pathlib

from keras_wp.cli import arguments, files, junit, sarif

# That of `main` for a report that falls short.
FAILED = 3


def add_options(command):
    """What may be asked of a report."""
    add = command.add_argument
    add(
        "--fail-under",
        metavar="SHARE",
        type=arguments.share,
        help="end with exit code 3 if robust accuracy, in the worst case "
        "within the largest budget, is below this, as 0.4 or 40%%, or if a "
        "finding of the severity `high` says that it may not be true",
    )
    add(
        "--junit",
        metavar="FILE.xml",
        type=pathlib.Path,
        help="write a JUnit file: a test case for robust accuracy, each "
        "attack, and each finding",
    )
    add(
        "--sarif",
        metavar="FILE.sarif",
        type=pathlib.Path,
        help="write a SARIF 2.1.0 file: findings as results, with levels",
    )


def check(args):
    """Make sure that what is asked for can be written."""
    files.prepare([args.junit], (".xml",))
    files.prepare([args.sarif], (".sarif", ".json"))


def reached(report, args):
    """Write what is asked for.

    Returns:
        The exit code: 0, or `FAILED`.
    """
    told = shortfalls(report, args.fail_under)
    if args.junit:
        suite = junit.encode(report, args.model, args.fail_under, told)
        args.junit.write_text(suite, encoding="utf-8")
    if args.sarif:
        log = sarif.encode(report, args.model, args.call, told)
        args.sarif.write_text(log, encoding="utf-8")
    files.tell([args.junit, args.sarif])
    for sentence in told:
        files.note(f"failed: {sentence}")
    return FAILED if told else 0


def shortfalls(report, least):
    """Why a report does not reach the least accuracy, in sentences.

    Args:
        report: The report.
        least: The least robust accuracy, or None if nothing is asked for.
    """
    if least is None:
        return []
    told = []
    if lacking := report.environment.get("missing"):
        told.append(f"{lacking}.")
    if report.robust_accuracy < least:
        from keras_wp.reports import wording

        budgets = ", ".join(
            wording.budget(*pair) for pair in report.threat_model.items()
        )
        told.append(
            f"robust accuracy is {report.robust_accuracy:.4g} within "
            f"{budgets}, below {least:g}."
        )
    grave = [f for f in report.findings if f.severity == "high"]
    told += [f"it may not be true: {f.message}" for f in grave]
    return told
