"""Pictures of what `figures.py` found."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

_SIZE, _LEGEND = 3.2, 1.8  # inches, of a panel and beside the last
_STYLES = {"training": "--", "test": "-"}


def save(figure, path):
    """Write a figure as PNG and PDF; the paths."""
    paths = [path.with_suffix(".png"), path.with_suffix(".pdf")]
    for each in paths:
        figure.savefig(each, dpi=200)
    plt.close(figure)
    return paths


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


def _label(axis, x):
    axis.set(xlabel=x, ylabel="accuracy (%)", ylim=(-3, 103))
    axis.grid(alpha=0.3)


def _legend(figure, panels):
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", fontsize=8, frameon=False
    )
