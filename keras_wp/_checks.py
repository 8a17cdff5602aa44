"""Checks of what users hand in: one clear sentence, before anything is lost."""

import math
import warnings

import numpy as np
from keras import ops

# How far outside the bounds a pixel may lie, from rounding.
TOLERANCE = 1e-6


def span(bounds):
    """Bounds of a usual range, for pixels that have none on some side."""
    low, high = bounds
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    if math.isfinite(low):
        return low, low + 2.0
    return (high - 2.0, high) if math.isfinite(high) else (-1.0, 1.0)


def tolerance(eps, bounds):
    """By how much rounding may carry a perturbation beyond its budget.

    Float32 rounds in proportion to the numbers: to pixels up to 255, 255
    times as far as to pixels up to 1.
    """
    return TOLERANCE * max(*(abs(bound) for bound in span(bounds)), eps)


def images(x, bounds=None, slack=TOLERANCE):
    """Images as float32 within the bounds.

    Args:
        x: The images, `(N, ...)`.
        bounds: Lowest and highest value of a pixel: numbers, or arrays that
            broadcast against an image. None for what a model takes, if there
            is nothing that tells.
        slack: By how much they may be outside, from rounding.

    Raises:
        ValueError: If they are not floating-point, not finite, or outside the
            bounds.
    """
    x = np.asarray(x)
    if x.ndim < 2 or not len(x):
        raise ValueError(
            "Images must have the shape (N, ...) with N at least 1. "
            f"Received: shape {x.shape}"
        )
    # NumPy does not count bfloat16 among its floating types.
    floating = np.issubdtype(x.dtype, np.floating)
    if not floating and x.dtype.name != "bfloat16":
        which, hint = f" within the bounds {bounds}", _hint(x)
        if bounds is None:
            which, hint = ", in the range that the model takes (as x / 255)", ""
        raise ValueError(
            f"Images must be floating-point numbers{which}. Received: dtype "
            f"{x.dtype} with values from {x.min()} to {x.max()}{hint}"
        )
    x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x.reshape(len(x), -1)).all(1)).sum())
        raise ValueError(
            "Images must be finite. Received: NaN or infinity in "
            f"{bad} of {len(x)} images"
        )
    if bounds is None:
        return x
    low, high = bounds
    if (x < low - slack).any() or (x > high + slack).any():
        told = bounds if not np.ndim(low) and not np.ndim(high) else "given"
        raise ValueError(
            f"Images must lie within the bounds {told}. Received: values "
            f"from {x.min():g} to {x.max():g}{_hint(x)}"
        )
    return np.clip(x, low, high)


def _hint(x):
    """What images outside of the bounds may be."""
    if x.min() >= 0 and 1 < x.max() <= 255:
        return " (up to 255? then inputs=keras_wp.Inputs(bounds=(0, 255)))"
    if x.min() < -0.1 and np.abs(x).max() < 10:
        return " (normalized? then inputs=keras_wp.Inputs(mean=..., std=...))"
    return ""


def only(model, side):
    """The only one of a model's `"inputs"` or `"outputs"`, or None."""
    found = getattr(model, side, None)
    return found[0] if isinstance(found, list) and len(found) == 1 else None


def image_shape(model, shape):
    """Raise a ValueError if a Keras model does not take such an image.

    Args:
        model: A model; a subclassed one does not tell what it takes.
        shape: The shape of one image.
    """
    given = only(model, "inputs")
    if given is None:
        return
    wanted, shape = tuple(given.shape)[1:], tuple(shape)
    if len(wanted) == len(shape) and all(
        size in (None, other) for size, other in zip(wanted, shape, strict=True)
    ):
        return
    # It may take other shapes than that it was made for.
    try:
        model(np.zeros((1, *shape), np.float32), training=False)
    except Exception:
        shorter = shape == wanted[1:]
        raise ValueError(
            f"The model takes images of the shape {wanted}. Received: images "
            f"of the shape {shape}{' (in batches?)' * shorter}"
        ) from None


def num_classes(model):
    """How many classes a Keras model tells apart; None if it does not say."""
    output = only(model, "outputs")
    known = output is not None and len(output.shape) == 2
    return output.shape[-1] if known else None


def class_labels(y):
    """Labels `(N,)` of labels `(N,)`, `(N, 1)`, or one-hot `(N, K)`."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim == 2 and np.all((y == 0) | (y == 1)) and np.all(y.sum(1) == 1):
        return y.argmax(1)
    return y


def labels(y, count, num_classes):
    """Integer labels as int32 of shape `(count,)`; one-hot ones, too.

    Raises:
        ValueError: If they are not integers, not of that shape, or not in
            `[0, num_classes)`.
    """
    y = class_labels(y)
    if y.shape != (count,):
        hint = " (probabilities? take their argmax)" if y.ndim == 2 else ""
        raise ValueError(
            f"Labels must be integers of the shape ({count},). Received: "
            f"shape {y.shape}{hint}"
        )
    whole = np.issubdtype(y.dtype, np.integer)
    whole |= y.dtype == bool and num_classes == 2
    if not whole and not (
        np.issubdtype(y.dtype, np.floating)
        and np.isfinite(y).all()
        and (y == np.floor(y)).all()
    ):
        raise ValueError(f"Labels must be integers. Received: dtype {y.dtype}")
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(
            f"Labels must lie in [0, {num_classes}), as the model has "
            f"{num_classes} classes. Received: labels from {int(y.min())} to "
            f"{int(y.max())}"
        )
    return y.astype(np.int32)


def are_one_hot(y, num_classes):
    """Whether a batch of labels, tensors perhaps, is known to be `(N, K)`."""
    return num_classes != 1 and getattr(y, "shape", ())[1:] == (num_classes,)


def batch_labels(y, num_classes=None):
    """A batch of labels, tensors perhaps in a graph, as int32 of shape `(N,)`.

    Those of the shape `(N, num_classes)` are one-hot.

    Raises:
        ValueError: If they are known to be of another shape than `(N, 1)`.
    """
    shape = getattr(y, "shape", ())
    # In a graph, TensorFlow may not know how many axes there are.
    shape = (None,) if getattr(shape, "rank", 1) is None else tuple(shape)
    if len(shape) == 2 and shape[1] is None:
        # One column of labels, or one for each class: known when it runs.
        return ops.cond(
            ops.equal(ops.shape(y)[1], 1),
            lambda: ops.cast(y[:, 0], "int32"),
            lambda: ops.cast(ops.argmax(y, axis=-1), "int32"),
        )
    if are_one_hot(y, num_classes):
        return ops.cast(ops.argmax(y, axis=-1), "int32")
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,), (None,)):
        received = f"shape {shape}" if hasattr(y, "shape") else "none"
        hint = " (one-hot labels? take their argmax)" if len(shape) == 2 else ""
        raise ValueError(
            "Labels must be integers of the shape (N,). Received: "
            f"{received}{hint}"
        )
    return ops.cast(ops.reshape(y, (-1,)), "int32")


def are_probabilities(values):
    """Whether none of these is negative and each row sums to 1."""
    sums = np.abs(values.sum(-1) - 1.0)
    return bool(values.min() >= 0 and sums.max() < 1e-3)


def logits(values, model):
    """Raise a ValueError if these cannot be the logits of a sound model.

    Args:
        values: `(N, K)`.
        model: The model that returned them.
    """
    finite = np.isfinite(values).all(-1)
    if not finite.all():
        weights = getattr(model, "weights", ())
        broken = [
            w.path for w in weights if not np.isfinite(np.asarray(w)).all()
        ]
        if broken:
            raise ValueError(
                "The model's weights must be finite. Received: NaN or "
                f"infinity in {broken[0]!r}"
                + (f" and {len(broken) - 1} more" if broken[1:] else "")
            )
        raise ValueError(
            "The model's logits must be finite. Received: NaN or infinity "
            f"for {int((~finite).sum())} of {len(values)} clean images"
        )
    if values.shape[-1] < 2:
        raise ValueError(
            "The model must return logits of at least 2 classes. Received: "
            f"outputs of shape (N, {values.shape[-1]})"
        )


def warn_of_sigmoids(values):
    """Warn if logits `(N, K)` of many images look like those of sigmoids."""
    inside = values.min() >= 0 and values.max() <= 1
    if inside and np.ptp(values, axis=0).max() > 0:
        warnings.warn(
            "All outputs of the model lie between 0 and 1: if they are those "
            "of a sigmoid, remove it, as attacks need logits.",
            stacklevel=3,
        )


def batch_size(value):
    """Raise a ValueError unless this is an integer of at least 1."""
    check_at_least(1, batch_size=value)


def check_positive(**values):
    """Raise a ValueError unless each value is a finite number above 0."""
    for name, value in values.items():
        if not _is_number(value) or not 0 < value < math.inf:
            raise ValueError(
                f"Argument `{name}` must be a finite number greater than 0. "
                f"Received: {name}={value!r}"
            )


def check_not_negative(**values):
    """Raise a ValueError unless each value is a finite number, at least 0."""
    for name, value in values.items():
        if not _is_number(value) or not 0 <= value < math.inf:
            raise ValueError(
                f"Argument `{name}` must be a finite number of at least 0. "
                f"Received: {name}={value!r}"
            )


def check_at_least(least, **values):
    """Raise a ValueError unless each value is an integer, at least `least`."""
    for name, value in values.items():
        integral = isinstance(value, (int, np.integer))
        if not integral or isinstance(value, bool) or value < least:
            raise ValueError(
                f"Argument `{name}` must be an integer of at least {least}. "
                f"Received: {name}={value!r}"
            )


def _is_number(value):
    number = isinstance(value, (int, float, np.integer, np.floating))
    return number and not isinstance(value, bool)


def check_one_of(known, **values):
    """Raise a ValueError unless each value is among those that are known."""
    for name, value in values.items():
        if not isinstance(value, str) or value not in known:
            raise ValueError(
                f"Invalid value for argument `{name}`. Expected one of "
                f"{sorted(known)}. Received: {name}={value!r}"
            )
