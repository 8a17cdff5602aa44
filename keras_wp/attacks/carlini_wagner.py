"""The l2 attack of Carlini and Wagner.

Source: Carlini and Wagner, "Towards evaluating the robustness of neural
networks" (IEEE S&P 2017), section VI, and the authors' code.
"""

import dataclasses
import math
from typing import ClassVar

from keras import ops

from keras_wp import objectives
from keras_wp._checks import check_at_least, check_positive, span
from keras_wp.attacks import boundary
from keras_wp.attacks.base import Attack
from keras_wp.norms import per_image, select

# Adam's, as in the authors' code.
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8

# A pixel on a bound is at infinity in tanh space. So the box that tanh maps
# to is wider than the bounds by this factor, and what leaves them is clipped.
_WIDENING = 1.0 / 0.99

# A search ends when the loss has not fallen by one in ten thousand within a
# twentieth of the steps; or, where the boundary seems farther than so many
# steps, within a tenth, and a fifth once something adversarial is known. Near
# it, nothing is found by waiting. The authors' code looks at every tenth, and
# at the sum of the losses of a batch.
_CHECKS = 20, 10, 5
_FAR = 4.0
_PROGRESS = 0.9999

# The factor to the constant, and to a learning rate below the one asked for,
# while nothing adversarial is known.
_GROWTH = 10.0
# The factor to the learning rate at the end of each search afterwards.
_DECAY = 0.7

# Where the boundary seems near, the learning rate and the constant begin
# lower than asked for, but not lower than this share of it.
_LEAST_SHARE = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class CarliniWagner(Attack):
    """The smallest l2 perturbation, by gradient descent in tanh space.

    Minimises `||x_adv - x||_2^2 + c * max(f(x_adv) + confidence, 0) / f(x)`
    over the `w` in `x_adv = (tanh(w) + 1) / 2` (for bounds of 0 and 1), with
    Adam, where `f = z_y - max_{j != y} z_j` (for a targeted attack,
    `max_{j != t} z_j - z_t`). The constant `c` is multiplied by 10 until a
    search succeeds, and found by bisection then. Of all adversarial points
    seen, the nearest is kept.

    Where this departs from the authors' code:

    - `f` is divided by its value at the clean image, so that the logits'
      scale does not matter. Distances are in units of `bounds[1] - bounds[0]`
      here.
    - A search succeeds if it meets an adversarial point with
      `||x_adv - x||_2^2 <= c / 2`. At a smaller `c`, the boundary of a linear
      model is no minimum of the loss, and is crossed only by overshooting.
    - A search continues from the nearest adversarial image known, with Adam's
      moments as they are, and at a learning rate 0.7 times the last.
    - The first step is no longer than the way to the linearized boundary, at
      the distance `d`, and `c` is at most `4 d^2` at first.
    - Each image ends a search by itself, when a twentieth of `steps` has
      brought no progress; if the linearized boundary is more than four steps
      of `learning_rate` away, a tenth, and a fifth once it has succeeded.

    Args:
        steps: Most steps in a search, at least 1.
        binary_search_steps: Number of searches, at least 1.
        learning_rate: Adam's learning rate, in tanh space, above 0.
        initial_const: The first `c`, above 0.
        confidence: By how much the wrong logit must exceed the right one,
            in units of the logits, at least 0.
        targeted: Whether labels are the classes to aim at.
        eps: If given, reports count an image as fooled only if the
            perturbation found is at most this long.
        norm: `"l2"`.
        bounds: Lowest and highest value of a pixel.
        seed: Unused, as nothing here is random.
        name: How reports call the attack.

    Raises:
        ValueError: If an argument is out of range.

    Source: Carlini and Wagner, IEEE S&P 2017, sections V and VI.A.

    Example:

    >>> x_adv = keras_wp.attacks.CarliniWagner(steps=100)(model, x, y)
    """

    minimum_norm: ClassVar[bool] = True
    needs_clean_logits: ClassVar[bool] = True
    starts_at_x: ClassVar[bool] = True

    norm: str = "l2"
    steps: int = 1000
    binary_search_steps: int = 9
    learning_rate: float = 0.01
    initial_const: float = 1e-3
    confidence: float = 0.0
    targeted: bool = False
    eps: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.norm != "l2":
            raise ValueError(
                "The attack of Carlini and Wagner is implemented for "
                f"norm='l2'. Received: norm={self.norm!r}"
            )
        check_at_least(
            1, steps=self.steps, binary_search_steps=self.binary_search_steps
        )
        check_positive(
            learning_rate=self.learning_rate, initial_const=self.initial_const
        )
        if self.confidence != 0:
            check_positive(confidence=self.confidence)
        if self.eps is not None:
            check_positive(eps=self.eps)
        if self.surrogate is not None and self.surrogate.standardize:
            raise ValueError(
                "The attack of Carlini and Wagner weighs logits by their gap "
                "at the clean image, and cannot follow standardized ones. "
                f"Received: surrogate={self.surrogate!r}"
            )

    @property
    def default_name(self):
        return self._called(f"C&W{self.steps}", steps="")

    @property
    def updates(self):
        return self.steps * self.binary_search_steps

    @property
    def _objective(self):
        return objectives.get("margin", self.targeted)

    def init(self, problem, run):
        zero = ops.cast(ops.zeros_like(run), "float32")
        infinite = zero + math.inf
        clean = self._objective(problem.clean_logits, problem.y, problem.target)
        gap = self.confidence - clean
        return {
            "x_adv": problem.x,
            "first_moment": ops.zeros_like(problem.x),
            "second_moment": ops.zeros_like(problem.x),
            "gap_at_x": ops.where(gap > 0, gap, ops.ones_like(gap)),
            "far": zero > 0,
            "rate": zero,
            # The nearest adversarial image, and its squared distance.
            "nearest": problem.x,
            "squared": infinite,
            # The constant, and between which others it lies.
            "const": zero,
            "low": zero,
            "high": infinite,
            # The present search: its number, its length, whether it has
            # succeeded, its least loss, and that when last looked at.
            "search": ops.zeros_like(run),
            "length": ops.zeros_like(run),
            "succeeded": zero > 0,
            "loss": infinite,
            "loss_then": infinite,
            "converged": zero > 0,
        }

    def step(self, problem, state):
        x = state["x_adv"]
        low, high = span(problem.bounds)
        width = high - low
        # Without bounds, steps are those in the middle of a range.
        free = (low, high) != problem.bounds
        margin, gradient, logits = problem.value_and_grad(self._objective, x)
        gap = (self.confidence - margin) / state["gap_at_x"]
        gradient = -width / per_image(state["gap_at_x"], x) * gradient

        # The point as tanh(w), and the derivative of the image by w.
        place = (2.0 * (x - low) / width - 1.0) / _WIDENING
        place = ops.zeros_like(x) if free else place
        slope = 0.5 * _WIDENING * (1.0 - ops.square(place))
        state = self._begin(state, gradient, slope)
        delta = (x - problem.x) / width
        pull = ops.where(gap > 0, state["const"], ops.zeros_like(gap))
        total = 2.0 * delta + per_image(pull, x) * gradient
        state, direction = _adam(state, total * slope)

        # tanh(w - step), from tanh(w) and tanh(step): w itself need not be
        # kept, nor recovered where tanh is flat.
        shift = ops.tanh(per_image(state["rate"], x) * direction)
        place = (place - shift) / (1.0 - place * shift)
        moved = low + 0.5 * width * (_WIDENING * place + 1.0)
        if free:
            moved = x + 0.5 * width * _WIDENING * place
        state = {**state, "x_adv": problem.clip(moved)}
        state = self._search(state, x, boundary.inner(delta, delta), gap)
        return state, (x, logits)

    def _begin(self, state, gradient, slope):
        """How to search, from the gradient at the clean image."""
        first = state["iteration"] == 0
        steepness = ops.sqrt(boundary.inner(gradient, gradient))
        flat = steepness <= 0
        distance = ops.where(
            flat, math.inf, 1.0 / ops.where(flat, 1.0, steepness)
        )
        reach = ops.sqrt(boundary.inner(slope, slope))
        rate = _limited(distance / reach, self.learning_rate)
        const = _limited(4.0 * ops.square(distance), self.initial_const)
        far = distance > _FAR * self.learning_rate * reach
        return {
            **state,
            "far": ops.where(first, far & ~flat, state["far"]),
            "rate": ops.where(first, rate, state["rate"]),
            "const": ops.where(first, const, state["const"]),
        }

    def _search(self, state, x, squared, gap):
        """Keep the books of the searches; at the end of one, begin another."""
        hit = gap < 0
        better = hit & (squared < state["squared"])
        nearest = select(better, x, state["nearest"])
        best = ops.where(better, squared, state["squared"])

        const = state["const"]
        succeeded = state["succeeded"] | (hit & (2.0 * squared <= const))
        loss = squared + const * ops.maximum(gap, ops.zeros_like(gap))
        loss = ops.minimum(loss, state["loss"])
        length = state["length"] + 1
        known = ~ops.isinf(best)
        look = length % self._patience(state["far"], known) == 0
        stalled = loss > _PROGRESS * state["loss_then"]
        over = (look & stalled) | (length >= self.steps)
        search = state["search"] + ops.cast(over, "int32")

        low = ops.where(over & ~succeeded, const, state["low"])
        high = ops.where(over & succeeded, const, state["high"])
        middle = ops.where(ops.isinf(high), _GROWTH * const, 0.5 * (low + high))
        rate = ops.where(
            known,
            _DECAY * state["rate"],
            ops.minimum(_GROWTH * state["rate"], self.learning_rate),
        )
        infinite = ops.full_like(loss, math.inf)
        return {
            **state,
            "x_adv": select(over & known, nearest, state["x_adv"]),
            "rate": ops.where(over, rate, state["rate"]),
            "nearest": nearest,
            "squared": best,
            "const": ops.where(over, middle, const),
            "low": low,
            "high": high,
            "search": search,
            "length": ops.where(over, ops.zeros_like(length), length),
            "succeeded": succeeded & ~over,
            "loss": ops.where(over, infinite, loss),
            "loss_then": ops.where(
                over, infinite, ops.where(look, loss, state["loss_then"])
            ),
            "converged": search >= self.binary_search_steps,
        }

    def _patience(self, far, known):
        """After how many steps without progress a search ends: `(N,)`."""
        near, searching, refining = (
            max(1, self.steps // checks) for checks in _CHECKS
        )
        waits = ops.where(known, refining, searching)
        return ops.cast(ops.where(far, waits, near), "int32")


def _limited(value, most):
    return ops.clip(value, _LEAST_SHARE * most, most)


def _adam(state, gradient):
    """The state with Adam's moments brought up to date, and its direction."""
    first = _BETA_1 * state["first_moment"] + (1.0 - _BETA_1) * gradient
    second = _BETA_2 * state["second_moment"] + (1.0 - _BETA_2) * ops.square(
        gradient
    )
    t = ops.cast(state["iteration"] + 1, "float32")
    mean = first / per_image(1.0 - ops.power(_BETA_1, t), first)
    variance = second / per_image(1.0 - ops.power(_BETA_2, t), second)
    state = {**state, "first_moment": first, "second_moment": second}
    return state, mean / (ops.sqrt(variance) + _EPSILON)
