"""What an operation does to numbers: level off, round, compare, or nothing.

It is told by what it does where the images are, and not by its name.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_wp import _backend

# Where an operation is looked at to tell whether it levels off, and by how
# much of its range it may still change there.
_FAR, _STILL = 1e4, 1e-3
# A unit is lost where the slope is below this share of the steepest; so many
# lost units make an operation worth another gradient.
LOST, MANY = 1e-3, 0.05
# A slope is taken where it is at least this share of the steepest.
_STEEP = 0.1
# So far from a linear function's slope, relatively, a derivative is another's.
_OTHERWISE = 0.05
COMPARISONS = ("Greater", "GreaterEqual", "Less", "LessEqual")


class Behavior(NamedTuple):
    """What an operation does to numbers; `"half"` levels off on one `side`."""

    kind: str
    lost: float = 1.0
    gain: float = 1.0
    side: int = 0


def behavior(step, u):
    """The `Behavior` of a step where its argument is `u`; None if linear."""
    kind = type(step.operation).__name__
    if kind in COMPARISONS:
        return Behavior("comparing")
    if kind == "Where":
        return Behavior("selecting")
    symbol = step.inputs[0]

    def function(v):
        return step.call({id(symbol): v})[0]

    value = function(u)
    if "float" not in dtype_of(value):
        # A cast to another kind of number.
        return Behavior("rounding")
    one = u[:1]

    def at(constant):
        return _host(function(ops.full_like(one, constant)))

    with np.errstate(all="ignore"):
        far = {c: at(c * _FAR) for c in (-2, -1, 1, 2)}
        middle = at(0.0)
        if not all(np.isfinite(v).all() for v in far.values()):
            return None
        spread = np.stack([middle, *far.values()])
        span = np.ptp(spread, axis=0).max()
        if _is_affine(function, one):
            return _detached(function, u)
        if not _is_elementwise(function, one):
            return _normalizing(function, u)
        slopes = np.abs(_slope(function, u))
        steepest = max(
            slopes.max(),
            *(np.abs(_slope(function, one * t)).max() for t in _SHARES),
        )
        still = _STILL * span
        upper = bool(np.abs(far[2] - far[1]).max() <= still)
        lower = bool(np.abs(far[-2] - far[-1]).max() <= still)
        if steepest == 0:
            if span == 0 and np.ptp(_host(value)) == 0:
                return None
            return Behavior("step" if upper and lower else "rounding")
    lost = float((slopes <= LOST * steepest).mean())
    gain = _gain(function, one, steepest)
    if upper and lower and span > 0:
        return Behavior("saturating", lost, gain)
    if upper or lower:
        return Behavior("half", lost, gain, side=1 if upper else -1)
    return Behavior("bending", lost, gain)


_SHARES = (0.0, 1e-4, 1e-2, 0.1)


def dtype_of(x):
    """The name of a tensor's dtype."""
    return keras.backend.standardize_dtype(x.dtype)


def _host(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def _slope(function, u):
    """The derivative of the sum of a function's values, on the host."""
    value, pullback = _backend.vjp(function, u)
    return _host(pullback(ops.ones_like(value)))


def _is_affine(function, u):
    """Whether a function is linear except for a constant, as far as is seen."""
    middle = _host(function(ops.zeros_like(u)))
    for scale in (1e-2, 1.0, 1e3):
        there, back = _host(function(scale * u)), _host(function(-scale * u))
        twice = _host(function(2.0 * scale * u))
        size = np.abs(there).max() + np.abs(middle).max()
        if not np.abs(there + back - 2 * middle).max() <= 1e-4 * size:
            return False
        if not np.abs(twice - 2 * there + middle).max() <= 1e-4 * size:
            return False
    return True


def _is_elementwise(function, u):
    """Whether a value of `u` has no influence on what becomes of others."""
    flat = ops.reshape(u, (-1,))
    first = ops.cast(ops.arange(flat.shape[0]) == 0, u.dtype)
    # A softmax of large values hides it.
    for scale in (1.0, 0.1 / (float(np.abs(_host(u)).max()) or 1.0)):
        near = scale * flat
        size = ops.max(ops.abs(near)) + scale
        moved = ops.reshape(near + size * first, u.shape)
        before = _host(function(ops.reshape(near, u.shape))).ravel()
        if not np.array_equal(before[1:], _host(function(moved)).ravel()[1:]):
            return False
    return True


def _detached(function, u):
    """A linear function of each value, with a derivative that is another's."""
    one = u[:1]
    if not _is_elementwise(function, one):
        return None
    slope = _host(function(ops.ones_like(one))) - _host(
        function(ops.zeros_like(one))
    )
    # Not ones, or values that change places would not be seen.
    weights = np.random.default_rng(0).normal(size=u.shape)
    weights = weights.astype(np.float32)
    _, pullback = _backend.vjp(function, u)
    found = _host(pullback(ops.convert_to_tensor(weights, dtype=u.dtype)))
    expected = weights * slope
    size = np.abs(slope).max()
    lost = float((np.abs(found - expected) > _OTHERWISE * size).mean())
    if not lost >= MANY:
        return None
    return Behavior("detached", lost, gain=float(np.median(slope)))


def _normalizing(function, u):
    """A softmax or the like, whose values are decided by large arguments."""
    size = float(np.abs(_host(u)).max()) or 1.0
    tiny = _host(function(u * (_STILL / size)))
    huge, larger = (_host(function(u * (k * _FAR / size))) for k in (1, 2))
    span = np.abs(huge - tiny).max()
    if not np.isfinite(larger).all() or not span > 0:
        return None
    if np.abs(larger - huge).mean() > _STILL * span:
        return None
    # Not ones, as the outputs may have a sum without a slope.
    weights = np.random.default_rng(0).normal(size=u.shape)
    weights = ops.cast(ops.convert_to_tensor(weights), u.dtype)
    sizes = []
    for v in (u, u / size):
        value, pullback = _backend.vjp(function, v)
        gradient = np.abs(_host(pullback(weights)))
        sizes.append(gradient.reshape(len(gradient), -1).max(-1))
    lost = float((sizes[0] <= LOST * max(sizes[1].max(), 1e-30)).mean())
    return Behavior("normalizing", lost)


def _gain(function, one, steepest):
    """The least power of ten by which an argument of 1 is to be divided."""
    for power in range(7):
        here = np.abs(_slope(function, ops.full_like(one, 10.0**-power)))
        if here.max() >= _STEEP * steepest:
            return 10.0**power
    return 1.0
