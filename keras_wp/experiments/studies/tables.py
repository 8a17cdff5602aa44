"""Tables 2 to 5 of the paper: every row trained and attacked, side by side.

    python -m keras_wp.experiments table --table=4 --preset=cpu

The paper's numbers, marked as cited, stand beside ours, and the worst case over
all the attacks. All of our rows are trained with the recipe of the paper's
section 4; those of the compared defenses in Table 2 are cited there from their
own papers.

Source: Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization
on Classification Layer".
"""

import dataclasses
import re

from keras_wp.experiments.options import place
from keras_wp.experiments.studies.study import Study, attacked

# The networks of the compared defenses end in a ReLU and an ordinary layer.
ORDINARY = {"head": "plain", "activation": "relu"}
METHODS = {
    "AdvTraining": {"defense": "at", **ORDINARY},
    "TRADES": {"defense": "trades", **ORDINARY},
    "MART": {"defense": "mart", **ORDINARY},
    "MMC": {"head": "mmc"},
    "Ours": {},
    "Ours with AdvTraining": {"defense": "at"},
}
# Where a method has a network of its own.
_NETWORKS = {("2", "MMC"): {"network": "resnet32"}}
# The paper's accuracies in percent. To each table we add PGD on the margin,
# which large or saturating logits do not fool; a row without numbers is ours.
_CITED = """
2  cifar10_wrn  CIFAR-10, WRN-34-10 (MMC: ResNet-32)
method       clean  PGD20  PGD10  PGD50  DeepFool    C&W
AdvTraining  87.30  47.04  -      -      -           -
MART         84.17  58.56  -      -      -           -
MMC          92.70  -      36.00  24.80  -           -
TRADES       84.92  56.61  -      -      61.38       81.24
Ours         94.10  78.40  -      -      79.92       83.42

3  cifar100_wrn  CIFAR-100, WRN-34-10
method       clean  PGD20  PGD100  DeepFool    C&W
Ours         73.84  47.17  46.47   55.21       54.82

4  mnist_small_cnn  MNIST, small network
method       clean  PGD40  PGD200  DeepFool    C&W     MTA200
AdvTraining  99.47  96.38  94.58   96.79       39.82   98.57
MMC          89.55  35.98  34.91   34.12       2.08    12.40
Ours         99.39  81.90  80.39   97.28       97.95   88.31
Ours with AdvTraining

5  cifar10_small_cnn  CIFAR-10, small network
method       clean  PGD20  PGD100  DeepFool    C&W     MTA100
AdvTraining  68.81  21.36  18.94   24.68       10.91   57.15
MMC          73.30  39.23  38.96   16.86       1.49    25.96
Ours         81.43  57.11  56.22   59.11       59.11   64.88
Ours with AdvTraining
"""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper, and the experiment behind it."""

    number: str
    script: str
    title: str
    attacks: dict  # {name: heading}
    rows: dict  # {method: {"clean" or an attack: percent}}, as far as cited


def _read(text):
    lines = [re.split("  +", line) for line in text.splitlines()]
    about, (_, clean, *headings), *rows = lines
    # PGD and MTA have the paper's step sizes.
    names = [_NAMES.get(h, f"{h.lower()}-paper") for h in headings]
    attacks = dict(zip(names, headings, strict=True))
    attacks[f"{names[0]}-margin"] = f"{headings[0]}, margin"
    cited = {
        method: {
            name: float(value)
            for name, value in zip([clean, *names], values, strict=False)
            if value != "-"
        }
        for method, *values in rows
    }
    return Table(*about, attacks, cited)


_NAMES = {"DeepFool": "deepfool50", "C&W": "cw1000"}
TABLES = {
    table.number: table for table in map(_read, _CITED.strip().split("\n\n"))
}
# How often both sets are attacked in training, for Figures 4 and 7.
_ROBUST_EVERY = {"paper": 20, "gpu": 5, "cpu": 1, "smoke": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper(Study):
    """A table or a figure of the paper; its number is the field so called."""

    @property
    def number(self):
        return getattr(self, self.kind)

    def checked(self):
        if self.number is None:
            field = type(self).__dataclass_fields__[self.kind]
            known = ", ".join(field.metadata["choices"])
            raise SystemExit(f"--{self.kind} must be given, one of {known}.")
        return self

    def short_name(self, more):
        return f"{self.number}-{self.preset}"

    def experiment(self, name, script, **fields):
        """An experiment at the study's size; `name` is a name in the paper."""
        if script.endswith("small_cnn"):
            fields["robust_every"] = _ROBUST_EVERY[self.preset]
        if script.startswith("mnist"):
            # Few epochs do not resist the paper's 0.3: show 0.1 as well.
            few = self.preset in ("cpu", "smoke")
            fields["eps"] = ("0.1", "0.3") if few else ("0.3",)
            if self.preset == "paper":
                fields["eval_images"] = 0
        return super().experiment(slug(name), script, **fields)

    def row(self, table, method):
        """The experiment behind a row of a table."""
        fields = _NETWORKS.get((table.number, method), {}) | METHODS[method]
        attacks = tuple(table.attacks)
        return self.experiment(method, table.script, attacks=attacks, **fields)


def slug(text):
    """A text as part of a folder's name."""
    return text.lower().replace(" ", "-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables(Paper):
    """A table of the paper."""

    kind = "table"
    table: str | None = place(None, "Its number.", tuple(TABLES))

    def experiments(self):
        table = TABLES[self.table]
        return {method: self.row(table, method) for method in table.rows}

    def result(self, runs):
        table = TABLES[self.table]
        return {
            "table": self.table,
            "title": table.title,
            "headings": [*table.attacks.values()],
            "rows": [
                {
                    "method": m,
                    "cited": cited,
                    "measured": measure(table, runs[m]),
                }
                for m, cited in table.rows.items()
            ],
        }


def measure(table, run):
    """Our numbers for a row, accuracies in percent."""
    report = run.report()
    by_budget = {
        f"worst case, {norm} {eps:.4g}": report.robust(norm, eps).mean()
        for norm, eps in report.budgets
    }
    return {
        "command": run.record()["command"],
        "images": len(report),
        "clean": 100 * report.clean_accuracy,
        "attacks": attacked(report, table.attacks, unit=100),
        "adaptive": any(r.name == "adaptive" for r in report.results),
        "worst_case": 100 * report.robust_accuracy,
        "worst_case_by_budget": {
            name: 100 * float(share) for name, share in by_budget.items()
        },
    }
