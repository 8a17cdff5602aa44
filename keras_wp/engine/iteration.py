"""One iteration of an attack on a batch: what surrounds `attack.step`.

Pure functions of tensors, compiled by `keras_wp.engine.programs`. Here the best
point is kept, iterations are counted, images are found to be done, and their
next runs begin.
"""

import keras
import numpy as np
from keras import ops

from keras_wp import _backend, norms


def start(attack, problem):
    """The state in which a batch of images begins."""
    zeros = ops.zeros_like(problem.y)
    return {
        "attack": begin(attack, problem, zeros),
        "run": zeros,
        "best": problem.x,
        "logits": ops.zeros_like(problem.clean_logits),
        "distance": ops.full_like(problem.y, np.inf, dtype="float32"),
        "success": ops.zeros_like(problem.y, dtype="bool"),
        "done": ops.zeros_like(problem.y, dtype="bool"),
        "steps": zeros,
        "zero_gradients": zeros,
        "bad_gradients": zeros,
    }


def until_done(step, state, most):
    """Iterations of every image until one more is done, `most` at most.

    Args:
        step: A function of the state; it must keep its names and dtypes.
        state: The state to begin with.
        most: How many iterations at most.
    """
    before = state["done"]

    def going(state):
        return ~ops.any(state["done"] & ~before)

    def body(state):
        after = step(state)
        # Some gradients know less of their shapes than their images do.
        return (keras.tree.map_structure(_backend.of_shape, after, state),)

    (state,) = ops.while_loop(going, body, (state,), maximum_iterations=most)
    return state


def advance(attack, problem, state):
    """One iteration of every image: examine, keep the best, move on."""
    problem = attack.adapted(problem.fresh())
    runs = attack.runs(problem.clean_logits.shape[-1])
    iteration = state["attack"]["iteration"] + 1
    inner, (x, logits) = attack.step(problem, state["attack"])
    inner = {**inner, "iteration": iteration}

    distance = norms.get(attack.norm).length(x - problem.x)
    fooled = problem.is_adversarial(logits, attack.confidence)
    if attack.radius is not None:
        fooled = fooled & (distance <= attack.radius)
    better = fooled & (distance < state["distance"])
    success = state["success"] | fooled

    last_run = state["run"] + 1 >= runs
    length = attack.updates + ops.zeros_like(iteration)
    if attack.examines_before_moving:
        # The last point of the last run waits for a forward pass; that of an
        # earlier run is examined by one more step.
        length = length + ops.cast(~last_run, "int32")
    over = iteration >= length
    if "converged" in inner:
        over = over | inner["converged"]
    done = over & last_run
    if not attack.minimum_norm:
        done = done | success
    run = state["run"]
    if runs > 1:
        again = over & ~done
        run = run + ops.cast(again, "int32")
        # Beginning costs about as much as a step without its gradient, and is
        # rare.
        inner = ops.cond(
            ops.any(again),
            lambda: where(again, begin(attack, problem, run), inner),
            lambda: inner,
        )
    return {
        "attack": inner,
        "run": run,
        "best": norms.select(better, x, state["best"]),
        "logits": norms.select(better, logits, state["logits"]),
        "distance": ops.where(better, distance, state["distance"]),
        "success": success,
        "done": done,
        "steps": state["steps"] + 1,
        "zero_gradients": state["zero_gradients"] + problem.zero_gradients,
        "bad_gradients": state["bad_gradients"] + problem.bad_gradients,
    }


def begin(attack, problem, run):
    """The attack's own state at the beginning of a run."""
    state = attack.init(problem, run)
    return {**state, "iteration": ops.zeros_like(problem.y)}


def where(mask, yes, no):
    """State `yes` for the images where `mask` holds, `no` for the others."""
    return keras.tree.map_structure(
        lambda a, b: norms.select(mask, a, b), yes, no
    )


def rearrange(rows, tree, fresh):
    """Some rows of `tree`, followed by those of `fresh`.

    Args:
        rows: `(M,)` int32, which rows. From N on, those of `fresh` are meant.
        tree: Tensors whose first axis has the length N.
        fresh: Tensors of the same structure.
    """
    return keras.tree.map_structure(
        lambda old, new: ops.take(
            ops.concatenate([old, new], axis=0), rows, axis=0
        ),
        tree,
        fresh,
    )
