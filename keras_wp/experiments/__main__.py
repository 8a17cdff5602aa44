"""`python -m keras_wp.experiments`: one command for each kind of work."""

import sys

from keras_wp.experiments import train
from keras_wp.experiments.config import EXPERIMENTS
from keras_wp.experiments.publish import results
from keras_wp.experiments.studies.compare_heads import CompareHeads
from keras_wp.experiments.studies.figures import Figures
from keras_wp.experiments.studies.growing_epochs import GrowingEpochs
from keras_wp.experiments.studies.tables import Tables

COMMANDS = {"train": train.command, "render": results.command}
for study in (Tables, Figures, GrowingEpochs, CompareHeads):
    COMMANDS[study.kind] = study.command
USAGE = f"""\
python -m keras_wp.experiments COMMAND [--flag=value ...]

  train EXPERIMENT   one of {", ".join(EXPERIMENTS)}
  table              a table of the paper, --table=2 to 5
  figure             a figure of the paper, --figure=3 to 7
  growing-epochs     what more epochs make of the paper's defenses
  compare-heads      heads in the same training, against the ordinary one
  render             the tables and figures of results/, from their JSON

COMMAND --help lists its flags."""


def main():
    """Run the command that the command line names."""
    _, *arguments = sys.argv
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(USAGE)
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise SystemExit(
            f"There is no such command. Expected one of {', '.join(COMMANDS)}. "
            f"Received: {name}"
        )
    COMMANDS[name]([f"keras_wp.experiments {name}", *rest])


if __name__ == "__main__":
    main()
