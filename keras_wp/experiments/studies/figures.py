"""Figures 3 to 7 of the paper, drawn from experiments run here.

    python -m keras_wp.experiments figure --figure=4 --preset=cpu

The figures of the paper are on CIFAR-10 (and MNIST, in Figures 5 and 6); those
of `--preset=cpu` are on MNIST.
"""

import dataclasses
from collections.abc import Callable

from keras_wp.experiments.options import place
from keras_wp.experiments.studies.tables import ORDINARY, TABLES, Paper

ACTIVATIONS = {
    "ReLU": "relu",
    "PReLU": "prelu",
    "LeakyReLU": "leaky_relu",
    "Tanh": "tanh",
}
# The paper does not list its values of alpha and s.
_SWEPT = {
    "alpha": (1, 10, 100, 1000),
    "s": (0.01, 0.1, 1, 10),
    "activation": tuple(ACTIVATIONS.values()),
}
_SWEPT_BY = {
    "cpu": {**_SWEPT, "alpha": (1, 100), "s": (0.1, 1)},
    "smoke": {**_SWEPT, "alpha": (1, 100), "s": (0.1,)},
}
# Points of Figure 3.
POINTS = {"paper": 10_000, "gpu": 2000, "cpu": 1000, "smoke": 20}
ATTACK = {"cifar10_small_cnn": "pgd20-paper", "mnist_small_cnn": "pgd40-paper"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures(Paper):
    """A figure of the paper."""

    kind = "figure"
    figure: str | None = place(None, "Its number.", ("3", "4", "5", "6", "7"))

    def experiments(self):
        return FIGURES[self.figure].experiments(self)

    def result(self, runs):
        figure = FIGURES[self.figure]
        return {"title": figure.title, **figure.result(self, runs)}

    @property
    def script(self):
        """The experiment behind figures that are on one data set."""
        small = self.preset == "cpu"
        return "mnist_small_cnn" if small else "cifar10_small_cnn"

    def small(self, script=None, **given):
        """A small network under one attack, named by its fields."""
        script = script or self.script
        name = "-".join(f"{key}-{value}" for key, value in given.items())
        return self.experiment(name, script, attacks=(ATTACK[script],), **given)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A figure of a few trainings, and its `result` of the study and the runs.

    A training has fields of a small network, or is a method of the table on the
    study's data.
    """

    title: str
    trained: dict
    result: Callable

    def experiments(self, study):
        table = TABLES["4" if study.script.startswith("mnist") else "5"]
        return {
            label: study.row(table, what)
            if isinstance(what, str)
            else study.small(**what)
            for label, what in self.trained.items()
        }


def _embedded(study, runs):
    from keras_wp.experiments.studies.features import embed

    count = POINTS[study.preset]
    return {"panels": {k: embed(run, count) for k, run in runs.items()}}


def _curves(**panels):
    """Accuracies by epoch; `panels` are keys of the history."""

    def curve(history, key):
        return [
            [epoch, round(100 * record[key], 2)]
            for epoch, record in enumerate(history, start=1)
            if key in record
        ]

    def result(study, runs):
        found = {f"{panel} accuracy": {} for panel in panels}
        for label, run in runs.items():
            history = run.read("history.json")
            for panel, key in panels.items():
                found[f"{panel} accuracy"][label] = {
                    "training": curve(history, key),
                    "test": curve(history, f"val_{key}"),
                }
        first, *_ = runs.values()
        return {"panels": found, "attack": _first_attack(first.report())}

    return result


def _first_attack(report):
    """The attack of the curves: the first one, at the smallest budget."""
    first = report.results[0]
    return f"{first.name}, {first.norm} {first.eps:.3g}"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Accuracies over the field `x`, a line for each value of another."""

    title: str
    x: str
    line: str

    def experiments(self, study):
        values = _SWEPT_BY.get(study.preset, _SWEPT)
        few = study.preset == "cpu"
        return {
            (script, line, x): study.small(
                script, **{self.x: x, self.line: line}
            )
            for script in ("mnist_small_cnn", "cifar10_small_cnn")[: 2 - few]
            for line in values[self.line]
            for x in values[self.x]
        }

    def result(self, study, runs):
        panels = {}
        for (script, line, x), run in runs.items():
            report, data = run.report(), script.partition("_")[0]
            robust = report.results[0].robust_accuracy
            for name, accuracy in (
                (f"{data}, clean", report.clean_accuracy),
                (f"{data}, {_first_attack(report)}", robust),
            ):
                lines = panels.setdefault(name, {})
                points = lines.setdefault(f"{self.line} = {line}", [])
                points.append([x, round(100 * accuracy, 2)])
        return {"panels": panels, "x": self.x}


FIGURES = {
    "3": Trained(
        "t-SNE of the features, by activation.",
        {
            "(a) softmax loss": ORDINARY,
            "(b) weight penalty, ReLU": {"activation": "relu"},
            "(c) weight penalty, Tanh": {"activation": "tanh"},
        },
        _embedded,
    ),
    "4": Trained(
        "Training curves of three defenses, under attack.",
        {"AT": "AdvTraining", "MMC": "MMC", "Ours": "Ours"},
        _curves(robust="robust_accuracy"),
    ),
    "5": Sweep("Accuracy by alpha and s.", "alpha", "s"),
    "6": Sweep("Accuracy by s and activation.", "s", "activation"),
    "7": Trained(
        "Training curves by activation.",
        {label: {"activation": name} for label, name in ACTIVATIONS.items()},
        _curves(clean="accuracy", robust="robust_accuracy"),
    ),
}
