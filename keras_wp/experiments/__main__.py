"""`python -m keras_wp.experiments`: one command for each kind of work."""

import sys

from keras_wp.experiments import training
from keras_wp.experiments.config import EXPERIMENTS
from keras_wp.experiments.publish import results
from keras_wp.experiments.studies.compare_heads import CompareHeads
from keras_wp.experiments.studies.figures import Figures
from keras_wp.experiments.studies.growing_epochs import GrowingEpochs
from keras_wp.experiments.studies.tables import Tables
from keras_wp.experiments.studies.weights import Weights

USAGE = f"""\
python -m keras_wp.experiments COMMAND [--flag=value ...]

  train EXPERIMENT   one of {", ".join(EXPERIMENTS)}
  table              a table of the paper, --table=2 to 5
  figure             a figure of the paper, --figure=3 to 7
  growing-epochs     what more epochs make of the paper's defenses
  compare-heads      heads in the same training, against the ordinary one
  weights            the networks of keras_wp.models.pretrained, and their cards
  render             the tables and figures of results/, from their JSON

COMMAND --help lists its flags."""


def train(argv):
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
    training.main(EXPERIMENTS[name], [program, *flags])


STUDIES = (Tables, Figures, GrowingEpochs, CompareHeads)
COMMANDS = {
    "train": train,
    **{study.kind: study.command for study in (*STUDIES, Weights)},
    "render": results.command,
}


def main():
    """Run the command that the command line names."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(USAGE)
        return
    if name not in COMMANDS:
        raise SystemExit(
            f"There is no such command. Expected one of {', '.join(COMMANDS)}. "
            f"Received: {name}"
        )
    COMMANDS[name]([f"keras_wp.experiments {name}", *rest])


if __name__ == "__main__":
    main()
