"""`compare A B`: the same attacks on both, and who resists them."""

import pathlib

from keras_wp.cli import evaluate, files, models
from keras_wp.evaluation import request
from keras_wp.reports.comparable import common_budgets
from keras_wp.reports.comparison import compare
from keras_wp.reports.report import Report

HELP = "compare two models, image by image"


def add_arguments(command):
    """What may follow the command."""
    for letter in ("A", "B"):
        command.add_argument(
            letter.lower(),
            metavar=letter,
            help="a model, or a report that was written as .json",
        )
    evaluate.add_options(command)


def run(args):
    """Run the command."""
    files.prepare(args.reports, files.SUFFIXES)
    sides = [_read(path) for path in (args.a, args.b)]
    data = None
    if not all(isinstance(side, Report) for side in sides):
        data = evaluate.load_data(args)
        common_budgets(*(_budgets(args, side) for side in sides))
    reports = []
    for side, letter in zip(sides, "AB", strict=True):
        if not isinstance(side, Report):
            folder = args.resume_dir and args.resume_dir / letter
            side = evaluate.attacked(args, side, data, resume_dir=folder)
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
    if isinstance(side, Report):
        return side.budgets
    chosen = request.resolve(evaluate.chosen_attacks(args, side), args.eps)
    return request.radii(chosen, request.budgets(chosen, args.eps))


def _read(path):
    """A report if this is one, else a model."""
    if pathlib.Path(path).suffix == ".json":
        return Report.from_json(path)
    return models.load(path)
