"""Every table and figure of `results/` once more, from its JSON alone.

    python examples/regenerate.py

trains nothing and attacks nothing. It writes what `tables.py`, `figures.py`,
`growing_epochs.py`, `compare_heads.py` and benchmarks have written, with the
same functions: to be run when one of these has changed, or to check a table
against its numbers. JSON of which nothing is made stays as it is.
"""

import pathlib

import _results
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "results", "Where the results are.")


def main(argv):
    if argv[1:]:
        raise SystemExit(f"Flags begin with `--`. Received: {argv[1]}")
    found = sorted(pathlib.Path(FLAGS.output_dir).glob("*.json"))
    if not found:
        raise SystemExit(f"There is no JSON in {FLAGS.output_dir}.")
    for path in found:
        _results.render(_results.unsuffixed(path, ".json"))


if __name__ == "__main__":
    app.run(main)
