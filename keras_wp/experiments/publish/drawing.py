"""The figures in `results/`, from their JSON alone."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

_SIZE, _LEGEND = 3.2, 1.8  # inches, of a panel and beside the last
_EPOCH_STYLES = {
    "clean": {"color": "gray"},
    "worst case": {"color": "black"},
    "units at ±1": {"color": "black", "ls": ":"},
}


def save(figure, folder):
    """Write a figure to a folder; returns the paths."""
    png, pdf = folder / "figure.png", folder / "figure.pdf"
    figure.savefig(png, dpi=200)
    # Without the date the same numbers are the same file.
    figure.savefig(pdf, metadata={"CreationDate": None})
    plt.close(figure)
    return png, pdf


def _panels(panels, beside=_LEGEND):
    """A figure, and its axes by panel: `[(axis, what is in the panel)]`."""
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(_SIZE * len(panels) + beside, _SIZE + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for axis, title in zip(axes[0], panels, strict=True):
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(zip(axes[0], panels.values(), strict=True))


def _lines(panels, x, y="accuracy (%)", look=lambda i, label, points: {}):
    """A figure with lines, `{panel: {label: [[x, y], ...]}}`, and a legend.

    `look` says what sets the line of number `i` in its panel apart.
    """
    figure, axes = _panels(panels)
    legend = {}
    for axis, panel in axes:
        for i, (label, points) in enumerate(panel.items()):
            more = {"marker": "o", "ms": 3, **look(i, label, points)}
            (line,) = axis.plot(*np.array(points).T, label=label, **more)
            legend.setdefault(label, line)
        axis.set(xlabel=x, ylabel=y, ylim=(-3, 103))
        axis.grid(alpha=0.3)
    place = {"loc": "outside right center", "fontsize": 8, "frameon": False}
    figure.legend(legend.values(), legend.keys(), **place)
    return figure, axes


def embeddings(data):
    """Figure 3: a point for each image, a number for each class."""
    figure, axes = _panels(data["panels"], beside=0)
    for axis, panel in axes:
        points, labels = np.array(panel["points"]), np.array(panel["labels"])
        axis.scatter(*points.T, c=labels, cmap="tab10", s=4, vmin=0, vmax=9)
        for label in np.unique(labels):
            middle = np.median(points[labels == label], axis=0)
            box = {"boxstyle": "circle", "fc": "white", "alpha": 0.8}
            text = axis.text(*middle, str(label), weight="bold", bbox=box)
            text.set(ha="center", va="center")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
    return figure


def curves(data):
    """Figures 4 and 7: accuracy by epoch, on training and test images."""
    panels = {
        title: {
            f"{label}, {part}": points
            for label, parts in panel.items()
            for part, points in parts.items()
        }
        for title, panel in data["panels"].items()
    }

    def look(i, label, points):
        # Training and test images follow each other.
        style = {"color": f"C{i // 2}", "ls": "-" if i % 2 else "--"}
        marker = "." if len(points) < 20 else None
        return {**style, "marker": marker, "ms": None}

    figure, axes = _lines(panels, "epoch", look=look)
    for axis, _ in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"Robust accuracy is that under {data['attack']}", size=9)
    return figure


def sweeps(data):
    """Figures 5 and 6: accuracy by a hyperparameter, on a logarithmic axis."""
    figure, axes = _lines(data["panels"], data["x"])
    for axis, _ in axes:
        axis.set_xscale("log")
    return figure


def growing_epochs(data):
    """Accuracy by epochs, a panel for each method, and saturated units."""
    shown = {name: name for name in ("clean", *data["attacks"])}
    shown |= {"worst case": "worst_case", "units at ±1": "saturated"}
    panels = {}
    for row in data["rows"]:
        lines = panels.setdefault(row["method"], {})
        for label, name in shown.items():
            if (value := row["mean"][name]) is not None:
                lines.setdefault(label, []).append([row["epochs"], 100 * value])
    figure, axes = _lines(
        panels,
        "epochs",
        "accuracy, share of units (%)",
        lambda i, label, points: _EPOCH_STYLES.get(label, {}),
    )
    for axis, panel in axes:
        axis.set_xscale("log")
        epochs = sorted({x for points in panel.values() for x, _ in points})
        axis.set_xticks(epochs, [str(epoch) for epoch in epochs])
        axis.minorticks_off()
    return figure


def compare_heads(data):
    """What heads add to the worst case of the ordinary one, with intervals."""
    panels = {}
    for row in data["rows"]:
        panel = panels.setdefault(row["defense"], {})
        if "against" in row:
            panel[row["variant"]] = row["against"]["worst case"]
    figure, axes = _panels(panels, beside=0)
    for axis, panel in axes:
        places = -np.arange(len(panel))
        for place, found in zip(places, panel.values(), strict=True):
            low, high = (100 * limit for limit in found["interval"])
            axis.plot([low, high], [place, place], color="C0")
            by_seed = [100 * d for d in found["difference_by_seed"]]
            axis.plot(by_seed, [place] * len(by_seed), "|", color="C1")
            axis.plot(100 * found["difference"], place, "o", color="C0")
        axis.axvline(0, color="black", lw=0.8)
        axis.set_yticks(places, list(panel))
        axis.set_xlabel(f"worst case − {data['reference']} (points)")
        axis.grid(alpha=0.3, axis="x")
    return figure
