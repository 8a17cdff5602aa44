"""DeepFool: steps to the nearest linearized decision boundary.

Source: Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate
method to fool deep neural networks" (CVPR 2016).
"""

import dataclasses
from typing import ClassVar

from keras import ops

from keras_wp import norms
from keras_wp._checks import check_at_least, check_positive, span
from keras_wp.attacks import boundary
from keras_wp.attacks.base import Attack
from keras_wp.norms import per_image, select

# The shortest step, as a share of the range of a pixel. Where two logits tie,
# the boundary is at no distance and still has to be crossed.
_SHORTEST = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class DeepFool(Attack):
    """Steps to the nearest linearized boundary, until it is crossed.

    At the point `x`, the boundary between the class `y` and a class `k` is
    taken to be as far away as it would be if the model were linear,

        `d_k = |f_k| / ||grad f_k||`  with  `f_k = z_k - z_y`

    in the dual norm (`||.||_1` for `"linf"`), and the total perturbation `r`
    grows by the shortest step that reaches the nearest one:
    `d_k * sign(grad f_k)` for `"linf"`, `d_k * grad f_k / ||grad f_k||_2` for
    `"l2"`. The next point is `clip(x_0 + (1 + overshoot) * r)`. An image is
    done as soon as it is misclassified.

    Departures from the original: (a) it takes the gradients of all candidates
    at every point. Here one gradient is taken in each iteration, and an image
    moves on once no other candidate can be nearer, judged by its gap and by
    how long its gradient was when last taken (`boundary.begin_survey` says
    what is assumed of one not taken yet). (b) Pixels that stand at a bound and
    would leave it do not count in a gradient. (c) The result is moved back to
    the boundary, if `final_search` is not 0.

    Args:
        norm: `"linf"` or `"l2"`.
        steps: How often an image moves at most, at least 1.
        overshoot: How far to go beyond the boundaries, as a share of the
            way to them, above 0.
        candidates: How many of the largest clean logits are considered,
            that of `y` included; at least 2.
        eps: If given, reports count an image as fooled only if the
            perturbation found is at most this long.
        final_search: How many forward passes are spent at the end on moving
            each adversarial image back towards the clean one; at least 0.
        bounds: Lowest and highest value of a pixel.
        seed: Unused, as nothing here is random.
        name: How reports call the attack.

    Raises:
        ValueError: If an argument is out of range.

    Source: Moosavi-Dezfooli et al., CVPR 2016, algorithm 2 and equation 10;
    the form of the overshoot is that of the authors' code.

    Example:

    >>> x_adv = keras_wp.attacks.DeepFool(norm="l2")(model, x, y)
    """

    minimum_norm: ClassVar[bool] = True
    needs_clean_logits: ClassVar[bool] = True
    starts_at_x: ClassVar[bool] = True

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    eps: float | None = None
    final_search: int = 1

    def __post_init__(self):
        super().__post_init__()
        check_at_least(1, steps=self.steps)
        check_at_least(2, candidates=self.candidates)
        check_at_least(0, final_search=self.final_search)
        check_positive(overshoot=self.overshoot)
        if self.eps is not None:
            check_positive(eps=self.eps)

    @property
    def default_name(self):
        return self._called(f"DeepFool{self.steps}", steps="")

    @property
    def updates(self):
        # Moves and the looks that each may take; images rarely need a tenth.
        return self.steps * (self.candidates - 1)

    def init(self, problem, run):
        return {
            "x_adv": problem.x,
            "total": ops.zeros_like(problem.x),
            "moves": ops.zeros_like(run),
            "converged": ops.zeros_like(run) > 0,
            **boundary.begin_survey(problem, self.candidates),
        }

    def step(self, problem, state):
        norm = norms.get(self.norm)
        x = state["x_adv"]
        logits, pullback = problem.linearize(x)
        low, high = problem.bounds

        def gradient_inside(cotangent):
            gradient = pullback(cotangent)
            outward = ops.where(gradient > 0, x >= high, x <= low)
            return ops.where(outward, ops.zeros_like(gradient), gradient)

        state, settled = boundary.look(
            problem, state, logits, gradient_inside, norm
        )

        fooled = problem.is_adversarial(logits)
        ended = fooled | (settled & ops.isinf(state["nearness"]))
        moving = settled & ~ended
        moves = state["moves"] + ops.cast(moving, "int32")
        total, moved = self._move(problem, state, moving, norm)
        state = {
            **boundary.leave(state, moving),
            "x_adv": select(moving, moved, x),
            "total": total,
            "moves": moves,
            "converged": ended | (moves >= self.steps),
        }
        return state, (x, logits)

    def _move(self, problem, state, moving, norm):
        low, high = span(problem.bounds)
        shortest = ops.full_like(problem.x[:1], (high - low) * _SHORTEST)
        length = ops.maximum(state["nearness"], norm.length(shortest))
        length = ops.where(moving, length, ops.zeros_like(length))
        direction = norm.steepest(state["gradient"])
        total = state["total"] + per_image(length, direction) * direction
        moved = problem.clip(problem.x + (1.0 + self.overshoot) * total)
        return total, moved
