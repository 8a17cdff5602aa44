"""APGD: projected gradient steps that set their own length.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an
ensemble of diverse parameter-free attacks" (ICML 2020), section 3 and
algorithm 1.
"""

import dataclasses

import numpy as np
from keras import ops

from keras_wp import _noise, norms, objectives
from keras_wp._checks import check_at_least, check_positive
from keras_wp.attacks import base
from keras_wp.attacks.pgd import GradientAscent

# Share of a move that is the new step; the rest repeats the last move.
MOMENTUM = 0.75
# In percent of all steps: the first checkpoint, by how much each interval is
# shorter than the one before it, and the shortest.
FIRST_CHECKPOINT, SHORTENING, SHORTEST = 22, 3, 6
# The number of steps that a name need not mention.
STANDARD_STEPS = 100

_SHORT = {"cross_entropy": "CE", "dlr": "DLR"}


def checkpoints(steps):
    """The iterations after which APGD reviews its step size.

    `w_j = ceil(p_j * steps)`, with `p_0 = 0`, `p_1 = 0.22` and
    `p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06)`. Computed in whole
    percents, as rounding errors would move the ceiling.

    Args:
        steps: Number of iterations.

    Returns:
        A list of integers, rising, without 0 and below `steps`.
    """
    percent, interval = FIRST_CHECKPOINT, FIRST_CHECKPOINT
    found = []
    while percent < 100:
        found.append(-(-percent * steps // 100))
        interval = max(interval - SHORTENING, SHORTEST)
        percent += interval
    return sorted({w for w in found if w < steps})


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class APGD(GradientAscent):
    """Auto-PGD: no step size to choose.

    From a random point of the ball's surface, with a step size that starts at
    `2 * eps`,

        z = project(x_k + step_size * direction)
        x_(k+1) = project(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_(k-1)))

    where the direction is the steepest in the norm. At each checkpoint (see
    `checkpoints`) the step size is halved, and the run goes back to its best
    point, if fewer than `rho` of the steps since the last checkpoint raised
    the loss, or if neither the step size nor the best loss has changed since
    then.

    Args:
        eps: Radius of the ball, above 0, in the units of the images.
        steps: Number of iterations of a run, at least 1.
        norm: `"linf"` or `"l2"`.
        loss: `"cross_entropy"`, `"margin"` or `"dlr"`
            (see `keras_wp.objectives`).
        targets: `None`, or how many wrong classes to aim at, one run after
            another, in the order of the clean logits, with the targeted form
            of the loss. Any misclassification counts. At most the number of
            classes less one is used.
        restarts: Number of runs (for each target), at least 1.
        rho: Share of steps that have to raise the loss, in (0, 1).
        targeted: Whether labels are the classes to aim at.
        bounds: Lowest and highest value of a pixel.
        seed: Integer; with the image, it determines the random starts.
        name: How reports call the attack.

    Raises:
        ValueError: If an argument is out of range, or `targets` is given
            together with `targeted`.

    Source: Croce and Hein, ICML 2020. The authors' code skips the second
    condition at the first checkpoint and compares by "at most `rho`"; this
    class follows the paper.

    Example:

    >>> attack = keras_wp.attacks.APGD(eps=8 / 255, loss="dlr", targets=9)
    >>> x_adv = attack(model, x, y)
    """

    steps: int = STANDARD_STEPS
    targets: int | None = None
    restarts: int = 1
    rho: float = 0.75

    def __post_init__(self):
        super().__post_init__()
        check_at_least(1, steps=self.steps, restarts=self.restarts)
        check_positive(rho=self.rho)
        if self.rho >= 1:
            raise ValueError(
                "Argument `rho` must be a number between 0 and 1. "
                f"Received: rho={self.rho!r}"
            )
        if self.targets is not None:
            check_at_least(1, targets=self.targets)
            if self.targeted:
                raise ValueError(
                    "With `targeted=True` labels are the classes to aim at, "
                    "so `targets` must be None. "
                    f"Received: targets={self.targets}"
                )

    @property
    def needs_clean_logits(self):
        return self.targets is not None

    @property
    def default_name(self):
        steps = "" if self.steps == STANDARD_STEPS else self.steps
        kind = _SHORT.get(self.loss, self.loss)
        aims = base.told_targets(self.targets)
        if aims and self.loss == "dlr":
            kind = ""
        return self._called(f"APGD{steps}", steps="", loss=kind, targets=aims)

    def runs(self, num_classes):
        if self.targets is None:
            return self.restarts
        return self.restarts * min(self.targets, num_classes - 1)

    def init(self, problem, run):
        norm = norms.get(self.norm)
        shape = tuple(problem.x.shape[1:])
        start = norm.sample(_noise.fold_in(problem.keys, run), shape, 1.0)
        length = norm.length(start)
        scale = self.eps / ops.where(length > 0, length, 1.0)
        start = start * norms.per_image(scale, start)
        x = problem.clip(problem.x + start)
        if problem.start is not None:
            x = problem.start
        zeros = ops.zeros_like(problem.y)
        floats = ops.zeros_like(problem.y, dtype="float32")
        target = problem.target
        if self.targets is not None:
            target = problem.ranked_target(run // self.restarts)
        return {
            "x_adv": x,
            "previous": x,
            "best": x,
            "best_gradient": ops.zeros_like(x),
            "loss": floats + np.inf,
            "best_loss": floats - np.inf,
            "checked_loss": floats - np.inf,
            "step_size": floats + 2.0 * self.eps,
            "rises": zeros,
            "halved": ops.zeros_like(problem.y, dtype="bool"),
            "target": target,
        }

    def step(self, problem, state):
        x = state["x_adv"]
        targeted = self.targeted or self.targets is not None
        objective = objectives.get(self.loss, targeted)
        loss, gradient, logits = problem.value_and_grad(
            lambda z, y, _: objective(z, y, state["target"]), x
        )
        state = self._record(state, x, loss, gradient)
        state, back = self._review(state)
        point = norms.select(back, state["best"], x)
        gradient = norms.select(back, state["best_gradient"], gradient)
        moved = self._move(problem, state, point, gradient)
        return {**state, "x_adv": moved, "previous": point}, (x, logits)

    def _record(self, state, x, loss, gradient):
        """Keep the best point, its gradient, and the count of rises."""
        # A loss that is no number must not become the one to beat.
        loss = ops.where(ops.isfinite(loss), loss, -np.inf)
        rose = ops.cast(loss > state["loss"], "int32")
        better = loss > state["best_loss"]
        return {
            **state,
            "loss": loss,
            "best": norms.select(better, x, state["best"]),
            "best_gradient": norms.select(
                better, gradient, state["best_gradient"]
            ),
            "best_loss": ops.maximum(loss, state["best_loss"]),
            "rises": state["rises"] + rose,
        }

    def _review(self, state):
        """At a checkpoint, halve the step size of runs that do not climb.

        Returns the state and which images go back to their best points.
        """
        # Iteration 0 only records the loss that the run starts from.
        times = np.asarray([0, *checkpoints(self.steps)], np.int32)
        lengths = np.diff(times, prepend=0).astype(np.float32)
        times, lengths = map(ops.convert_to_tensor, (times, lengths))
        hits = state["iteration"][:, None] == times
        due = ops.any(hits, axis=-1)
        length = ops.sum(ops.cast(hits, "float32") * lengths, axis=-1)
        few = ops.cast(state["rises"], "float32") < self.rho * length
        level = state["best_loss"] <= state["checked_loss"]
        back = due & (few | (level & ~state["halved"]))
        size = state["step_size"]
        return {
            **state,
            "loss": ops.where(back, state["best_loss"], state["loss"]),
            "step_size": ops.where(back, size / 2.0, size),
            "halved": ops.where(due, back, state["halved"]),
            "checked_loss": ops.where(
                due, state["best_loss"], state["checked_loss"]
            ),
            "rises": ops.where(due, 0, state["rises"]),
        }, back

    def _move(self, problem, state, x, gradient):
        norm = norms.get(self.norm)
        size = norms.per_image(state["step_size"], x)
        first = ops.cast(state["iteration"] == 0, "float32")
        share = norms.per_image(MOMENTUM + (1.0 - MOMENTUM) * first, x)
        step = problem.within(
            x + size * norm.steepest(gradient), norm, self.eps
        )
        momentum = x - state["previous"]
        moved = x + share * (step - x) + (1.0 - share) * momentum
        return problem.within(moved, norm, self.eps)
