"""Trains an experiment's network, and attacks it."""

import sys

from keras_wp.experiments import options, run, training
from keras_wp.experiments.config import EXPERIMENTS


def main(experiment):
    """Run an experiment with what the command line says.

    Args:
        experiment: Its `Config`, as the paper has it.
    """
    options.run(_train, experiment, sys.argv)


def command(argv):
    """`train EXPERIMENT`."""
    program, *rest = argv
    named = rest and not rest[0].startswith("--")
    name = rest.pop(0) if named else None
    if not named and "--help" in rest:
        name = next(iter(EXPERIMENTS))  # All have the same flags.
    if name not in EXPERIMENTS:
        raise SystemExit(
            "An experiment is one of "
            f"{', '.join(EXPERIMENTS)}. Received: {name}"
        )
    options.run(_train, EXPERIMENTS[name], [program, *rest])


def _train(experiment, given, left):
    if left:
        raise SystemExit(f"Flags begin with `--`. Received: {left[0]}")
    current, train, test = run.start(experiment, given)
    model = training.train(current, train, test)
    run.evaluate(current, model, test)
