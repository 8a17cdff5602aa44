"""Geometry of linearized decision boundaries, for minimum-norm attacks.

Around a point `x` the boundary to a class is replaced by the hyperplane
`gap + <gradient, z - x> = 0`. Everything here treats each image separately and
does not depend on the scale of the logits.
"""

import math

from keras import ops

from keras_wp.norms import per_image, select

# Of Newton's method below, which ends after 1 to 5 on images.
# So far away are bounds where there are none.
_FAR = 1e12
_MOST_ROUNDS = 30
_FLAT = 1e-6

# So many gradients are looked at before anything is said of the others. Then
# those are taken to be no longer than the longest one known, times this. With
# 2 instead, DeepFool spends half as many gradients again on a plainly trained
# network and finds the same distances; on an adversarially trained one, it
# spends two fifths more, and distances are 1.2 % shorter in the mean, and the
# same in the median (128 images of a JPEG copy of CIFAR-10 each).
_LOOKS = 3
_UNSEEN = 1.2


def inner(a, b):
    """Inner product of each image of `a` with that of `b`: `(N,)`."""
    size = math.prod(a.shape[1:])
    a, b = ops.reshape(a, (-1, size)), ops.reshape(b, (-1, size))
    return ops.einsum("nd,nd->n", a, b)


def at(values, labels):
    """The entry of each row of `(N, K)` values that the label names."""
    rows = ops.one_hot(labels, values.shape[-1], dtype=values.dtype)
    return ops.sum(values * rows, axis=-1)


def difference(labels, y, logits):
    """Cotangents of `z_label - z_y`: `(N, K)`."""
    classes = logits.shape[-1]
    return ops.one_hot(labels, classes, dtype=logits.dtype) - ops.one_hot(
        y, classes, dtype=logits.dtype
    )


class Hyperplane:
    """The points `z` of each image with `gap + <gradient, z - x> = 0`.

    Args:
        x: Points `(N, ...)`.
        gap: `(N,)`, the linear function at `x`.
        gradient: Its gradient, `(N, ...)`.
        norm: One of `keras_wp.norms`.
        bounds: Lowest and highest value of a pixel.
    """

    def __init__(self, x, gap, gradient, norm, bounds):
        self._x, self._gap = x, gap
        # No number may be infinite that is multiplied by zero.
        self._bounds = tuple(min(max(b, -_FAR), _FAR) for b in bounds)
        self._gradient = gradient
        self._sign = ops.sign(gradient)
        axes = tuple(range(1, len(x.shape)))
        size = ops.abs(gradient)
        largest = ops.max(size, axis=axes)
        self._scale = ops.where(largest > 0, largest, 1.0)
        self._size = size / per_image(self._scale, size)
        self._rate = norm.steepest(self._size)
        self._slope = self._size * self._rate
        self._steepest = ops.sum(self._slope, axis=axes)

    def step_from(self, z):
        """The shortest steps from `z` to the hyperplane, within the bounds.

        Minimises `||d||` subject to `gap + <gradient, z + d - x> = 0` and
        `low <= z + d <= high` (Croce and Hein, 2020, section 2.1). The
        solution is `d_i = s_i min(t r_i, room_i)`: `s` is the sign that brings
        the hyperplane nearer, `room` the way to the bound on that side, and
        `r` the steepest direction of the norm. What the step gains is a
        piecewise linear, increasing and concave function of the one unknown
        `t`. So Newton's method from the left, from the solution without
        bounds, ends at the solution, after one round of two sums if no pixel
        meets its bound, and few if some do. The published code sorts the
        pixels.

        Returns:
            `(N, ...)`. Where the hyperplane is out of reach, the step to the
            nearest corner of the box; where the gradient is zero, none.
        """
        low, high = self._bounds
        gap = self._gap + inner(self._gradient, z - self._x)
        away = self._sign * per_image(ops.sign(gap), z)
        room = ops.where(away > 0, z - low, high - z)
        full = self._size * room
        wanted = ops.abs(gap) / self._scale
        # Rounding leaves this much of the slope of pixels at their bounds.
        flat = _FLAT * self._steepest

        def newton(t):
            met = per_image(t, z) * self._rate >= room
            met = ops.cast(met, full.dtype)
            steepness = self._steepest - inner(met, self._slope)
            onward = (wanted - inner(met, full)) / ops.maximum(steepness, flat)
            # With every pixel at its bound, no longer step exists.
            return ops.where(steepness > flat, ops.maximum(t, onward), t)

        nothing = ops.zeros_like(wanted)
        positive = self._steepest > 0
        start = wanted / ops.where(positive, self._steepest, 1.0)
        t, _ = ops.while_loop(
            lambda t, last: ops.any(t > last),
            lambda t, last: (newton(t), t),
            (ops.where(positive, start, nothing), nothing),
            maximum_iterations=_MOST_ROUNDS,
        )
        return -away * ops.minimum(per_image(t, z) * self._rate, room)


def begin_survey(problem, candidates):
    """What is known of the boundaries around the images at first.

    The linearized boundary of class `k` is at the distance
    `|z_k - z_y| / ||gradient||`, in the dual norm. The nearest one is wanted.
    The gaps come with the forward pass, but every gradient costs a backward
    pass. So classes are looked at one by one, at first those that might be
    nearest, until no other class can be nearer than the nearest found; the
    norm of a gradient not looked at is taken to be what it was at the last
    point where it was. If it never was, it is taken to be at most 1.2 times the
    largest of the three or more that are known: where it is longer, a nearer
    boundary is missed.

    Args:
        problem: A `keras_wp.engine.problem.Problem` with its clean logits.
        candidates: How many of the largest clean logits to consider, or None
            for all.

    Returns:
        Entries of an attack's state: `rivals`, the classes considered;
        `norms` of their gradients, 0 where unknown; `seen`, which were looked
        at from the present point; and of the nearest of those its `nearness`
        (the distance), `gap` and `gradient`.
    """
    logits = problem.clean_logits
    classes = logits.shape[-1]
    lowest = ops.top_k(logits, min(candidates or classes, classes))[0][:, -1:]
    correct = ops.one_hot(problem.y, classes, dtype="bool")
    zeros = ops.zeros_like(logits)
    return {
        "rivals": (logits >= lowest) & ~correct,
        "norms": zeros,
        "seen": zeros > 0,
        "nearness": zeros[:, 0] + float("inf"),
        "gap": zeros[:, 0],
        "gradient": ops.zeros_like(problem.x),
    }


def look(problem, survey, logits, pullback, norm):
    """Look at one more class from the present point: one backward pass.

    Returns:
        `(survey, settled)`: the entries brought up to date, and for which
        images the nearest boundary is known. A `nearness` that is infinite
        there says that no class has a gradient.
    """
    gaps = logits - at(logits, problem.y)[:, None]
    unseen = survey["rivals"] & ~survey["seen"]
    label = ops.argmin(
        _possible(gaps, survey["norms"], unseen, unsure=False), axis=-1
    )
    gradient = pullback(difference(label, problem.y, logits))
    dual = norm.dual(gradient)
    gap = at(gaps, label)
    flat = dual <= 0
    distance = ops.where(
        flat, float("inf"), ops.abs(gap) / ops.where(flat, 1.0, dual)
    )

    looked = ops.one_hot(label, logits.shape[-1], dtype="bool")
    gradient_norms = ops.where(looked, dual[:, None], survey["norms"])
    unseen = unseen & ~looked
    nearer = distance < survey["nearness"]
    nearness = ops.minimum(distance, survey["nearness"])
    survey = {
        **survey,
        "norms": gradient_norms,
        "seen": survey["seen"] | looked,
        "nearness": nearness,
        "gap": ops.where(nearer, gap, survey["gap"]),
        "gradient": select(nearer, gradient, survey["gradient"]),
    }
    others = _possible(gaps, gradient_norms, unseen, unsure=True)
    return survey, nearness <= ops.min(others, axis=-1)


def leave(survey, moved):
    """Forget what is true only of the point that some images have left."""
    gradient = survey["gradient"]
    return {
        **survey,
        "seen": survey["seen"] & ~moved[:, None],
        "nearness": ops.where(moved, float("inf"), survey["nearness"]),
        "gap": ops.where(moved, 0.0, survey["gap"]),
        "gradient": select(moved, ops.zeros_like(gradient), gradient),
    }


def _possible(gaps, gradient_norms, unseen, unsure):
    """The least distances that classes not looked at may be at."""
    known = gradient_norms > 0
    largest = ops.max(gradient_norms, axis=-1, keepdims=True)
    guess = largest * (_UNSEEN if unsure else 1.0)
    guess = ops.where(largest > 0, guess, 1.0)
    possible = ops.abs(gaps) / ops.where(known, gradient_norms, guess)
    if unsure:
        count = ops.sum(ops.cast(known, "int32"), axis=-1, keepdims=True)
        uncertain = (count < _LOOKS) & ~known
        possible = ops.where(uncertain, 0.0, possible)
    return ops.where(unseen, possible, float("inf"))
