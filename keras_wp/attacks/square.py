"""Square: random search with square patches, from the logits alone.

Source: Andriushchenko et al., "Square Attack: a query-efficient black-box
adversarial attack via random search" (ECCV 2020), algorithms 1 to 3.
"""

import dataclasses

import numpy as np
from keras import ops

from keras_wp import _noise, norms, objectives
from keras_wp._checks import check_at_least, check_positive
from keras_wp.attacks import patches
from keras_wp.attacks.base import Attack

# After these of 10,000 iterations, the share of pixels that change is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
SCHEDULE_STEPS = 10_000
# The number of steps that a name need not mention.
STANDARD_STEPS = 5000


def halvings(steps, rescale):
    """The first iterations at which patches are smaller than before.

    Args:
        steps: Number of iterations.
        rescale: Whether the schedule for 10,000 iterations is stretched to
            `steps`.

    Returns:
        A list of integers, rising.
    """
    if not rescale:
        return [after + 1 for after in HALVINGS]
    return [-(-(after + 1) * steps // SCHEDULE_STEPS) for after in HALVINGS]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Square(Attack):
    """Random search that changes one square patch at a time.

    From vertical stripes of `+-eps` (`"linf"`) or a grid of patterns
    (`"l2"`), each step proposes a change of a square at a random place and
    keeps it if the margin `max_{j != y} z_j - z_y` rises. The side of the
    square shrinks on a schedule. No gradient is used, so a model that hides
    its gradient gains nothing by it.

    `"linf"`: in the square, each channel moves by `+-2 eps` and is projected
    to the ball. `"l2"`: a second square gives up its perturbation, and the
    first gains it, with a pattern of two pyramids of opposite signs in a
    random orientation.

    Args:
        eps: Radius of the ball, above 0, in the units of the images.
        steps: Number of proposals, at least 1. Each costs one forward pass,
            the start another one.
        norm: `"linf"` or `"l2"`.
        p_init: Share of pixels in the first square, in (0, 1].
        rescale_schedule: Whether the schedule of the square's side, made for
            10,000 steps, is stretched to `steps`, as the paper does.
            AutoAttack does not.
        loss: `"margin"` or another of `keras_wp.objectives`.
        restarts: Number of runs for an image that resists, at least 1.
        targeted: Whether labels are the classes to aim at.
        bounds: Lowest and highest value of a pixel.
        seed: Integer; with the image, it determines all random numbers.
        name: How reports call the attack.

    Images are `(N, H, W, C)`, or `(N, C, H, W)` if that is Keras's
    `image_data_format`, `(N, H, W)`, or vectors `(N, D)`, which count as one
    row of pixels.

    Raises:
        ValueError: If an argument is out of range, or images have another
            number of axes.

    Source: Andriushchenko et al., ECCV 2020. Squares are drawn for each image
    by itself, and reach the last row and column, as in the paper; the authors'
    code draws one for a whole batch and leaves out the last place.

    Example:

    >>> x_adv = keras_wp.attacks.Square(eps=8 / 255)(model, x, y)
    """

    examines_before_moving = False
    follows_gradient = False

    eps: float
    steps: int = STANDARD_STEPS
    p_init: float = 0.8
    rescale_schedule: bool = True
    loss: str = "margin"
    restarts: int = 1
    targeted: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_positive(eps=self.eps, p_init=self.p_init)
        check_at_least(1, steps=self.steps, restarts=self.restarts)
        objectives.get(self.loss)
        if self.p_init > 1:
            raise ValueError(
                "Argument `p_init` must be a number in (0, 1]. "
                f"Received: p_init={self.p_init!r}"
            )

    def check(self, classifier, images, num_classes):
        super().check(classifier, images, num_classes)
        patches.Grid(images.shape[1:])

    @property
    def default_name(self):
        steps = "" if self.steps == STANDARD_STEPS else self.steps
        loss = "" if self.loss == "margin" else self.loss
        return self._called(f"Square{steps}", steps="", loss=loss)

    @property
    def updates(self):
        return self.steps + 1

    def init(self, problem, run):
        keys = _noise.fold_in(problem.keys, run)
        grid = patches.Grid(problem.x.shape[1:])
        start = patches.tiles if self.norm == "l2" else patches.stripes
        x = grid.view(problem.x) + self.eps * start(keys, grid)
        floats = ops.zeros_like(problem.y, dtype="float32")
        return {
            "x_adv": problem.clip(grid.restore(x)),
            "best_loss": floats - np.inf,
            "keys": keys,
        }

    def step(self, problem, state):
        objective = objectives.get(self.loss, self.targeted)
        best = state["x_adv"]
        # The first query is the start itself.
        first = state["iteration"] == 0
        x = norms.select(first, best, self._propose(problem, state))
        logits = problem.logits(x)
        loss = objective(logits, problem.y, problem.target)
        better = loss > state["best_loss"]
        state = {
            **state,
            "x_adv": norms.select(better, x, best),
            "best_loss": ops.where(better, loss, state["best_loss"]),
        }
        return state, (x, logits)

    def _propose(self, problem, state):
        """The next point to try, `(N, ...)`."""
        grid = patches.Grid(problem.x.shape[1:])
        shrinks = np.asarray(
            halvings(self.steps, self.rescale_schedule), np.int32
        )
        stages = len(shrinks) + 1
        shrinks = ops.convert_to_tensor(shrinks)
        shares = self.p_init / 2.0 ** np.arange(stages)
        # Iteration 0 examines the start; the schedule counts proposals.
        late = state["iteration"][:, None] - 1 >= shrinks
        stage = ops.sum(ops.cast(late, "int32"), axis=-1)
        keys = _noise.fold_in(state["keys"], state["iteration"])
        propose = patches.move_l2 if self.norm == "l2" else patches.move_linf
        x = propose(
            keys,
            grid,
            sizes=grid.patch_sizes(shares, odd=self.norm == "l2"),
            stage=stage,
            clean=grid.view(problem.x),
            best=grid.view(state["x_adv"]),
            eps=self.eps,
        )
        return problem.clip(grid.restore(x))
