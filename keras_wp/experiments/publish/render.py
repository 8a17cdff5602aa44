"""Every table and figure of `results/` once more, from its JSON alone.

    python -m keras_wp.experiments render

trains nothing and attacks nothing. It writes what the studies and benchmarks
have written, with the same functions: to be run when one of these has changed,
or to check a table against its numbers. JSON of which nothing is made stays as
it is.
"""

import dataclasses
import pathlib

from keras_wp.experiments import options
from keras_wp.experiments.options import option
from keras_wp.experiments.publish import results


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Render:
    output_dir: str = option("results", "Where the results are.")


def command(argv):
    """`render`."""
    options.run(_main, _Render(), argv)


def _main(usual, given, left):
    if left:
        raise SystemExit(f"Flags begin with `--`. Received: {left[0]}")
    root = pathlib.Path(dataclasses.replace(usual, **given).output_dir)
    found = sorted(root.glob(f"*/*/{results.DATA}"))
    if not found:
        raise SystemExit(f"There is no {results.DATA} in {root}.")
    for path in found:
        results.render(path.parent)
