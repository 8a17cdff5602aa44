"""The figures in `results/`, from their JSON alone."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

_SIZE, _LEGEND = 3.2, 1.8  # inches, of a panel and beside the last
_STYLES = {"training": "--", "test": "-"}
_EPOCH_STYLES = {
    "clean": {"color": "gray"},
    "worst case": {"color": "black"},
    "units at ±1": {"color": "black", "ls": ":"},
}


def save(figure, png, pdf):
    """Write a figure to these two paths."""
    figure.savefig(png, dpi=200)
    # Without the date the same numbers are the same file.
    figure.savefig(pdf, metadata={"CreationDate": None})
    plt.close(figure)


def _panels(data, beside=_LEGEND):
    """A figure with one axis for each panel, and its title."""
    panels = data["panels"]
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


def embeddings(data):
    """Figure 3: a point for each image, a number for each class."""
    figure, panels = _panels(data, beside=0)
    for axis, panel in panels:
        points, labels = np.array(panel["points"]), np.array(panel["labels"])
        axis.scatter(*points.T, c=labels, cmap="tab10", s=4, vmin=0, vmax=9)
        for label in np.unique(labels):
            x, y = np.median(points[labels == label], axis=0)
            axis.text(
                x,
                y,
                str(label),
                ha="center",
                va="center",
                weight="bold",
                bbox={"boxstyle": "circle", "fc": "white", "alpha": 0.8},
            )
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
    return figure


def curves(data):
    """Figures 4 and 7: accuracy by epoch, on training and test images."""
    figure, panels = _panels(data)
    for axis, panel in panels:
        for color, (label, parts) in enumerate(panel.items()):
            for part, points in parts.items():
                axis.plot(
                    *np.array(points).T,
                    _STYLES[part],
                    color=f"C{color}",
                    marker="." if len(points) < 20 else None,
                    label=f"{label}, {part}",
                )
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        _label(axis, "epoch")
    figure.suptitle(f"Robust accuracy is that under {data['attack']}", size=9)
    _legend(figure, panels)
    return figure


def sweeps(data):
    """Figures 5 and 6: accuracy by a hyperparameter, on a logarithmic axis."""
    figure, panels = _panels(data)
    for axis, panel in panels:
        for label, points in panel.items():
            axis.plot(*np.array(points).T, marker="o", ms=3, label=label)
        axis.set_xscale("log")
        _label(axis, data["x"])
    _legend(figure, panels)
    return figure


def growing_epochs(data):
    """Accuracy by epochs, a panel for each method, and saturated units."""
    panels = {}
    for row in data["rows"]:
        mean = row["mean"]
        shown = {name: mean[name] for name in ("clean", *data["attacks"])}
        shown["worst case"] = mean["worst_case"]
        shown["units at ±1"] = mean["saturated"]
        lines = panels.setdefault(row["method"], {})
        for label, value in shown.items():
            if value is not None:
                lines.setdefault(label, []).append([row["epochs"], 100 * value])
    figure, panels = _panels({"panels": panels})
    for axis, panel in panels:
        for label, points in panel.items():
            style = _EPOCH_STYLES.get(label, {})
            axis.plot(
                *np.array(points).T, marker="o", ms=3, label=label, **style
            )
        axis.set_xscale("log")
        epochs = sorted({x for points in panel.values() for x, _ in points})
        axis.set_xticks(epochs, [str(epoch) for epoch in epochs])
        axis.minorticks_off()
        _label(axis, "epochs", "accuracy, share of units (%)")
    _legend(figure, panels)
    return figure


def compare_heads(data):
    """What heads add to the worst case of the ordinary one, with intervals."""
    panels = {}
    for row in data["rows"]:
        panel = panels.setdefault(row["defense"], {})
        if "against" in row:
            panel[row["variant"]] = row["against"]["worst case"]
    figure, panels = _panels({"panels": panels}, beside=0)
    for axis, panel in panels:
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


def _label(axis, x, y="accuracy (%)"):
    axis.set(xlabel=x, ylabel=y, ylim=(-3, 103))
    axis.grid(alpha=0.3)


def _legend(figure, panels):
    """One legend of all lines, each of which may be in some panels only."""
    lines = {}
    for axis, _ in panels:
        handles, labels = axis.get_legend_handles_labels()
        lines = {**dict(zip(labels, handles, strict=True)), **lines}
    figure.legend(
        lines.values(),
        lines.keys(),
        loc="outside right center",
        fontsize=8,
        frameon=False,
    )
