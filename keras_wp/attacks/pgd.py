"""FGSM and PGD: steps along the gradient of an objective.

Sources: Goodfellow et al., "Explaining and harnessing adversarial examples"
(ICLR 2015); Madry et al., "Towards deep learning models resistant to
adversarial attacks" (ICLR 2018); Zhang et al., "Theoretically principled
trade-off between robustness and accuracy" (ICML 2019).
"""

import abc
import dataclasses
from typing import ClassVar

from keras_wp import _noise, norms, objectives
from keras_wp._checks import check_at_least, check_positive, span
from keras_wp.attacks.base import Attack

# Standard deviation of the normal start, of the range of the bounds.
NORMAL_START = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class GradientAscent(Attack, abc.ABC):
    """Projected steps of steepest ascent: the part that FGSM and PGD share."""

    losses: ClassVar[tuple[str, ...]] = objectives.NAMES

    eps: float
    loss: str = "cross_entropy"
    targeted: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_positive(eps=self.eps)
        objectives.check(self.loss, self.losses)

    @property
    def _loss_if_unusual(self):
        return "" if self.loss == "cross_entropy" else self.loss

    def init(self, problem, run):
        del run
        return {"x_adv": problem.x}

    def _objective(self, problem):
        del problem
        return objectives.get(self.loss, self.targeted)

    def direction(self, problem, state, gradient):
        """Where to go, as a gradient, and the state: `(direction, state)`.

        What momentum and its like override.
        """
        del problem
        return gradient, state

    def _ascend(self, problem, state, step_size):
        norm = norms.get(self.norm)
        objective = self._objective(problem)
        x = state["x_adv"]
        _, gradient, logits = problem.value_and_grad(objective, x)
        direction, state = self.direction(problem, state, gradient)
        moved = x + step_size * norm.steepest(direction)
        state = {**state, "x_adv": problem.within(moved, norm, self.eps)}
        return state, (x, logits)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class FGSM(GradientAscent):
    """The fast gradient (sign) method: one full step.

    For `norm="linf"`, `x_adv = clip(x + eps * sign(grad L(x, y)))`; for
    `"l2"`, the step is `eps * grad / ||grad||_2`.

    Args:
        eps: Radius of the ball, above 0, in the units of the images.
        norm: `"linf"` or `"l2"`.
        loss: `"cross_entropy"`, whose direction is that of exact arithmetic
            however large the logits are, `"margin"` or `"dlr"`
            (see `keras_wp.objectives`).
        targeted: Whether labels are the classes to aim at.
        bounds: Lowest and highest value of a pixel.
        seed: Unused, as nothing here is random.
        name: How reports call the attack.

    Source: Goodfellow et al., ICLR 2015, section 4.

    Example:

    >>> x_adv = keras_wp.attacks.FGSM(eps=8 / 255)(model, x, y)
    """

    starts_at_x = True

    @property
    def default_name(self):
        return self._called("FGSM", loss=self._loss_if_unusual)

    @property
    def updates(self):
        return 1

    def step(self, problem, state):
        return self._ascend(problem, state, self.eps)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class PGD(GradientAscent):
    """Projected gradient descent, on the attacker's side.

    From a random point of the ball, `steps` times:
    `x <- clip(project(x + step_size * direction))`, where the direction is
    the sign of the gradient (`"linf"`) or the gradient over its Euclidean
    length (`"l2"`), the projection is to the ball of radius `eps` around the
    clean image, and the clip is to `bounds`. An image is done as soon as it
    is misclassified.

    Args:
        eps: Radius of the ball, above 0, in the units of the images.
        steps: Number of steps, at least 1.
        step_size: Length of a step in the norm, above 0. Defaults to
            `2.5 * eps / steps`, with which a run can cross the ball.
        norm: `"linf"` or `"l2"`.
        random_start: `True` to start at a point drawn uniformly from the
            ball; `"normal"` to add normal noise to the image, of a deviation
            of 0.001 of the range of the bounds (as TRADES does), within the
            ball; `False` to start at the image.
        restarts: Number of runs for an image that resists, at least 1.
        loss: `"cross_entropy"`, whose direction is that of exact arithmetic
            however large the logits are, `"margin"`, `"dlr"` or
            `"kl_divergence"`, of the model's prediction for the clean image
            from that for `x` (see `keras_wp.objectives`). The last wants a
            random start, as its gradient is zero at the image.
        targeted: Whether labels are the classes to aim at.
        bounds: Lowest and highest value of a pixel.
        seed: Integer; with the image, it determines the random starts.
        name: How reports call the attack.

    Raises:
        ValueError: If an argument is out of range; if `restarts` is above 1
            or `loss` is `"kl_divergence"` without a random start; or if that
            loss is to be targeted.

    Source: Madry et al., ICLR 2018, section 2.1; for the divergence and the
    normal start, Zhang et al., ICML 2019, and the authors' code.

    Example:

    >>> attack = keras_wp.attacks.PGD(eps=8 / 255, steps=20, step_size=0.0031)
    >>> x_adv = attack(model, x, y)
    """

    losses: ClassVar[tuple[str, ...]] = (*objectives.NAMES, "kl_divergence")

    steps: int
    step_size: float | None = None
    random_start: bool | str = True
    restarts: int = 1

    def __post_init__(self):
        super().__post_init__()
        if self.random_start not in (True, False, "normal"):
            raise ValueError(
                "Argument `random_start` must be True, False or 'normal'. "
                f"Received: random_start={self.random_start!r}"
            )
        check_runs(self)
        if self.loss == "kl_divergence" and not self.random_start:
            raise ValueError(
                "The KL divergence needs a random start, as its gradient is "
                "zero at the image. Received: random_start=False"
            )
        if self.loss == "kl_divergence" and self.targeted:
            raise ValueError(
                "The KL divergence has no targeted form. Received: "
                "targeted=True"
            )

    @property
    def starts_at_x(self):
        return not self.random_start

    @property
    def needs_clean_logits(self):
        return self.loss == "kl_divergence"

    @property
    def default_name(self):
        loss = self._loss_if_unusual
        return self._called(f"PGD{self.steps}", steps="", loss=loss)

    def init(self, problem, run):
        if problem.start is not None:
            return {"x_adv": problem.start}
        if not self.random_start:
            return super().init(problem, run)
        norm = norms.get(self.norm)
        if self.random_start == "normal":
            low, high = span(problem.bounds)
            keys = _noise.fold_in(problem.keys, run)
            noise = _noise.normal(keys, problem.x.shape[1:])
            start = problem.x + NORMAL_START * (high - low) * noise
            return {"x_adv": problem.within(start, norm, self.eps)}
        return {"x_adv": problem.random_point(run, norm, self.eps)}

    def _objective(self, problem):
        if self.loss != "kl_divergence":
            return super()._objective(problem)
        clean = problem.clean_logits
        return lambda z, y, target: objectives.kl_divergence(clean, z)

    def step(self, problem, state):
        return self._ascend(problem, state, step_size(self))


def check_runs(attack):
    """Raise a ValueError if steps or restarts are out of range."""
    check_at_least(1, steps=attack.steps, restarts=attack.restarts)
    if attack.step_size is not None:
        check_positive(step_size=attack.step_size)
    if attack.restarts > 1 and attack.starts_at_x:
        raise ValueError(
            "Restarts need `random_start=True`, or each repeats the first. "
            f"Received: restarts={attack.restarts}, random_start=False"
        )


def step_size(attack):
    """The length of a step, by default one with which runs cross the ball."""
    return attack.step_size or 2.5 * attack.eps / attack.steps
