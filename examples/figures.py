"""Figures 3 to 7 of the paper, drawn from experiments run here.

    python examples/figures.py --figure=4 --preset=cpu

trains and attacks what the figure needs, and writes `figure-4-cpu.json`, with
the numbers and what they depend on, and the same as PNG and PDF. The figures
of the paper are on CIFAR-10 (and MNIST, in Figures 5 and 6); those of
`--preset=cpu` are on MNIST.

What is finished is not run again. Flags after `--` go to the experiments, as
in `-- --distribute=mirrored`.
"""

import pathlib

import _results
import _runs
from _paper import ORDINARY, TABLES, scaled, slug
from absl import app, flags

FLAGS = flags.FLAGS
_runs.define_flags()
flags.DEFINE_enum(
    "figure", None, ["3", "4", "5", "6", "7"], "Number.", required=True
)

ACTIVATIONS = {
    "ReLU": "relu",
    "PReLU": "prelu",
    "LeakyReLU": "leaky_relu",
    "Tanh": "tanh",
}
# The paper does not list its values of alpha and s.
SWEEP = {
    "paper": {"alpha": (1, 10, 100, 1000), "s": (0.01, 0.1, 1, 10)},
    "gpu": {"alpha": (1, 10, 100, 1000), "s": (0.01, 0.1, 1, 10)},
    "cpu": {"alpha": (1, 100), "s": (0.1, 1)},
    "smoke": {"alpha": (1, 100), "s": (0.1,)},
}
# Points of Figure 3.
POINTS = {"paper": 10_000, "gpu": 2000, "cpu": 1000, "smoke": 20}
ATTACK = {"cifar10_small_cnn": "pgd20", "mnist_small_cnn": "pgd40"}


def script():
    """The experiment behind figures that are on one data set."""
    return "mnist_small_cnn" if FLAGS.preset == "cpu" else "cifar10_small_cnn"


def experiment(script, **given):
    """A small network under one attack, named by its flags."""
    name = "-".join(f"{key}-{value}" for key, value in given.items())
    flags = scaled({"attacks": ATTACK[script], **given}, script)
    return _runs.Experiment(slug(name), script, flags)


def figure_3(more):
    """t-SNE of the features, by activation."""
    runs = {
        "(a) softmax loss": experiment(script(), **ORDINARY),
        "(b) weight penalty, ReLU": experiment(script(), activation="relu"),
        "(c) weight penalty, Tanh": experiment(script(), activation="tanh"),
    }
    _runs.run(list(runs.values()), more)
    from _features import embed

    panels = {
        title: embed(run, POINTS[FLAGS.preset]) for title, run in runs.items()
    }
    return runs, {"panels": panels}


def figure_4(more):
    """Training curves of three defenses, under attack."""
    table = TABLES["4" if script().startswith("mnist") else "5"]
    shown = {"AT": "AdvTraining", "MMC": "MMC", "Ours": "Ours"}
    rows = {row.method: row for row in table.rows}
    runs = {
        label: table.experiment(rows[method]) for label, method in shown.items()
    }
    _runs.run(list(runs.values()), more)
    keys = {"training": "robust_accuracy", "test": "val_robust_accuracy"}
    return runs, curves(runs, {"robust accuracy": keys})


def figure_5(more):
    """Accuracy by alpha and s."""
    values = SWEEP[FLAGS.preset]
    return sweep(more, "alpha", values["alpha"], "s", values["s"])


def figure_6(more):
    """Accuracy by s and activation."""
    values = SWEEP[FLAGS.preset]["s"]
    return sweep(more, "s", values, "activation", ACTIVATIONS.values())


def figure_7(more):
    """Training curves by activation."""
    runs = {
        label: experiment(script(), activation=name)
        for label, name in ACTIVATIONS.items()
    }
    _runs.run(list(runs.values()), more)
    keys = {
        "clean accuracy": {"training": "accuracy", "test": "val_accuracy"},
        "robust accuracy": {
            "training": "robust_accuracy",
            "test": "val_robust_accuracy",
        },
    }
    return runs, curves(runs, keys)


FIGURES = {
    "3": figure_3,
    "4": figure_4,
    "5": figure_5,
    "6": figure_6,
    "7": figure_7,
}


def curves(runs, panels):
    """`{panel: {run: {set: [[epoch, percent], ...]}}}` from the histories."""
    found = {}
    for panel, keys in panels.items():
        found[panel] = {
            label: {
                part: [
                    [epoch, round(100 * record[key], 2)]
                    for epoch, record in enumerate(run.history(), start=1)
                    if key in record
                ]
                for part, key in keys.items()
            }
            for label, run in runs.items()
        }
    return {"panels": found, "attack": attacked(next(iter(runs.values())))}


def attacked(run):
    """The attack of the curves: the first one, at the smallest budget."""
    first = run.report()["results"][0]
    return f"{first['name']}, {first['norm']} {first['eps']:.3g}"


def sweep(more, x_flag, x_values, line_flag, line_values):
    """Clean and robust accuracy over one flag, a line for each of another."""
    scripts = ["mnist_small_cnn"]
    if FLAGS.preset != "cpu":
        scripts.append("cifar10_small_cnn")
    runs = {
        (script, line, x): experiment(script, **{x_flag: x, line_flag: line})
        for script in scripts
        for line in line_values
        for x in x_values
    }
    _runs.run(list(runs.values()), more)
    panels = {}
    for (script, line, x), run in runs.items():
        report = run.report()
        data = script.partition("_")[0]
        points = {
            f"{data}, clean": report["clean_accuracy"],
            f"{data}, {attacked(run)}": report["results"][0]["robust_accuracy"],
        }
        for panel, accuracy in points.items():
            lines = panels.setdefault(panel, {})
            label = f"{line_flag} = {line}"
            lines.setdefault(label, []).append([x, round(100 * accuracy, 2)])
    runs = {str(key): run for key, run in runs.items()}
    return runs, {"panels": panels, "x": x_flag}


def main(argv):
    figure = FIGURES[FLAGS.figure]
    runs, data = figure(argv[1:])
    path = pathlib.Path(FLAGS.output_dir)
    path = path / f"figure-{FLAGS.figure}-{FLAGS.preset}"
    record = _runs.records(list(runs.values()))
    _results.write(path, {**record, "title": figure.__doc__, **data})


if __name__ == "__main__":
    app.run(main)
