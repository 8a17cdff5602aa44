"""What is recorded in `results/`: JSON, and what is made of it alone.

The name of a file says what it holds: `table-4-cpu.json` and
`floor-plain.json` become tables, `figure-7-cpu.json` a figure, and
`growing-epochs-...` both.
"""

import json

import _markdown
import _timings

_TABLES = {
    "table": _markdown.paper_table,
    "growing-epochs": _markdown.growing_epochs,
    "compare-heads": _markdown.compare_heads,
    "agreement": _timings.peers,
    "peers": _timings.peers,
    "floor": _timings.floor,
    "gradients": _timings.gradients,
    "devices": _timings.devices,
    "memory": _timings.memory,
}
# Functions of `_drawing`, which takes its time to import.
_FIGURES = {
    "figure-3": "embeddings",
    "figure-4": "curves",
    "figure-5": "sweeps",
    "figure-6": "sweeps",
    "figure-7": "curves",
    "growing-epochs": "growing_epochs",
    "compare-heads": "compare_heads",
}


def write(path, result):
    """Write a result as JSON, and what is made of it.

    Args:
        path: The file's path, without its suffix.
        result: What JSON knows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_text(suffixed(path, ".json"), json.dumps(result, indent=1) + "\n")
    render(path)


def suffixed(path, suffix):
    """The path with a suffix added, whatever dots are in its name."""
    return path.with_name(path.name + suffix)


def unsuffixed(path, suffix):
    """The path that `suffixed` makes this one of."""
    return path.with_name(path.name.removesuffix(suffix))


def render(path):
    """Write the table and the figure that belong to a JSON file, if any."""
    to_markdown, draw = _of(path, _TABLES), _of(path, _FIGURES)
    if not (to_markdown or draw):
        return
    result = json.loads(suffixed(path, ".json").read_text(encoding="utf-8"))
    if to_markdown:
        _write_text(suffixed(path, ".md"), to_markdown(result))
    if draw:
        import _drawing

        picture = getattr(_drawing, draw)(result)
        png, pdf = suffixed(path, ".png"), suffixed(path, ".pdf")
        _drawing.save(picture, png, pdf)
        print(f"Written: {png}\nWritten: {pdf}")


def _of(path, forms):
    names = [n for n in forms if f"{path.name}-".startswith(f"{n}-")]
    return forms[names[0]] if names else None


def _write_text(path, text):
    path.write_text(text, encoding="utf-8")
    print(f"Written: {path}")
