"""The multi-target attack: features drawn to one wrong class after another.

Source: Tramèr, Carlini, Brendel and Madry, "On adaptive attacks to
adversarial example defenses" (NeurIPS 2020), on the Max-Mahalanobis center
loss.
"""

import dataclasses
import hashlib
from typing import ClassVar

import numpy as np
from keras import ops

from keras_wp import norms, objectives
from keras_wp._checks import check_at_least, check_one_of, check_positive
from keras_wp.attacks.base import Attack
from keras_wp.attacks.pgd import check_runs, step_size
from keras_wp.inspection import features

LOSSES = ("center", "class_mean", "margin")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class MultiTarget(Attack):
    """Projected gradient descent towards each wrong class in turn.

    For every wrong class `t`, the likeliest on the clean image first, a run
    of `steps` steps
    `x <- clip(project(x - step_size * direction))` lowers one of

    - `"center"`: `||z(x) - mu_t||_2^2`, with `z` the features that the last
      layer sees and `mu_t` its center for the class. If the last layer is
      linear instead, its class weights less their mean stand for the
      centers, and they and the features are scaled to unit length first:
      what is lowered is the angle between the two.
    - `"class_mean"`: `||z(x) - m_t||_2^2`, with `m_t` the mean features of
      the class.
    - `"margin"`: `max_{j != t} z_j - z_t` of the logits.

    An image is done as soon as it is misclassified, as whatever class.

    Args:
        eps: Radius of the ball, above 0, in the units of the images.
        steps: Number of steps in a run, at least 1.
        step_size: Length of a step in the norm, above 0. Defaults to
            `2.5 * eps / steps`.
        loss: `"center"`, `"class_mean"` or `"margin"`.
        class_means: For `"class_mean"`, the means `(K, P)`: see
            `keras_wp.inspection.features.class_means`.
        targets: How many of the wrong classes to aim at, the likeliest ones;
            at least 1. Defaults to all.
        random_start: Whether to start at a random point of the ball, instead
            of at the image.
        restarts: Number of runs for each target, at least 1.
        published_sign: Do as the script does with which published numbers
            were taken: move away from the target's center, from a random
            start for each target, with features and class weights as they
            are, and leave the last point of a run unexamined. For
            reproduction only: these numbers flatter the defence.
        norm: `"linf"` or `"l2"`.
        bounds: Lowest and highest value of a pixel.
        seed: Integer; with the image, it determines the random starts.
        name: How reports call the attack.

    Raises:
        ValueError: If an argument is out of range; when called, if the loss
            needs features and the model has none.

    Source: Tramèr et al., NeurIPS 2020; for `published_sign`, `mta_pgd.py` of
    the code of Xu, Li and Yang.

    Example:

    >>> attack = keras_wp.attacks.MultiTarget(
    ...     eps=8 / 255, steps=100, step_size=0.0031, loss="margin"
    ... )
    >>> x_adv = attack(model, x, y)
    """

    needs_clean_logits: ClassVar[bool] = True

    eps: float
    steps: int
    step_size: float | None = None
    loss: str = "center"
    class_means: object = None
    targets: int | None = None
    random_start: bool = False
    restarts: int = 1
    published_sign: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_positive(eps=self.eps)
        check_runs(self)
        if self.targets is not None:
            check_at_least(1, targets=self.targets)
        check_one_of(LOSSES, loss=self.loss)
        if self.published_sign and self.loss == "margin":
            raise ValueError(
                "`published_sign` is for losses of the features. Received: "
                "published_sign=True, loss='margin'"
            )
        object.__setattr__(self, "class_means", self._frozen_means())

    def _frozen_means(self):
        """The means as tuples, so that attacks can be compared and hashed."""
        if (self.class_means is None) == (self.loss == "class_mean"):
            given = "None" if self.class_means is None else "given"
            raise ValueError(
                "`class_means` must be given for loss='class_mean', and only "
                f"then. Received: class_means {given}, loss={self.loss!r}"
            )
        if self.class_means is None:
            return None
        means = np.asarray(self.class_means, np.float32)
        if means.ndim != 2 or not np.isfinite(means).all():
            raise ValueError(
                "`class_means` must be finite numbers of the shape (K, P). "
                f"Received: shape {means.shape}"
            )
        return tuple(tuple(row) for row in means.tolist())

    def config(self):
        """The attack as plain values, its means as their shape and digest."""
        config = super().config()
        if self.class_means is not None:
            means = np.asarray(self.class_means, np.float32)
            digest = hashlib.blake2b(means.tobytes(), digest_size=8)
            config["class_means"] = {
                "shape": list(means.shape),
                "digest": digest.hexdigest(),
            }
        return config

    @property
    def default_name(self):
        loss = "" if self.loss == "center" else self.loss
        published = "published" if self.published_sign else ""
        # The means fit the model: their loss tells that they were used.
        return self._called(
            f"MTA{self.steps}",
            steps="",
            loss=loss,
            class_means="",
            published_sign=published,
        )

    @property
    def starts_at_x(self):
        return not (self.random_start or self.published_sign)

    @property
    def examines_before_moving(self):
        # Without this the engine takes the last point to be examined.
        return not self.published_sign

    @property
    def reads_features(self):
        return self.loss != "margin"

    def check(self, classifier, images, num_classes):
        super().check(classifier, images, num_classes)
        if self.class_means is not None:
            self._check_classes(num_classes)
            self._check_width(classifier.cut().width, len(self.class_means[0]))

    def _targets(self, num_classes):
        return min(self.targets or num_classes, num_classes - 1)

    def runs(self, num_classes):
        return self._targets(num_classes) * self.restarts

    def init(self, problem, run):
        count = self._targets(problem.clean_logits.shape[-1])
        start = problem.x
        if not self.starts_at_x:
            start = problem.random_point(run, norms.get(self.norm), self.eps)
        return {"x_adv": start, "target": problem.ranked_target(run % count)}

    def step(self, problem, state):
        norm = norms.get(self.norm)
        x = state["x_adv"]
        gradient, logits = self._gradient(problem, state["target"], x)
        moved = x + step_size(self) * norm.steepest(gradient)
        state = {**state, "x_adv": problem.within(moved, norm, self.eps)}
        return state, (x, logits)

    def _gradient(self, problem, target, x):
        """The direction to move in, and the logits at `x`."""
        if self.loss == "margin":
            _, gradient, logits = problem.value_and_grad(
                lambda z, y, _: objectives.targeted_margin(z, y, target), x
            )
            return gradient, logits
        cut = problem.cut()
        if self.loss == "class_mean":
            centers, given = self._means(problem), True
        else:
            centers, given = cut.centers(scaled=not self.published_sign)
        rows = ops.one_hot(target, centers.shape[0], dtype=centers.dtype)
        center = ops.matmul(rows, centers)
        sign = 1.0 if self.published_sign else -1.0

        def objective(values):
            self._check_width(values.shape[-1], center.shape[-1])
            values = values if given else features.unit(values)
            return sign * ops.sum(ops.square(values - center), axis=-1)

        _, gradient, logits = problem.feature_grad(cut, objective, x)
        return gradient, logits

    def _check_width(self, width, columns):
        if width != columns:
            raise ValueError(
                f"The centers must have a column for each of the {width} "
                f"features of the model. Received: {columns} columns"
            )

    def _check_classes(self, classes):
        if len(self.class_means) != classes:
            raise ValueError(
                "`class_means` must have a row for each class of the model, "
                f"which has {classes}. Received: {len(self.class_means)} rows"
            )

    def _means(self, problem):
        self._check_classes(problem.clean_logits.shape[-1])
        return ops.convert_to_tensor(np.asarray(self.class_means, np.float32))
