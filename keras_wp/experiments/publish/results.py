"""What is recorded in `results/`: JSON, and what is made of it alone.

A result is a folder, such as `results/table/4-cpu`, whose parent's name says
what it is of. It holds `data.json`, and `table.md`, `figure.png` and
`figure.pdf` where there are such.

    python -m keras_wp.experiments render

makes these once more from the JSON, with the functions that the studies and
benchmarks use: when one of these has changed, or to check a table against its
numbers. JSON of which nothing is made stays as it is.
"""

import dataclasses
import json
import pathlib

from keras_wp.experiments import options
from keras_wp.experiments.publish import benchmarks, markdown

DATA, TABLE = "data.json", "table.md"
_TABLES = {
    "table": markdown.paper_table,
    "growing-epochs": markdown.growing_epochs,
    "compare-heads": markdown.compare_heads,
    "certified": benchmarks.certified,
    "agreement": benchmarks.peers,
    "peers": benchmarks.peers,
    "floor": benchmarks.floor,
    "gradients": benchmarks.gradients,
    "devices": benchmarks.devices,
    "memory": benchmarks.memory,
}
# Functions of `drawing`, which takes its time to import.
_FIGURES = {
    "figure-3": "embeddings",
    "figure-4": "curves",
    "figure-5": "sweeps",
    "figure-6": "sweeps",
    "figure-7": "curves",
    "growing-epochs": "growing_epochs",
    "compare-heads": "compare_heads",
}


def write(folder, result):
    """Write a result, as JSON, and what is made of it to its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_text(folder / DATA, json.dumps(result, indent=1) + "\n")
    render(folder)


def render(folder):
    """Write the table and the figure that belong to a result, if any."""
    kind = folder.parent.name
    number = folder.name.partition("-")[0]
    to_markdown = _TABLES.get(kind)
    draw = _FIGURES.get(f"figure-{number}" if kind == "figure" else kind)
    if not (to_markdown or draw):
        return
    result = json.loads((folder / DATA).read_text(encoding="utf-8"))
    if result.get("rows") == []:  # It has been begun.
        return
    if to_markdown:
        _write_text(folder / TABLE, to_markdown(result))
    if draw:
        from keras_wp.experiments.publish import drawing

        for path in drawing.save(getattr(drawing, draw)(result), folder):
            print(f"Written: {path}")


def _write_text(path, text):
    path.write_text(text, encoding="utf-8")
    print(f"Written: {path}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Render:
    output_dir: str = options.place("results", "Where the results are.")


def command(argv):
    """`render`."""
    options.run(_main, _Render(), argv)


def _main(usual, given, left):
    options.no_more(left)
    root = pathlib.Path(dataclasses.replace(usual, **given).output_dir)
    found = sorted(root.glob(f"*/*/{DATA}"))
    if not found:
        raise SystemExit(f"There is no {DATA} in {root}.")
    for path in found:
        render(path.parent)
