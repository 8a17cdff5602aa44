"""`merge FILE...`: one report of the shards of an evaluation."""

import pathlib

from keras_wp.cli import files, verdict

HELP = "make one report of the shards of an evaluation"
DESCRIPTION = """\
Make one report of the shards of an evaluation.

Each shard is a report that `evaluate --shard K/N --report FILE.json` wrote.
Shards of other models, images, attacks or versions are refused; those that are
missing are named, and the report says that it is partial.
"""


def add_arguments(command):
    """What may follow the command."""
    command.add_argument(
        "shards",
        metavar="FILE",
        nargs="+",
        type=pathlib.Path,
        help="a shard's .json report, or a folder of them",
    )
    files.add_reports(command)
    verdict.add_options(command)


def check(args):
    """What can be found wrong before anything is loaded."""
    for path in args.shards:
        if not path.exists():
            raise ValueError(
                "What is merged must be there. Received: "
                f"{str(path)!r}, which is not"
            )
    files.prepare(args.reports, files.SUFFIXES)
    verdict.check(args)


def run(args):
    """Run the command."""
    from keras_wp.cluster.merge import merge

    report = merge(args.shards)
    args.model = report.environment.get("model", "model")
    files.show(report)
    for path in args.reports:
        files.write(report, path)
    files.tell(args.reports)
    return verdict.reached(report, args)
