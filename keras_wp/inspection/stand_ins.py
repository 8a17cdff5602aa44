"""Operations with another gradient, in the place of those that lose it."""

from keras import ops

from keras_wp.inspection.behavior import dtype_of

# A unit's own scale is at least this share of the image's, or units that
# happen to be near zero would have all the gradient.
_LEAST_SCALE = 0.1


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
        if "float" not in dtype_of(value):
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
