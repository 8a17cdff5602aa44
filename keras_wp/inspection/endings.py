"""The softmax or sigmoid that a model ends in, as its anatomy shows it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

# Steps that change the type of numbers, or their shape, or nothing.
_PASSES = {
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "_Cast",
}


class Ending(NamedTuple):
    """What a model ends in.

    Attributes:
        kind: What it is called, in words.
        before: The `KerasTensor`s that it is applied to.
        undo: Maps their values to logits.
        squash: Maps logits to what the model returns.
    """

    kind: str
    before: tuple
    undo: Callable
    squash: Callable


def squashed(anatomy):
    """The `Ending` of a model whose outputs are probabilities, or None.

    Args:
        anatomy: Its `Anatomy`.
    """
    step = _maker(anatomy, anatomy.output)
    if step is None:
        return None
    kind = _kind(step)
    if kind is not None:
        squash = ops.softmax if kind == "softmax" else ops.sigmoid
        return Ending(kind, (step.inputs[0],), _as_it_is, squash)
    if isinstance(step.operation, keras.layers.Average):
        members = [_maker(anatomy, symbol) for symbol in step.inputs]
        if members and all(m and _kind(m) == "softmax" for m in members):
            before = tuple(member.inputs[0] for member in members)
            kind = "softmax of each member"
            return Ending(kind, before, mean_of, ops.softmax)
    return None


def mean_of(*logits, squashes=None):
    """The logarithm of the mean of the probabilities of several logits.

    Args:
        *logits: `(N, K)` of each model.
        squashes: For each, `"softmax"` (the default) or `"sigmoid"`, which
            makes probabilities of them.
    """
    squashes = squashes or ["softmax"] * len(logits)
    logs = [
        # Of two classes with one output, a softmax of (0, z) is the same.
        ops.log_sigmoid(_as_it_is(z))
        if squash == "sigmoid" and z.shape[-1] > 2
        else ops.log_softmax(_as_it_is(z))
        for z, squash in zip(logits, squashes, strict=True)
    ]
    return ops.logsumexp(ops.stack(logs), axis=0) - math.log(len(logs))


def _as_it_is(z):
    return ops.cast(ops.reshape(z, (-1, math.prod(z.shape[1:]))), "float32")


def _maker(anatomy, symbol):
    """The step that computes a tensor, but for its type; or None."""
    while True:
        place = anatomy.maker(symbol)
        if place is None:
            return None
        step = anatomy.steps[place]
        if type(step.operation).__name__ not in _PASSES:
            return step
        symbol = step.inputs[0]


def _kind(step):
    """`"softmax"`, `"sigmoid"`, or None for any other step."""
    operation = step.operation
    name = type(operation).__name__
    if len(step.inputs) != 1:
        return None
    if operation is keras.activations.sigmoid or name == "Sigmoid":
        return "sigmoid"
    if operation is keras.activations.softmax:
        axis = step.kwargs.get("axis", step.args[1] if step.args[1:] else -1)
    elif name == "Softmax":
        axis = getattr(operation, "axis", -1)
    else:
        return None
    shape = step.inputs[0].shape
    whole = isinstance(axis, int) and shape[axis] == math.prod(shape[1:])
    return "softmax" if whole else None
