"""`compare A B`: the same attacks on both, and who resists them."""

import pathlib

from keras_wp.cli import data, evaluate, files, models, pixels

HELP = "compare two models, image by image"
DESCRIPTION = evaluate.DESCRIPTION.replace(
    "Attack a model and report which images resist.",
    "Attack two models and compare which images resist.",
)


def add_arguments(command):
    """What may follow the command."""
    for letter in ("A", "B"):
        command.add_argument(
            letter.lower(),
            metavar=letter,
            help="a model, or a report that was written as .json",
        )
    evaluate.add_options(command)


def check(args):
    """What can be found wrong before anything is loaded."""
    written = [_is_report(path) for path in (args.a, args.b)]
    for path, report in zip((args.a, args.b), written, strict=True):
        if not report:
            models.check(path)
    if all(written):
        files.prepare(args.reports, files.SUFFIXES)
    else:
        evaluate.check_options(args)


def run(args):
    """Run the command."""
    from keras_wp.cli import attacking
    from keras_wp.reports.comparable import common_budgets
    from keras_wp.reports.comparison import compare
    from keras_wp.reports.report import Report

    sides = [_read(path, args.imports) for path in (args.a, args.b)]
    if not all(isinstance(side, Report) for side in sides):
        common_budgets(*(_budgets(args, side) for side in sides))
    reports = []
    for side, letter in zip(sides, "AB", strict=True):
        if not isinstance(side, Report):
            folder = args.resume_dir and args.resume_dir / letter
            images = pixels.unit(data.load(args, side), args)
            side = attacking.attacked(args, side, images, resume_dir=folder)
        reports.append(side)
    comparison = compare(*reports, names=_names(args.a, args.b))
    files.show(comparison)
    for path in args.reports:
        files.write(comparison, path)
    files.tell(args.reports)


def _names(*paths):
    """What to call two files: as long as it takes to tell them apart."""
    parts = [pathlib.Path(path).parts for path in paths]
    length = 1
    while parts[0][-length:] == parts[1][-length:] and length < max(
        map(len, parts)
    ):
        length += 1
    return [
        f"{letter}: {pathlib.Path(*own[-length:])}"
        for letter, own in zip("AB", parts, strict=True)
    ]


def _budgets(args, side):
    """The pairs `(norm, eps)` that a side's report has, or will have."""
    from keras_wp.cli import attacking
    from keras_wp.evaluation import request

    if hasattr(side, "budgets"):
        return side.budgets
    chosen = request.resolve(attacking.chosen_attacks(args, side), args.eps)
    return request.radii(chosen, request.budgets(chosen, args.eps))


def _is_report(path):
    """Whether this is a report; raises an `OSError` if it is not there."""
    if pathlib.Path(path).suffix != ".json":
        return False
    with open(path):
        return True


def _read(path, imports):
    """A report if this is one, else a model."""
    from keras_wp.reports.report import Report

    if _is_report(path):
        return Report.from_json(path)
    return models.load(path, imports)
