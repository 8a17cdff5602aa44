"""The paper's tables: which experiment each row is, and what the paper says.

Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
Classification Layer", Tables 2 to 5.
"""

import dataclasses

from keras_wp.experiments.studies.queue import Experiment

# The networks of the compared defenses end in a ReLU and an ordinary layer.
ORDINARY = {"head": "plain", "activation": "relu"}
AT = {"defense": "at", **ORDINARY}
TRADES = {"defense": "trades", **ORDINARY}
MART = {"defense": "mart", **ORDINARY}
MMC = {"head": "mmc"}
OURS = {}
OURS_WITH_AT = {"defense": "at"}

# How often both sets are attacked in training, for Figures 4 and 7.
ROBUST_EVERY = {"paper": 20, "gpu": 5, "cpu": 1, "smoke": 1}
# Few epochs do not resist the paper's 0.3 on digits: show 0.1 as well.
DIGITS_EPS = {
    "paper": ("0.3",),
    "gpu": ("0.3",),
    "cpu": ("0.1", "0.3"),
    "smoke": ("0.1", "0.3"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A defense.

    Attributes:
        method: Its name in the paper.
        fields: What makes it: fields of the `Config`.
        cited: The paper's accuracies in percent: clean, and by attack. Empty
            for a row that the paper does not have.
    """

    method: str
    fields: dict
    cited: dict


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it is about.
        script: The experiment behind it.
        attacks: `{name: heading}`: the paper's, and PGD on the margin,
            which large or saturating logits do not fool.
        rows: The defenses.
    """

    title: str
    script: str
    attacks: dict
    rows: tuple

    def experiment(self, study, row):
        """The experiment behind a row."""
        fields = {"attacks": tuple(self.attacks), **row.fields}
        fields = scaled(fields, self.script, study.preset)
        return Experiment(study, slug(row.method), self.script, fields)


def scaled(fields, script, preset):
    """The fields of an experiment on a small network, at a preset."""
    if script.endswith("small_cnn"):
        fields = {**fields, "robust_every": ROBUST_EVERY[preset]}
    if script.startswith("mnist"):
        fields = {**fields, "eps": DIGITS_EPS[preset]}
        if preset == "paper":
            fields["eval_images"] = 0
    return fields


def slug(text):
    """A text as part of a folder's name."""
    return text.lower().replace(" ", "-")


def _cited(attacks, clean, *accuracies):
    return {"clean": clean, **dict(zip(attacks, accuracies, strict=True))}


_WIDE = ("pgd20-paper", "deepfool50", "cw1000")
_TABLE_3 = ("pgd20-paper", "pgd100-paper", "deepfool50", "cw1000")
_TABLE_4 = (
    "pgd40-paper",
    "pgd200-paper",
    "deepfool50",
    "cw1000",
    "mta200-paper",
)
_TABLE_5 = (
    "pgd20-paper",
    "pgd100-paper",
    "deepfool50",
    "cw1000",
    "mta100-paper",
)

TABLES = {
    "2": Table(
        "CIFAR-10, WRN-34-10 (MMC: ResNet-32)",
        "cifar10_wrn",
        {
            "pgd20-paper": "PGD20",
            "pgd10-paper": "PGD10",
            "pgd50-paper": "PGD50",
            "deepfool50": "DeepFool",
            "cw1000": "C&W",
            "pgd20-paper-margin": "PGD20, margin",
        },
        (
            Row("AdvTraining", AT, {"clean": 87.30, "pgd20-paper": 47.04}),
            Row("MART", MART, {"clean": 84.17, "pgd20-paper": 58.56}),
            Row(
                "MMC",
                {"network": "resnet32", **MMC},
                {"clean": 92.70, "pgd10-paper": 36.00, "pgd50-paper": 24.80},
            ),
            Row("TRADES", TRADES, _cited(_WIDE, 84.92, 56.61, 61.38, 81.24)),
            Row("Ours", OURS, _cited(_WIDE, 94.10, 78.40, 79.92, 83.42)),
        ),
    ),
    "3": Table(
        "CIFAR-100, WRN-34-10",
        "cifar100_wrn",
        {
            "pgd20-paper": "PGD20",
            "pgd100-paper": "PGD100",
            "deepfool50": "DeepFool",
            "cw1000": "C&W",
            "pgd20-paper-margin": "PGD20, margin",
        },
        (
            Row(
                "Ours",
                OURS,
                _cited(_TABLE_3, 73.84, 47.17, 46.47, 55.21, 54.82),
            ),
        ),
    ),
    "4": Table(
        "MNIST, small network",
        "mnist_small_cnn",
        {
            "pgd40-paper": "PGD40",
            "pgd200-paper": "PGD200",
            "deepfool50": "DeepFool",
            "cw1000": "C&W",
            "mta200-paper": "MTA200",
            "pgd40-paper-margin": "PGD40, margin",
        },
        (
            Row(
                "AdvTraining",
                AT,
                _cited(_TABLE_4, 99.47, 96.38, 94.58, 96.79, 39.82, 98.57),
            ),
            Row(
                "MMC",
                MMC,
                _cited(_TABLE_4, 89.55, 35.98, 34.91, 34.12, 2.08, 12.40),
            ),
            Row(
                "Ours",
                OURS,
                _cited(_TABLE_4, 99.39, 81.90, 80.39, 97.28, 97.95, 88.31),
            ),
            Row("Ours with AdvTraining", OURS_WITH_AT, {}),
        ),
    ),
    "5": Table(
        "CIFAR-10, small network",
        "cifar10_small_cnn",
        {
            "pgd20-paper": "PGD20",
            "pgd100-paper": "PGD100",
            "deepfool50": "DeepFool",
            "cw1000": "C&W",
            "mta100-paper": "MTA100",
            "pgd20-paper-margin": "PGD20, margin",
        },
        (
            Row(
                "AdvTraining",
                AT,
                _cited(_TABLE_5, 68.81, 21.36, 18.94, 24.68, 10.91, 57.15),
            ),
            Row(
                "MMC",
                MMC,
                _cited(_TABLE_5, 73.30, 39.23, 38.96, 16.86, 1.49, 25.96),
            ),
            Row(
                "Ours",
                OURS,
                _cited(_TABLE_5, 81.43, 57.11, 56.22, 59.11, 59.11, 64.88),
            ),
            Row("Ours with AdvTraining", OURS_WITH_AT, {}),
        ),
    ),
}
