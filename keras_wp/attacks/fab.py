"""FAB: projections onto linearized boundaries, drawn towards the image.

Source: Croce and Hein, "Minimally distorted adversarial examples with a fast
adaptive boundary attack" (ICML 2020).
"""

import dataclasses
from typing import ClassVar

from keras import ops

from keras_wp import norms
from keras_wp._checks import check_at_least, check_positive
from keras_wp.attacks import base, boundary
from keras_wp.attacks.base import Attack
from keras_wp.norms import per_image, select

# How many gradients a step without `targets` may take, on average; images
# rarely need a third.
_MOST_LOOKS = 9
# The number of steps that a name need not mention.
STANDARD_STEPS = 100


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class FAB(Attack):
    """The fast adaptive boundary attack: a search along the boundary.

    Let `proj(z)` be the point nearest to `z` in the norm, within the bounds,
    of the hyperplane that the boundary would be if the model were linear
    around the present point `x`. A step is

        `x <- (1 - alpha) (x + eta d) + alpha (x_0 + eta d_0)`

    with `d = proj(x) - x`, `d_0 = proj(x_0) - x_0` and
    `alpha = min(||d|| / (||d|| + ||d_0||), alpha_max)`, clipped to `bounds`.
    An adversarial point is moved back, to `x_0 + beta (x - x_0)`, before the
    step that starts from it, so that a run continues to nearer ones.

    The boundary is that to the nearest class, or with `targets` (FAB-T) to
    one class in each of so many runs: the wrong class with the largest clean
    logit, then the next.

    Departures from the published code: (a) the hyperplane is taken from the
    examined point, instead of from where it was moved back to. So an iteration
    costs one forward and one backward pass, where the published code takes
    two forward passes and, without `targets`, a backward pass for each class
    (`boundary.begin_survey` tells how those are spared: without `targets` a
    step takes as many iterations as it needs gradients). (b) the projection is
    solved by Newton's method instead of by sorting the pixels.

    Args:
        eps: If given, reports count an image as fooled only if the
            perturbation found is at most this long. Restarts begin in the
            ball of half this radius.
        steps: Number of iterations of a run, at least 1.
        norm: `"linf"` or `"l2"`.
        targets: Number of classes to aim at, one after the other, at least
            1; or None for the nearest class of each iteration.
        restarts: Number of runs, for each target, at least 1. The first
            begins at the image, the others at random points.
        alpha_max: Largest weight of the clean image's projection, in [0, 1].
        eta: How far to go, as a multiple of the way to the hyperplane, in
            [1, 2].
        beta: How much of an adversarial perturbation is kept, in [0, 1].
        final_search: How many forward passes are spent at the end on moving
            each adversarial image back towards the clean one; at least 0.
            The paper has 3, AutoAttack none.
        early_stop: Whether only adversarial points within `eps` count, the
            first of which ends the attack on its image: how a suite uses FAB.
            Images for which there is none come back unchanged.
        bounds: Lowest and highest value of a pixel.
        seed: Integer; with the image, it determines the random starts.
        name: How reports call the attack.

    Raises:
        ValueError: If an argument is out of range, or `eps` is missing where
            restarts or `early_stop` need it.

    Source: Croce and Hein, ICML 2020, algorithm 1; the targeted form and the
    constants are those of AutoAttack (Croce and Hein, "Reliable evaluation of
    adversarial robustness", ICML 2020).

    Example:

    >>> x_adv = keras_wp.attacks.FAB(targets=9)(model, x, y)
    """

    needs_clean_logits: ClassVar[bool] = True

    eps: float | None = None
    steps: int = STANDARD_STEPS
    targets: int | None = None
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    final_search: int = 3
    early_stop: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_at_least(1, steps=self.steps, restarts=self.restarts)
        check_at_least(0, final_search=self.final_search)
        if self.targets is not None:
            check_at_least(1, targets=self.targets)
        if self.eps is not None:
            check_positive(eps=self.eps)
        elif self.restarts > 1 or self.early_stop:
            raise ValueError(
                "Restarts and `early_stop` need `eps`. Received: eps=None, "
                f"restarts={self.restarts}, early_stop={self.early_stop}"
            )
        _check_between(0.0, 1.0, alpha_max=self.alpha_max)
        _check_between(1.0, 2.0, eta=self.eta)
        _check_between(0.0, 1.0, beta=self.beta)

    @property
    def minimum_norm(self):
        return not self.early_stop

    @property
    def radius(self):
        return self.eps if self.early_stop else None

    @property
    def starts_at_x(self):
        return self.restarts == 1

    @property
    def default_name(self):
        steps = "" if self.steps == STANDARD_STEPS else self.steps
        aims = base.told_targets(self.targets)
        return self._called(f"FAB{steps}", steps="", targets=aims)

    @property
    def updates(self):
        return self.steps * (_MOST_LOOKS if self.targets is None else 1)

    def runs(self, num_classes):
        return self.restarts * min(self.targets or 1, num_classes - 1)

    def init(self, problem, run):
        state = {"x_adv": self._start(problem, run)}
        if self.targets is None:
            return {
                **state,
                **boundary.begin_survey(problem, None),
                "moves": ops.zeros_like(run),
                "converged": ops.zeros_like(run) > 0,
            }
        rank = run // self.restarts
        return {**state, "target": problem.ranked_target(rank)}

    def _start(self, problem, run):
        if self.restarts == 1:
            return problem.x
        norm, again = norms.get(self.norm), run % self.restarts > 0
        point = problem.random_point(run, norm, self.eps / 2)
        return select(again, point, problem.x)

    def step(self, problem, state):
        norm = norms.get(self.norm)
        x = state["x_adv"]
        logits, pullback = problem.linearize(x)
        if self.targets is None:
            state, moving = boundary.look(
                problem, state, logits, pullback, norm
            )
            gap, gradient = state["gap"], state["gradient"]
            # The point after the last move is examined, and not left.
            ended = state["moves"] >= self.steps
            moving = moving & ~ended
            state = {
                **boundary.leave(state, moving),
                "moves": state["moves"] + ops.cast(moving, "int32"),
                "converged": ended,
            }
        else:
            target = state["target"]
            toward = boundary.difference(target, problem.y, logits)
            gap, gradient = ops.sum(toward * logits, -1), pullback(toward)
            moving = None
        fooled = problem.is_adversarial(logits)
        back = problem.x + self.beta * (x - problem.x)
        plane = boundary.Hyperplane(x, gap, gradient, norm, problem.bounds)
        moved = self._move(problem, x, select(fooled, back, x), plane)
        if moving is not None:
            moved = select(moving, moved, x)
        return {**state, "x_adv": moved}, (x, logits)

    def _move(self, problem, x, origin, plane):
        norm = norms.get(self.norm)
        step, clean_step = plane.step_from(origin), plane.step_from(problem.x)
        way, clean_way = norm.length(step), norm.length(clean_step)
        total = way + clean_way
        share = ops.where(total > 0, way / ops.where(total > 0, total, 1), 1)
        alpha = per_image(ops.minimum(share, self.alpha_max), x)
        near = origin + self.eta * step
        biased = problem.x + self.eta * clean_step
        return problem.clip(near + alpha * (biased - near))


def _check_between(low, high, **values):
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(
                f"Argument `{name}` must be a number from {low:g} to "
                f"{high:g}. Received: {name}={value!r}"
            )
