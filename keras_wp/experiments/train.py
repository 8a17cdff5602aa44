"""Trains an experiment's network, and attacks it."""

import sys

from keras_wp.experiments import options, run, training
from keras_wp.experiments.config import EXPERIMENTS


def main(experiment, argv=None):
    """Run an experiment with what the command line says.

    Args:
        experiment: Its `Config`, as the paper has it.
        argv: The program's name, and its arguments.
    """
    options.run(_train, experiment, argv or sys.argv)


def command(argv):
    """`train EXPERIMENT`."""
    program, *rest = argv
    if rest[:1] == ["--help"]:  # All have the same flags.
        rest = [next(iter(EXPERIMENTS)), *rest]
    name, *flags = rest or [None]
    if name not in EXPERIMENTS:
        raise SystemExit(
            "An experiment is one of "
            f"{', '.join(EXPERIMENTS)}. Received: {name}"
        )
    main(EXPERIMENTS[name], [program, *flags])


def _train(experiment, given, left):
    options.no_more(left)
    current, train, test = run.start(experiment, given)
    model = training.train(current, train, test)
    run.evaluate(current, model, test)
