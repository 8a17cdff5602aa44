"""The range of pixels that a model was made for, as far as it shows."""

import re

import numpy as np

# What networks of `keras.applications` without layers for it are given.
_BY_NAME = {
    r"mobilenet(v2)?_\d|xception|inception_|nasnet|resnet\d+v2": "[-1, 1]",
    r"resnet\d+$|vgg\d+$": "[0, 255] in the order BGR, less their means",
    r"densenet\d+$": "[0, 1], normalized by mean and standard deviation",
}
# Layers that leave pixels in their range.
_PASSING = {"InputLayer", "Reshape", "Permute", "Resizing", "ZeroPadding2D"}


def takes_bytes(model):
    """Whether a model's first layers are made for pixels from 0 to 255.

    An Input of whole numbers, a `Rescaling`, or a `Normalization` tell.
    """
    inputs = getattr(model, "inputs", None)
    if isinstance(inputs, list) and "int" in str(inputs[0].dtype):
        return True
    first = _first(model)
    kind = type(first).__name__
    if kind == "Rescaling":
        # To [0, 1], to [-1, 1], or to a few standard deviations.
        return bool(255 * np.max(np.abs(first.scale)) <= 10)
    mean = getattr(first, "input_mean", None)
    known = kind == "Normalization" and mean is not None
    return known and bool(np.max(np.abs(mean)) > 2)


def by_name(model):
    """The range that a model of `keras.applications` takes, or None."""
    name = str(getattr(model, "name", ""))
    if type(_first(model)).__name__ in ("Rescaling", "Normalization"):
        return None
    found = (words for key, words in _BY_NAME.items() if re.match(key, name))
    return next(found, None)


def _first(model):
    """The first layer that changes its input, or None."""
    layers = [model]
    while layers:
        first, *layers = layers
        inner = getattr(first, "layers", None)
        kind = type(first).__name__
        if isinstance(inner, list):
            layers = [*inner, *layers]
        elif kind not in _PASSING and not kind.startswith("Random"):
            return first
    return None
