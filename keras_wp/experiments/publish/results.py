"""What is recorded in `results/`: JSON, and what is made of it alone.

A result is a folder, such as `results/table/4-cpu`, whose parent's name says
what it is of. It holds `data.json`, and `table.md`, `figure.png` and
`figure.pdf` where there are such.
"""

import json

from keras_wp.experiments.publish import markdown, timings

DATA = "data.json"
_TABLES = {
    "table": markdown.paper_table,
    "growing-epochs": markdown.growing_epochs,
    "compare-heads": markdown.compare_heads,
    "agreement": timings.peers,
    "peers": timings.peers,
    "floor": timings.floor,
    "gradients": timings.gradients,
    "devices": timings.devices,
    "memory": timings.memory,
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
    """Write a result as JSON, and what is made of it.

    Args:
        folder: The result's folder, such as `results/table/4-cpu`.
        result: What JSON knows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_text(folder / DATA, json.dumps(result, indent=1) + "\n")
    render(folder)


def render(folder):
    """Write the table and the figure that belong to a result, if any."""
    kind = folder.parent.name
    to_markdown, draw = _TABLES.get(kind), _FIGURES.get(kind)
    if kind == "figure":
        draw = _FIGURES[f"figure-{folder.name.partition('-')[0]}"]
    if not (to_markdown or draw):
        return
    result = json.loads((folder / DATA).read_text(encoding="utf-8"))
    if to_markdown:
        _write_text(folder / "table.md", to_markdown(result))
    if draw:
        from keras_wp.experiments.publish import drawing

        picture = getattr(drawing, draw)(result)
        png, pdf = folder / "figure.png", folder / "figure.pdf"
        drawing.save(picture, png, pdf)
        print(f"Written: {png}\nWritten: {pdf}")


def _write_text(path, text):
    path.write_text(text, encoding="utf-8")
    print(f"Written: {path}")
