"""AutoAttack, and the attacks of the paper's Table 1 by name.

Sources: Croce and Hein, "Reliable evaluation of adversarial robustness with an
ensemble of diverse parameter-free attacks" (ICML 2020); Xu, Li and Yang,
"Improve Adversarial Robustness via Weight Penalization on Classification
Layer", section 4 and Table 1.
"""

import dataclasses
from typing import NamedTuple

from keras_wp._checks import check_at_least, check_one_of, check_positive
from keras_wp.attacks.apgd import APGD
from keras_wp.attacks.carlini_wagner import CarliniWagner
from keras_wp.attacks.deepfool import DeepFool
from keras_wp.attacks.fab import FAB
from keras_wp.attacks.in_turn import Suite
from keras_wp.attacks.multi_target import MultiTarget
from keras_wp.attacks.pgd import FGSM, PGD
from keras_wp.attacks.square import Square
from keras_wp.attacks.surrogate import Surrogate

# The standard version of Croce and Hein's package.
STEPS, QUERIES, TARGETS = 100, 5000, 9
VERSIONS = ("standard", "rand")
# Draws for a gradient in the version for randomized models.
RAND_DRAWS = 20


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class AutoAttack(Suite):
    """The standard suite of AutoAttack: four attacks, on survivors only.

    In this order: `APGD` on the cross-entropy; `APGD` on the targeted DLR
    loss, for the 9 likeliest wrong classes; `FAB`, for the same classes; and
    `Square`. Each attacks the images that have resisted those before it, with
    one run. With fewer than 10 classes, all wrong ones are targets; with fewer
    than 4, for which the DLR loss is not defined, its margin takes its place.

    For a randomized model there is the version `"rand"`: `APGD` on the
    cross-entropy and on the untargeted DLR loss, with gradients and logits
    that are means over 20 draws.

    Args:
        eps: Radius of the ball, above 0, in the units of the images.
        norm: `"linf"` or `"l2"`.
        steps: Number of iterations of a run of APGD and of FAB, at least 1.
            The standard is 100.
        queries: Number of steps of Square, at least 1. The standard is 5000.
        version: `"standard"` or `"rand"`.
        bounds: Lowest and highest value of a pixel.
        seed: Integer; with the image, it determines all random numbers.
        name: How reports call the suite. Where `steps` or `queries` are not
            the standard, the default says so.

    Raises:
        ValueError: If an argument is out of range.

    Source: Croce and Hein, ICML 2020, section 6, and the standard version of
    the authors' package.

    Example:

    >>> x_adv = keras_wp.attacks.AutoAttack(eps=8 / 255)(model, x, y)
    """

    eps: float
    steps: int = STEPS
    queries: int = QUERIES
    version: str = "standard"

    def __post_init__(self):
        super().__post_init__()
        check_one_of(VERSIONS, version=self.version)
        check_positive(eps=self.eps)
        check_at_least(1, steps=self.steps, queries=self.queries)

    @property
    def parts(self):
        shared = {
            "eps": self.eps,
            "norm": self.norm,
            "bounds": self.bounds,
            "seed": self.seed,
            "surrogate": self.surrogate,
        }
        if self.version == "rand":
            drawn = self.surrogate or Surrogate(draws=RAND_DRAWS)
            if drawn.copies == 1:
                drawn = dataclasses.replace(drawn, draws=RAND_DRAWS)
            shared["surrogate"] = drawn
            return tuple(
                APGD(loss=loss, steps=self.steps, **shared)
                for loss in ("cross_entropy", "dlr")
            )
        apgd = APGD(loss="cross_entropy", steps=self.steps, **shared)
        apgd_t = APGD(loss="dlr", targets=TARGETS, steps=self.steps, **shared)
        fab_t = FAB(
            targets=TARGETS,
            steps=self.steps,
            final_search=0,
            early_stop=True,
            **shared,
        )
        square = Square(
            # The package runs the schedule for 10,000 queries as it is.
            steps=self.queries,
            rescale_schedule=False,
            **shared,
        )
        return apgd, apgd_t, fab_t, square

    @property
    def default_name(self):
        norm = "" if self.norm == "linf" else f"-{self.norm}"
        norm += "-rand" if self.version == "rand" else ""
        if (self.steps, self.queries) == (STEPS, QUERIES):
            return f"AutoAttack{norm}"
        return f"AutoAttack({self.steps}, {self.queries}){norm}"


class _Budget(NamedTuple):
    linf: float
    l2: float


_MNIST = _Budget(linf=0.3, l2=3.0)
_CIFAR = _Budget(linf=8 / 255, l2=1.0)
_BUDGETS = {
    "mnist": _MNIST,
    "mnist5k": _MNIST,
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}

# Table 1: number of iterations and step size.
_SETUPS = {
    "fgsm": lambda budget: FGSM(eps=budget.linf),
    "pgd20": lambda budget: PGD(eps=budget.linf, steps=20, step_size=0.0031),
    "pgd40": lambda budget: PGD(eps=budget.linf, steps=40, step_size=0.01),
    "pgd100": lambda budget: PGD(eps=budget.linf, steps=100, step_size=0.0031),
    "pgd200": lambda budget: PGD(eps=budget.linf, steps=200, step_size=0.01),
    "cw1000": lambda budget: CarliniWagner(
        eps=budget.l2, steps=1000, learning_rate=0.01
    ),
    "mta100": lambda budget: MultiTarget(
        eps=budget.linf, steps=100, step_size=0.0031
    ),
    "mta200": lambda budget: MultiTarget(
        eps=budget.linf, steps=200, step_size=0.01
    ),
    "deepfool50": lambda budget: DeepFool(
        eps=budget.linf, steps=50, overshoot=0.02
    ),
    "autoattack": lambda budget: AutoAttack(eps=budget.linf),
}
NAMES = tuple(_SETUPS)


def get(name, dataset="cifar10"):
    """One of the paper's attacks, as set up in its Table 1, or of two others.

    The others are FGSM and AutoAttack, which the table does not have. Budgets
    are those of section 4: for l-infinity 0.3 on MNIST and 8/255 on CIFAR, for
    l2 (`"cw1000"`) 3 on MNIST and 1 on CIFAR.

    Args:
        name: `"fgsm"`, `"pgd20"`, `"pgd40"`, `"pgd100"`, `"pgd200"`,
            `"cw1000"`, `"mta100"`, `"mta200"`, `"deepfool50"` or
            `"autoattack"`.
        dataset: `"mnist"`, `"mnist5k"`, `"cifar10"` or `"cifar100"`.

    Returns:
        An `Attack`. `dataclasses.replace` changes what should differ.

    Raises:
        ValueError: If there is no such name or data set.

    Example:

    >>> keras_wp.attacks.get("pgd40", dataset="mnist").eps
    0.3
    """
    budget = _look_up(_BUDGETS, dataset=dataset)
    return _look_up(_SETUPS, name=name)(budget)


def _look_up(table, **argument):
    check_one_of(table, **argument)
    (value,) = argument.values()
    return table[value]
