"""Where in a model gradients are lost, and what to use in their place.

An operation that levels off, rounds, compares or picks passes little of a
gradient on, at whatever depth it sits. It is told by what it does to numbers,
not by its name, and measured where the images are.
"""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_wp import _backend
from keras_wp.inspection.anatomy import dissect

# Where an operation is looked at to tell whether it levels off, and by how
# much of its range it may still change there.
_FAR, _STILL = 1e4, 1e-3
# A unit is lost where the slope is below this share of the steepest; so many
# lost units make an operation worth another gradient.
LOST, MANY = 1e-3, 0.05
# A slope is taken where it is at least this share of the steepest.
_STEEP = 0.1
# A unit's own scale is at least this share of the image's, or units that
# happen to be near zero would have all the gradient.
_LEAST_SCALE = 0.1
# So far from a linear function's slope, relatively, a derivative is another's.
_OTHERWISE = 0.05
_COMPARISONS = ("Greater", "GreaterEqual", "Less", "LessEqual")


@dataclasses.dataclass(frozen=True)
class Site:
    """An operation through which gradients may get lost.

    Attributes:
        places: The places of its steps in the anatomy, in order.
        kind: `"saturating"`, `"step"` (as a sign), `"rounding"`,
            `"normalizing"` (as a softmax), `"comparing"`, `"selecting"`,
            `"detached"` (linear, with a derivative that is not its own, as
            `stop_gradient`), or `"bending"` for any other activation.
        name: What the operation is called.
        lost: The share of the units, on the images looked at, where its slope
            is below a thousandth of the steepest.
        gain: By how much its argument is steeper than usual: it is steep up
            to about `1 / gain`. Of a detached one, its slope.
    """

    places: tuple[int, ...]
    kind: str
    name: str
    lost: float
    gain: float = 1.0

    @property
    def masks(self):
        """Whether so much is lost that another gradient is worth a try."""
        return self.kind != "bending" and self.lost >= MANY


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model as far as it could be opened, and seen to be the same model.

    Attributes:
        anatomy: Its `Anatomy`, or None.
        sites: Its `Site`s.
        why: What could not be opened or used, in words, one for each.
    """

    anatomy: object
    sites: tuple[Site, ...] = ()
    why: tuple[str, ...] = ()

    @property
    def masks(self):
        """The sites that lose much of a gradient."""
        return tuple(site for site in self.sites if site.masks)

    def around(self, site):
        """`(before, after)`: functions of images to what a site turns to what.

        Args:
            site: One of the sites.
        """
        anatomy = self.anatomy
        first, last = (anatomy.steps[site.places[i]] for i in (0, -1))
        return (
            lambda x: anatomy(x, until=[first.inputs[0]])[0],
            lambda x: anatomy(x, until=[last.outputs[0]])[0],
        )

    @property
    def last(self):
        """The last site that levels off, or else the last activation."""
        decided = [s for s in self.sites if s.kind in ("saturating", "step")]
        bending = [s for s in self.sites if s.kind == "bending"]
        return next(reversed(decided or bending), None)


# So many images are looked at.
_IMAGES = 8


def open_up(model, call, x):
    """Take a model apart, and compare it with itself. Outside of a trace.

    Args:
        model: As for `anatomy.dissect`.
        call: Maps images to the model's logits in inference mode.
        x: Some images, `(N, ...)` float32.

    Returns:
        An `Opened`.
    """
    x = x[:_IMAGES]
    found = dissect(model, x.shape[1:])
    why = tuple(f"{name}: {reason}" for name, reason in found.closed)
    whole = [step for step in found.steps if step.operation is model]
    if whole or not found.steps:
        return Opened(None, why=why or ("nothing to open",))
    if not found.does_as(call, x):
        why += ("its operations in turn give other logits",)
        return Opened(None, why=why)
    kept = []
    for site in sites(found, x):
        reason = _no_stand_in(found, site, x)
        if reason is None:
            kept.append(site)
        else:
            why += (f"{site.name}: {reason}",)
    return Opened(found, tuple(kept), why)


def _no_stand_in(anatomy, site, x):
    """Why the model does not run with a stand-in for a site; None if it does.

    The stand-in of what gives whole numbers or truth values gives floating
    point numbers, which have a derivative, and which no table can be read by.
    """
    (output,) = anatomy.steps[site.places[-1]].outputs
    if "float" in output.dtype:
        return None
    try:
        anatomy(
            ops.convert_to_tensor(x),
            instead=stand_ins(anatomy, [site], derivative_of),
        )
    except Exception:  # Whatever the operation behind it makes of them.
        return f"what uses its values needs them as {output.dtype}"
    return None


def sites(anatomy, x):
    """The `Site`s of a model, from the first to the last.

    Args:
        anatomy: Its `Anatomy`.
        x: Some images, `(N, ...)` float32. Outside of a trace.
    """
    places = [i for i, s in enumerate(anatomy.steps) if _may_mask(s)]
    wanted = [anatomy.steps[i].inputs[0] for i in places]
    values = anatomy(ops.convert_to_tensor(x), until=wanted)
    seen = {}
    for place, u in zip(places, values, strict=True):
        seen[place] = _behavior(anatomy.steps[place], u)
    found, merged = [], set()
    for place in places:
        what = seen[place]
        if what is None or place in merged:
            continue
        step = anatomy.steps[place]
        chain = (place,)
        if what.kind == "half":
            users = anatomy.users(step.outputs[0])
            after = seen.get(users[0]) if len(users) == 1 else None
            if after and after.kind == "half" and after.side != what.side:
                chain, merged = (place, users[0]), merged | {users[0]}
                lost = min(1.0, what.lost + after.lost)
                what = what._replace(kind="saturating", lost=lost)
            else:
                what = what._replace(kind="bending")
        found.append(Site(chain, what.kind, step.name, what.lost, what.gain))
    return tuple(found)


def _may_mask(step):
    """Whether a step is worth a look: a function of one value, or a choice."""
    kind = type(step.operation).__name__
    if kind in _COMPARISONS or kind == "Where":
        return bool(step.inputs)
    if getattr(step.operation, "weights", ()) or len(step.outputs) != 1:
        return False
    (output,) = step.outputs
    distinct = {id(x) for x in step.inputs}
    return (
        len(distinct) == 1
        and "float" in step.inputs[0].dtype
        and output.shape == step.inputs[0].shape
    )


class _Behavior(NamedTuple):
    """What an operation does to numbers; `"half"` levels off on one `side`."""

    kind: str
    lost: float = 1.0
    gain: float = 1.0
    side: int = 0


def _behavior(step, u):
    """The `_Behavior` of a step where its argument is `u`; None if linear."""
    kind = type(step.operation).__name__
    if kind in _COMPARISONS:
        return _Behavior("comparing")
    if kind == "Where":
        return _Behavior("selecting")
    symbol = step.inputs[0]

    def function(v):
        return step.call({id(symbol): v})[0]

    value = function(u)
    if "float" not in _dtype(value):
        # A cast to another kind of number.
        return _Behavior("rounding")
    one = u[:1]

    def at(constant):
        filled = ops.zeros_like(one) + ops.cast(constant, one.dtype)
        return _host(function(filled))

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
            return _Behavior("step" if upper and lower else "rounding")
    lost = float((slopes <= LOST * steepest).mean())
    gain = _gain(function, one, steepest)
    if upper and lower and span > 0:
        return _Behavior("saturating", lost, gain)
    if upper or lower:
        return _Behavior("half", lost, gain, side=1 if upper else -1)
    return _Behavior("bending", lost, gain)


_SHARES = (0.0, 1e-4, 1e-2, 0.1)


def _dtype(x):
    return keras.backend.standardize_dtype(x.dtype)


def _host(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def _slope(function, u):
    """The derivative of the sum of a function's values, on the host."""
    value, pullback = _backend.vjp(function, u)
    return _host(pullback(ops.ones_like(value)))


def _is_affine(function, u):
    """Whether a function is linear but for a constant, as far as is seen."""
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
    return _Behavior("detached", lost, gain=float(np.median(slope)))


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
    return _Behavior("normalizing", lost)


def _gain(function, one, steepest):
    """The least power of ten by which an argument of 1 is to be divided."""
    for power in range(7):
        here = ops.zeros_like(one) + ops.cast(10.0**-power, one.dtype)
        if np.abs(_slope(function, here)).max() >= _STEEP * steepest:
            return 10.0**power
    return 1.0


def stand_ins(anatomy, chosen, slope, rescale="image"):
    """What is called in the place of steps: the same values, other slopes.

    Args:
        anatomy: The `Anatomy`.
        chosen: The `Site`s.
        slope: A function of `(function, u, site)` that returns a value whose
            derivative at `u` is to be used; see `derivative_of`.
        rescale: How the gaps of comparisons are scaled, `"image"` or `"unit"`.

    Returns:
        By the place of a step, a function to call instead.
    """
    instead = {}
    for site in chosen:
        steps = [anatomy.steps[place] for place in site.places]
        if site.kind == "comparing":
            instead[site.places[0]] = _comparing(steps[0].operation, rescale)
        elif site.kind == "selecting":
            instead[site.places[0]] = _selecting
        else:
            *before, last = site.places
            instead.update(dict.fromkeys(before, _pass_on))
            instead[last] = _replaced(steps, site, slope)
    return instead


def _pass_on(x, *args, **kwargs):
    del args, kwargs
    return x


def _replaced(steps, site, slope):
    """The composition of steps, with another derivative."""

    def function(u):
        for step in steps:
            (u,) = step.call({id(step.inputs[0]): u})
        return u

    def call(*args, **kwargs):
        u = next(x for x in [*args, *kwargs.values()] if hasattr(x, "shape"))
        value = function(u)
        if "float" not in _dtype(value):
            value = ops.cast(value, u.dtype)
        return with_gradient_of(value, slope(function, u, site))

    return call


def _comparing(operation, rescale):
    """A comparison as 0 and 1, with the derivative of a sigmoid."""
    sign = 1.0 if type(operation).__name__.startswith("Greater") else -1.0

    def call(x1, x2):
        value = operation(x1, x2)
        like = x1 if hasattr(x1, "shape") and len(x1.shape) else x2
        gap = sign * (x1 - x2)
        gap = ops.cast(gap, like.dtype)
        soft = ops.sigmoid(gap / _scale(gap, rescale))
        return with_gradient_of(ops.cast(value, soft.dtype), soft)

    return call


def _selecting(condition, x1=None, x2=None):
    """A choice, as a mean that the condition weighs."""
    values = [x for x in (x1, x2) if hasattr(x, "dtype")]
    weight = ops.cast(condition, values[0].dtype)
    hard = ops.cast(condition, "bool")
    soft = weight * x1 + (1.0 - weight) * x2
    return with_gradient_of(ops.where(hard, x1, x2), soft)


def _scale(u, rescale):
    """What arguments are divided by, to lie where a slope is left."""
    axes = tuple(range(1, len(u.shape)))
    scale = ops.sqrt(ops.mean(ops.square(u), axis=axes, keepdims=True))
    if rescale == "unit":
        scale = ops.maximum(ops.abs(u), _LEAST_SCALE * scale)
    scale = ops.where(scale > 0, scale, ops.ones_like(scale))
    return ops.stop_gradient(scale)


def derivative_of(function, u, site, activation=None, rescale=None):
    """A value whose derivative at `u` is used in the place of a site's.

    Args:
        function: What the site computes.
        u: Its argument.
        site: The `Site`.
        activation: A function with the derivative to use instead, or None.
        rescale: None, `"image"` or `"unit"`; see `keras_wp.Surrogate`.
    """
    if site.kind == "detached":
        return site.gain * u
    if site.kind == "rounding":
        # No slope to be found anywhere.
        activation, rescale = activation or _identity, None
    if site.kind == "step":
        activation = activation or (ops.tanh if rescale else _identity)
    if site.kind == "normalizing":
        activation, rescale = None, "image"
        u = u - ops.stop_gradient(ops.mean(u, axis=-1, keepdims=True))
    if activation is not None:
        function = activation
    if rescale is None:
        return function(u)
    gain = 1.0 if activation is not None else site.gain
    return function(u / (gain * _scale(u, rescale)))


def _identity(u):
    return u


def with_gradient_of(value, other):
    """`value` exactly, as `other - other` is 0, but with its derivative."""
    other = ops.cast(other, value.dtype)
    change = other - ops.stop_gradient(other)
    return ops.stop_gradient(value) + change
