"""AutoAttack, and attacks by name.

Sources: Croce and Hein, "Reliable evaluation of adversarial robustness with an
ensemble of diverse parameter-free attacks" (ICML 2020); Xu, Li and Yang,
"Improve Adversarial Robustness via Weight Penalization on Classification
Layer", section 4 and Table 1.
"""

import dataclasses

from keras_wp import attacks
from keras_wp._checks import check_at_least, check_one_of, check_positive
from keras_wp._kinds import BUDGETS, KINDS, STANDARD_TARGETS
from keras_wp._names import read
from keras_wp.attacks.apgd import APGD
from keras_wp.attacks.fab import FAB
from keras_wp.attacks.in_turn import Suite
from keras_wp.attacks.square import Square
from keras_wp.attacks.surrogate import drawn

# The standard version of Croce and Hein's package.
STEPS, QUERIES, TARGETS = 100, 5000, STANDARD_TARGETS
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
            shared["surrogate"] = drawn(self.surrogate, RAND_DRAWS)
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
            name="FAB-T",
            **shared,
        )
        square = Square(
            # The package runs the schedule for 10,000 queries as it is.
            steps=self.queries,
            rescale_schedule=False,
            name="Square",
            **shared,
        )
        return apgd, apgd_t, fab_t, square

    @property
    def default_name(self):
        version = "rand" if self.version == "rand" else ""
        return self._called("AutoAttack", version=version)


def get(name, dataset="cifar10"):
    """An attack by its name.

    A name is a kind, and what is not the default: a number of steps, `x` and
    a number of restarts, options after dashes (a loss, a norm, `t` or `t4`
    for so many targets, `targeted`, `rand`, `published`), and arguments after
    a colon, with commas:

    `"fgsm"`, `"fgsm-l2"`, `"pgd40"`, `"pgd20x5-margin"`,
    `"pgd:steps=50,restarts=3"`, `"apgd"`, `"apgd-dlr"`, `"apgd-t"`,
    `"mta:loss=margin"`, `"square:queries=1000"`, `"fab"`, `"fab-t"`,
    `"deepfool"`, `"cw"`, `"autoattack"`, `"autoattack:version=rand"`.

    Labels in reports are such names. Steps of PGD and MTA are as long as the
    classes have them, `2.5 * eps / steps`, whatever `eps` is. The set-ups of
    the paper's Tables 1 and 2, whose steps are of 0.0031 or 0.01 for every
    `eps`, are `"pgd20-paper"`, and so on with 10, 40, 50, 100 and 200, and
    `"mta100-paper"` and `"mta200-paper"`; `"cw1000"` and `"deepfool50"` are as
    in the paper in any case.

    Args:
        name: The name.
        dataset: `"mnist"`, `"mnist5k"`, `"cifar10"` or `"cifar100"`: unless
            the name says `eps`, the budget is that of the paper's section 4,
            for l-infinity 0.3 on MNIST and 8/255 on CIFAR, for l2 3 on MNIST
            and 1 on CIFAR.

    Returns:
        An `Attack`. `dataclasses.replace` changes what should differ.

    Raises:
        ValueError: If there is no such attack, argument, or data set.

    Example:

    >>> keras_wp.attacks.get("pgd40", dataset="mnist").eps
    0.3
    """
    check_one_of(BUDGETS, dataset=dataset)
    kind, fields = read(name)
    made_by = getattr(attacks, KINDS[kind].made_by)
    norm = fields.get("norm", made_by.norm)
    return made_by(**{"eps": BUDGETS[dataset][norm], **fields})
