"""Figures 3 to 7 of the paper, drawn from experiments run here.

    python -m keras_wp.experiments figure --figure=4 --preset=cpu

trains and attacks what the figure needs, and writes `results/figure/4-cpu`:
the numbers and what they depend on as JSON, and the same as PNG and PDF. The
figures of the paper are on CIFAR-10 (and MNIST, in Figures 5 and 6); those of
`--preset=cpu` are on MNIST.

What is finished is not run again. Flags after `--` go to the experiments, as
in `-- --distribute=mirrored`.
"""

import dataclasses

from keras_wp.experiments import options
from keras_wp.experiments.options import option
from keras_wp.experiments.studies import queue
from keras_wp.experiments.studies.paper import ORDINARY, TABLES, scaled, slug
from keras_wp.experiments.studies.study import Study

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
ATTACK = {"cifar10_small_cnn": "pgd20-paper", "mnist_small_cnn": "pgd40-paper"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures(Study):
    """A figure of the paper."""

    figure: str | None = option(None, "Its number.", ("3", "4", "5", "6", "7"))

    @property
    def script(self):
        """The experiment behind figures that are on one data set."""
        small = self.preset == "cpu"
        return "mnist_small_cnn" if small else "cifar10_small_cnn"


def experiment(study, script, **given):
    """A small network under one attack, named by its fields."""
    name = "-".join(f"{key}-{value}" for key, value in given.items())
    fields = {"attacks": (ATTACK[script],), **given}
    fields = scaled(fields, script, study.preset)
    return queue.Experiment(study, slug(name), script, fields)


def figure_3(study, more):
    """t-SNE of the features, by activation."""
    runs = {
        "(a) softmax loss": experiment(study, study.script, **ORDINARY),
        "(b) weight penalty, ReLU": experiment(
            study, study.script, activation="relu"
        ),
        "(c) weight penalty, Tanh": experiment(
            study, study.script, activation="tanh"
        ),
    }
    queue.run(list(runs.values()), more)
    from keras_wp.experiments.studies.features import embed

    panels = {
        title: embed(run, POINTS[study.preset]) for title, run in runs.items()
    }
    return runs, {"panels": panels}


def figure_4(study, more):
    """Training curves of three defenses, under attack."""
    table = TABLES["4" if study.script.startswith("mnist") else "5"]
    shown = {"AT": "AdvTraining", "MMC": "MMC", "Ours": "Ours"}
    rows = {row.method: row for row in table.rows}
    runs = {
        label: table.experiment(study, rows[method])
        for label, method in shown.items()
    }
    queue.run(list(runs.values()), more)
    keys = {"training": "robust_accuracy", "test": "val_robust_accuracy"}
    return runs, curves(runs, {"robust accuracy": keys})


def figure_5(study, more):
    """Accuracy by alpha and s."""
    values = SWEEP[study.preset]
    x, lines = ("alpha", values["alpha"]), ("s", values["s"])
    return sweep(study, more, x, lines)


def figure_6(study, more):
    """Accuracy by s and activation."""
    x = "s", SWEEP[study.preset]["s"]
    return sweep(study, more, x, ("activation", ACTIVATIONS.values()))


def figure_7(study, more):
    """Training curves by activation."""
    runs = {
        label: experiment(study, study.script, activation=name)
        for label, name in ACTIVATIONS.items()
    }
    queue.run(list(runs.values()), more)
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


def sweep(study, more, x, lines):
    """Clean and robust accuracy over one field, a line for each of another.

    Args:
        study: The `Figures`.
        more: Flags to add to each experiment.
        x: The field's name, and its values.
        lines: The same of the other field.
    """
    (x_flag, x_values), (line_flag, line_values) = x, lines
    scripts = ["mnist_small_cnn"]
    if study.preset != "cpu":
        scripts.append("cifar10_small_cnn")
    runs = {
        (script, line, x): experiment(
            study, script, **{x_flag: x, line_flag: line}
        )
        for script in scripts
        for line in line_values
        for x in x_values
    }
    queue.run(list(runs.values()), more)
    panels = {}
    for (script, line, x), run in runs.items():
        report = run.report()
        data = script.partition("_")[0]
        points = {
            f"{data}, clean": report["clean_accuracy"],
            f"{data}, {attacked(run)}": report["results"][0]["robust_accuracy"],
        }
        for panel, accuracy in points.items():
            drawn = panels.setdefault(panel, {})
            label = f"{line_flag} = {line}"
            drawn.setdefault(label, []).append([x, round(100 * accuracy, 2)])
    runs = {str(key): run for key, run in runs.items()}
    return runs, {"panels": panels, "x": x_flag}


def command(argv):
    """`figure`."""
    options.run(_main, Figures(), argv)


def _main(study, given, more):
    study = dataclasses.replace(study, **given)
    study.require("figure")
    figure = FIGURES[study.figure]
    runs, data = figure(study, more)
    record = queue.records(list(runs.values()))
    result = {**record, "title": figure.__doc__, **data}
    study.write("figure", f"{study.figure}-{study.preset}", result)
