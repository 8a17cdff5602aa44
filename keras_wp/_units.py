"""The units of attacks, and those of the data."""

import math

import keras
import numpy as np
from keras import ops

from keras_wp import _checks
from keras_wp.inputs import Inputs

# So near to a whole number, one of data of whole numbers is meant.
SNAP = 1e-3
# So near to one of 256 levels, that level is meant.
_BYTE = 2e-4


class _Rounded(keras.Operation):
    """Whole numbers, or what is all but whole; the gradient passes."""

    passes_gradient = True

    def __init__(self, always):
        super().__init__()
        self._always = always

    def call(self, u):
        fixed = ops.stop_gradient(u)
        near = ops.round(fixed)
        if not self._always:
            near = ops.where(ops.abs(near - fixed) < SNAP, near, fixed)
        return near + (u - fixed)

    def compute_output_spec(self, u):
        return keras.KerasTensor(u.shape, u.dtype)


class Units:
    """The units of attacks, and those of the data: `data = scale * u + shift`.

    Attributes:
        bounds: Lowest and highest value of a pixel, in units of attacks.
        whole: The type of whole numbers that the model takes, or None.
        notes: What is assumed, in words.
    """

    def __init__(self, bounds, inputs=None, raw=None, whole=None):
        """Bind a description of the data to the bounds of attacks.

        Args:
            bounds: Those of the attacks.
            inputs: The `Inputs`, or None for data in the units of attacks,
                or of integers that tell their range by their type.
            raw: The first images `(N, ...)`, as they are.
            whole: The type of whole numbers that the model's Input has.
        """
        self.bounds, self.notes = bounds, ()
        self._pixels = self._mean = self._std = None
        self.scale, self.shift = np.ones(()), np.zeros(())
        self.whole = whole
        integer = raw is not None and _is_integer(raw)
        if inputs is None and integer:
            inputs = _by_type(raw, bounds)
        elif inputs is None and whole and bounds[1] - bounds[0] <= 1:
            raise ValueError(
                f"The model takes whole numbers, of type {whole}: give `inputs="
                "keras_wp.Inputs(bounds=(0, 255))`, or images of that type. "
                f"Received: images of type {raw.dtype} for the bounds {bounds}"
            )
        if inputs is not None:
            if inputs.dtype is not None and "int" in inputs.dtype:
                self.whole = inputs.dtype
            if not inputs.bounded:
                self.bounds = inputs.common_bounds
            self._bind(inputs, () if raw is None else raw.shape[1:])
        self.snaps = integer and not self.identity
        if self.whole is not None:
            if np.ptp(self.scale):
                raise ValueError(
                    "Images of whole numbers must have one range for all "
                    "channels. Received: bounds, mean or std per channel for "
                    f"a model that takes {self.whole}"
                )
            self.notes += (
                f"images are whole numbers, as {self.whole}, and eps is "
                "rounded down to them",
            )

    def _bind(self, inputs, shape):
        low, high = (_on_channels(b, shape) for b in inputs.bounds)
        mean = _on_channels(0.0 if inputs.mean is None else inputs.mean, shape)
        std = _on_channels(1.0 if inputs.std is None else inputs.std, shape)
        if inputs.bounded:
            first, last = self.bounds
            rate = (high - low) / (last - first)
            offset = low - first * rate
        else:
            rate = 1.0 if inputs.scale is None else inputs.scale
            rate, offset = _on_channels(rate, shape), 0.0
        self.scale = np.asarray(rate / std, np.float64)
        self.shift = np.asarray((offset - mean) / std, np.float64)
        self._pixels, self._mean, self._std = (low, high), mean, std
        if self.identity:
            if inputs.bounded and self.bounds != (0.0, 1.0):
                self.notes = (f"eps in units of [{first:g}, {last:g}]",)
            return
        words, several = [], bool(np.ndim(low) or np.ndim(high))
        if not inputs.bounded:
            words.append("features without bounds")
        elif several:
            words.append("bounds per channel")
        else:
            words.append(f"images in [{float(low):g}, {float(high):g}]")
        if inputs.mean is not None or inputs.std is not None:
            words.append("normalized by mean and standard deviation")
        if inputs.bounded and (several or (low, high) != self.bounds):
            words.append(f"eps in units of [{first:g}, {last:g}]")
        elif inputs.scale is not None:
            words.append("eps in units of their scale")
        self.notes = (", ".join(words),)

    @property
    def identity(self):
        """Whether data are in the units of attacks."""
        return bool(np.all(self.scale == 1) and np.all(self.shift == 0))

    @property
    def trivial(self):
        """Whether the model takes what attacks work on."""
        return self.identity and self.whole is None

    @property
    def key(self):
        """What tells these units from others; hashable."""
        if self.trivial:
            return None
        arrays = (self.scale, self.shift)
        parts = [(a.shape, a.tobytes()) for a in arrays]
        return (*parts, self.whole, self.snaps)

    def budget(self, norm, eps):
        """A budget that rounding to whole numbers stays within.

        Raises:
            ValueError: If there is none.
        """
        if self.whole is None or norm != "linf" or eps is None:
            return eps
        step = float(np.max(np.abs(self.scale)))
        whole = math.floor(eps * step * (1 + 1e-6))
        if whole < 1:
            raise ValueError(
                "`eps` must let a whole number become another one, as the "
                f"model takes {self.whole}. Received: eps={eps:g} in units of "
                f"{self.bounds}, {eps * step:.2g} in those of the images"
            )
        return whole / step

    def images(self, raw):
        """Images as float32 in the units of attacks, checked.

        Raises:
            ValueError: As `_checks.images`.
        """
        raw = np.asarray(raw)
        if self.identity:
            if _is_integer(raw):
                raw = raw.astype(np.float32)
            return _checks.images(raw, self.bounds)
        wide = raw.astype(np.float64)
        rounding = 0.0
        if not _is_integer(raw):
            digits = 2.0**-7 if raw.dtype.itemsize == 2 else 2.0**-22
            rounding = digits * np.abs(wide * self._std).max(initial=0.0)
        _checks.images(
            wide * self._std + self._mean,
            self._pixels,
            rounding + _checks.TOLERANCE,
        )
        found = (wide - self.shift) / self.scale
        low, high = self.bounds
        if math.isfinite(high - low):
            # What was a byte is one again: random numbers depend on it.
            share = (found - low) / (high - low) * 255
            near = np.rint(share)
            exact = low + near / 255 * (high - low)
            found = np.where(np.abs(share - near) < _BYTE, exact, found)
        return np.clip(found, low, high).astype(np.float32)

    def to_data(self, u):
        """Points on the host in the units of the data, as float32."""
        if self.trivial:
            return u
        found = np.asarray(u, np.float64) * self.scale + self.shift
        near = np.rint(found)
        if self.whole is not None:
            found = near
        elif self.snaps:
            found = np.where(np.abs(found - near) < SNAP, near, found)
        return found.astype(np.float32)

    def from_data(self, x):
        """Images in the units of attacks, as tensors, within the bounds."""
        if self.identity:
            return x
        scale, shift = self._factors()
        return ops.clip(ops.divide(ops.subtract(x, shift), scale), *self.bounds)

    def _factors(self):
        return (
            ops.convert_to_tensor(part.astype(np.float32))
            for part in (self.scale, self.shift)
        )

    def tensor(self, u):
        """Points as the model takes them: what `to_data` gives, as tensors.

        The gradient passes where numbers are rounded.
        """
        if self.trivial:
            return u
        if not self.identity:
            scale, shift = self._factors()
            u = ops.add(ops.multiply(u, scale), shift)
        if self.whole is None and not self.snaps:
            return u
        return _Rounded(self.whole is not None)(u)

    def on_levels(self, points, clean, norm, eps):
        """Points as whole numbers, within the ball: the nearest, or inwards.

        Args:
            points: `(N, ...)` on the host, in the units of attacks.
            clean: The images that they are near to.
            norm: A `Norm`.
            eps: Radius of the ball, or None.
        """
        exact = np.asarray(points, np.float64) * self.scale + self.shift
        origin = np.rint(np.asarray(clean) * self.scale + self.shift)
        levels = np.rint(exact)
        if eps is not None:
            moved = ((levels - origin) / self.scale).astype(np.float32)
            length = ops.convert_to_numpy(norm.length(moved))
            outside = length > eps * (1 + 1e-5)
            inwards = origin + np.trunc(exact - origin)
            levels[outside] = inwards[outside]
        return ((levels - self.shift) / self.scale).astype(np.float32)


def _is_integer(x):
    return np.issubdtype(np.asarray(x).dtype, np.integer)


def _by_type(raw, bounds):
    """The `Inputs` of data of whole numbers, by their type and values."""
    low, high = bounds
    if raw.min() >= low and raw.max() <= high and high > 1:
        return None
    # Those of 16 bits may be of 10 or 12.
    usual = raw.dtype.itemsize != 2 and raw.min() >= 0 and raw.max() <= 255
    if raw.max() <= 1 or not usual:
        raise ValueError(
            "Images of whole numbers need their range: give `inputs="
            "keras_wp.Inputs(bounds=(lowest, highest))`. Received: dtype "
            f"{raw.dtype} with values from {raw.min()} to {raw.max()}"
        )
    return Inputs(bounds=(0, 255))


def _on_channels(values, shape):
    """Numbers, one or one per channel, to be applied to images `(N, ...)`."""
    values = np.asarray(values, np.float64)
    if not values.ndim or not shape or values.shape == tuple(shape):
        return values
    first = keras.config.image_data_format() == "channels_first"
    axes = [0, len(shape) - 1] if first else [len(shape) - 1, 0]
    for axis in axes:
        if values.ndim == 1 and shape[axis] == len(values):
            return values.reshape(
                [-1 if i == axis else 1 for i in range(len(shape))]
            )
    raise ValueError(
        "One number for each channel must fit the images. Received: "
        f"numbers of the shape {values.shape} for images of {tuple(shape)}"
    )
