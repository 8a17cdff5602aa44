"""`compare A B ...`: the same attacks on all, and who resists them."""

import pathlib

from keras_wp.cli import data, evaluate, files, models, pixels

HELP = "compare two models or more, image by image"
DESCRIPTION = evaluate.DESCRIPTION.replace(
    "Attack a model and report which images resist.",
    "Attack models and compare which images resist: two with each other, more "
    "with\nthe first, each.",
)


def add_arguments(command):
    """What may follow the command."""
    command.add_argument("first", metavar="A", help="a model, or a report")
    command.add_argument(
        "others",
        metavar="B",
        nargs="+",
        help="one or more others; reports are those written as .json",
    )
    evaluate.add_options(command)


def check(args):
    """What can be found wrong before anything is loaded."""
    args.paths = [args.first, *args.others]
    written = [_is_report(path) for path in args.paths]
    for path, report in zip(args.paths, written, strict=True):
        if not report:
            models.check(path)
    if all(written):
        files.prepare(args.reports, files.SUFFIXES)
    else:
        evaluate.check_options(args)


def run(args):
    """Run the command."""
    from keras_wp.cli import attacking
    from keras_wp.reports.compare import compare
    from keras_wp.reports.wording import letters

    sides = [_report(path) for path in args.paths]
    if None in sides:
        _check_sides(args, sides)
    reports = []
    for letter, path, report in zip(
        letters(len(sides)), args.paths, sides, strict=True
    ):
        if report is None:
            model = models.load(path, args.imports)
            folder = args.resume_dir and args.resume_dir / letter
            images = pixels.unit(data.load(args, model), args)
            report = attacking.attacked(args, model, images, resume_dir=folder)
        reports.append(report)
    comparison = compare(*reports, names=_names(*args.paths))
    files.show(comparison)
    for path in args.reports:
        files.write(comparison, path)
    files.tell(args.reports)


def _check_sides(args, sides):
    """Make sure, before any is attacked, that all can be compared.

    Models are read for that, and again when it is their turn: many need not
    fit into memory together.
    """
    from keras_wp.reports.comparable import common_budgets

    common = None
    for path, report in zip(args.paths, sides, strict=True):
        side = report or models.load(path, args.imports)
        budgets = _budgets(args, side)
        common = budgets if common is None else common_budgets(common, budgets)


def _names(*paths):
    """What to call files: as long as it takes to tell them apart."""
    from keras_wp.reports.wording import letters

    parts = [pathlib.Path(path).parts for path in paths]
    longest = max(map(len, parts))
    length = 1
    while length < longest and len({p[-length:] for p in parts}) < len(parts):
        length += 1
    return [
        f"{letter}: {pathlib.Path(*own[-length:])}"
        for letter, own in zip(letters(len(parts)), parts, strict=True)
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


def _report(path):
    """The report in a file, or None for a model."""
    from keras_wp.reports.report import Report

    return Report.from_json(path) if _is_report(path) else None
