"""The end of a model taken apart: pre-activations, activation, what follows.

Attacks that replace an activation's gradient need the three by themselves.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

# They may stand between the activation and the logits.
_LINEAR = (
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Rescaling,
    keras.layers.Reshape,
)
# Where an activation is looked at to tell whether it saturates, and by how
# much of its value it may still change there.
_FAR, _STILL = 1e4, 1e-3


class Link(NamedTuple):
    """A part of a model, called as a whole.

    `activation` is its name if it is nothing but an activation, and not a
    linear one; `linear` whether it is linear up to a constant.
    """

    call: Callable
    activation: str | None = None
    linear: bool = False


@dataclasses.dataclass(frozen=True)
class Head:
    """What a model does from its last activation on.

    Attributes:
        before: Maps images `(N, ...)` to pre-activations `(N, ...)`.
        activation: The activation, a callable.
        after: Maps the activation's values to float32 logits `(N, K)`.
        name: The activation's name.
    """

    before: Callable
    activation: Callable
    after: Callable
    name: str

    def saturates(self):
        """Whether the activation levels off on both sides (not in a trace)."""
        far = ops.convert_to_tensor(np.linspace(-_FAR, _FAR, 4)[None])
        far = ops.cast(far, "float32")
        here = ops.convert_to_numpy(self.activation(far))
        beyond = ops.convert_to_numpy(self.activation(2.0 * far))
        if not (np.isfinite(here).all() and np.isfinite(beyond).all()):
            return False
        return bool(np.abs(beyond - here).max() <= _STILL * np.abs(here).max())


def head(model):
    """Find the last activation of a model that only linear layers follow.

    Looked for among the layers of a sequential model, models in it included,
    and along the single path that ends a functional one.

    Args:
        model: A Keras model.

    Returns:
        A `Head` that shares the model's layers, or None if there is none.
    """
    parts = links(model)
    for place in range(len(parts) - 1, -1, -1):
        part = parts[place]
        if part.activation is not None:
            to_float = Link(lambda z: ops.cast(z, "float32"))
            return Head(
                _chain(parts[:place]),
                part.call,
                _chain([*parts[place + 1 :], to_float]),
                part.activation,
            )
        if not part.linear:
            return None
    return None


def _chain(parts):
    def call(x):
        for part in parts:
            x = part.call(x)
        return x

    return call


def links(layer):
    """The parts of a model or layer, in the order in which they are called.

    Args:
        layer: A Keras layer, or whatever else can be called.

    Returns:
        A list of `Link`. What cannot be taken apart is one link.
    """
    if isinstance(layer, keras.Sequential):
        if type(layer).call is keras.Sequential.call:
            return [link for part in layer.layers for link in links(part)]
    elif isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
        return _functional(layer)
    if hasattr(layer, "activation") and hasattr(layer, "dense"):
        return [_activation(layer, layer.activation), *links(layer.dense)]
    if isinstance(layer, keras.layers.Activation):
        return [_activation(layer, layer.activation)]
    if isinstance(layer, keras.layers.ReLU) and layer.max_value is not None:
        return [_activation(layer, layer)]
    if type(layer) is keras.layers.Dense and not layer.quantization_mode:
        affine = Link(lambda x: _affine(layer, x), linear=True)
        return [affine, _activation(layer, layer.activation)]
    linear = isinstance(layer, _LINEAR)
    return [Link(lambda x: layer(x, training=False), linear=linear)]


def _activation(layer, function):
    """The link of an activation, computed in the type of its layer."""
    inner = getattr(function, "activation", function)
    name = getattr(inner, "__name__", type(inner).__name__.lower())
    dtype = layer.compute_dtype
    return Link(
        lambda x: function(ops.cast(x, dtype)),
        activation=None if name == "linear" else name,
        linear=name == "linear",
    )


def _affine(dense, x):
    """What a dense layer computes before its activation."""
    dtype = dense.compute_dtype
    kernel = ops.cast(ops.convert_to_tensor(dense.kernel), dtype)
    x = ops.matmul(ops.cast(x, dtype), kernel)
    if dense.use_bias:
        x = x + ops.cast(ops.convert_to_tensor(dense.bias), dtype)
    return x


def _functional(model):
    """The path that ends in the model's output, and all before it as one."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return [Link(lambda x: model(x, training=False))]
    source, tensor = model.inputs[0], model.outputs[0]
    makers = dict(_makers(model))
    parts = []
    while tensor is not source and id(tensor) in makers:
        layer, before = makers[id(tensor)]
        parts = [*links(layer), *parts]
        tensor = before
    if tensor is source:
        return parts
    trunk = keras.Model(source, tensor)
    return [Link(lambda x: trunk(x, training=False)), *parts]


def _makers(model):
    """By the id of a tensor: the layer that makes it, and from what."""
    for layer in model.layers:
        try:
            before, after = layer.input, layer.output
        except (AttributeError, ValueError):
            continue
        several = (list, tuple, dict)
        if not isinstance(before, several) and not isinstance(after, several):
            yield id(after), (layer, before)
