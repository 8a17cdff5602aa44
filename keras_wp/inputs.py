"""What the numbers in images mean: their range, normalization, and type."""

import dataclasses
import math

import keras
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """What the numbers in images mean, and what else a model takes.

    Where a pixel `p` lies within `bounds`, the data and the model have
    `(p - mean) / std` in its place. Attacks work on pixels: their `eps` is in
    the units of their own `bounds`, which stand for the whole range of a
    pixel. So `PGD(eps=8 / 255)` with `Inputs(bounds=(0, 255))` and
    `PGD(eps=8, bounds=(0, 255))` are the same, and attacks by name have `eps`
    in the units of `Inputs.bounds`.

    Args:
        bounds: Lowest and highest value of a pixel: numbers, or sequences
            with one for each channel, whose `eps` is then a share of each
            channel's range. None for features without bounds, such as those
            of a table.
        mean: What is subtracted from a pixel: a number or one per channel.
        std: What it is divided by then: likewise, above 0.
        dtype: The type of images that the model takes. For whole numbers,
            such as `"uint8"`, every adversarial image is one of whole numbers.
            Defaults to floating-point, or to what the model's Input has.
        scale: For features without bounds, the unit of `eps`: a number, or
            one for each feature, such as their standard deviations.
        name: Which of a model's inputs is attacked, by its name. Needed if it
            has several.
        fixed: What the model's other inputs are given: a dictionary from
            their names to an array each, without the axis of the batch.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> imagenet = keras_wp.Inputs(
    ...     mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ... )
    >>> attack = keras_wp.attacks.PGD(eps=4 / 255, steps=20)
    >>> report = keras_wp.evaluate(model, (x, y), attack, inputs=imagenet)
    """

    bounds: tuple | None = (0.0, 1.0)
    mean: object = None
    std: object = None
    dtype: str | None = None
    scale: object = None
    name: str | None = None
    fixed: dict | None = None

    def __post_init__(self):
        for name in ("mean", "std", "scale"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _numbers(name, value))
        for name in ("std", "scale"):
            value = getattr(self, name)
            if value is not None and not np.min(value) > 0:
                raise ValueError(
                    f"Argument `{name}` must be above 0. Received: "
                    f"{name}={value.tolist()!r}"
                )
        low, high = -math.inf, math.inf
        if self.bounds is not None:
            try:
                low, high = self.bounds
            except (TypeError, ValueError):
                low = high = math.nan
        low, high = (_numbers("bounds", b, finite=False) for b in (low, high))
        if not np.all(low < high):
            raise ValueError(
                "Argument `bounds` must be (lowest, highest) with lowest < "
                f"highest, or None. Received: bounds={self.bounds!r}"
            )
        object.__setattr__(self, "bounds", (low, high))
        if self.scale is not None and self.bounded:
            raise ValueError(
                "Argument `scale` is for features without bounds: give "
                f"`bounds=None`. Received: scale={self.scale.tolist()!r}, "
                f"bounds={self.common_bounds}"
            )
        if self.dtype is not None:
            kind = keras.backend.standardize_dtype(self.dtype)
            object.__setattr__(self, "dtype", kind)

    def config(self):
        """The description as plain values."""
        values = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self)
        }
        for name in ("mean", "std", "scale"):
            value = values[name]
            values[name] = None if value is None else value.tolist()
        values["bounds"] = [bound.tolist() for bound in self.bounds]
        return values

    @property
    def bounded(self):
        """Whether pixels have a lowest and a highest value."""
        return all(np.isfinite(bound).all() for bound in self.bounds)

    @property
    def common_bounds(self):
        """The bounds of attacks by name, whose `eps` is in these units."""
        if not self.bounded:
            return _unscaled(self)
        low, high = self.bounds
        if np.ndim(low) or np.ndim(high):
            return (0.0, 1.0)
        return float(low), float(high)


def of(inputs):
    """The argument `inputs` of a public function: `Inputs`, or None.

    A dictionary stands for `Inputs(fixed=...)`.
    """
    if inputs is None or isinstance(inputs, Inputs):
        return inputs
    if isinstance(inputs, dict):
        return Inputs(fixed=inputs)
    raise ValueError(
        "Argument `inputs` must be keras_wp.Inputs, a dictionary of other "
        f"inputs that are held fixed, or None. Received: {inputs!r}"
    )


def _numbers(name, value, finite=True):
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        found = np.asarray(math.nan)
    bad = ~np.isfinite(found) if finite else np.isnan(found)
    if bad.any() or found.ndim > 3 or not found.size:
        raise ValueError(
            f"Argument `{name}` must consist of numbers, one or one for each "
            f"channel. Received: {name}={value!r}"
        )
    return found


def _unscaled(inputs):
    scale = 1.0 if inputs.scale is None else inputs.scale
    low, high = inputs.bounds
    if (
        np.size(scale) > 1
        and np.isfinite([*np.ravel(low), *np.ravel(high)]).any()
    ):
        raise ValueError(
            "Features with a bound on one side must share one `scale`. "
            "Received: several scales"
        )
    low, high = (np.unique(bound / scale) for bound in (low, high))
    if len(low) > 1 or len(high) > 1:
        raise ValueError(
            "Features with bounds of their own need them on both sides. "
            "Received: `bounds` per channel that are partly infinite"
        )
    return float(low[0]), float(high[0])
