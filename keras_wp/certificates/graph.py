"""A model's graph, walked node by node, with what it makes of a distance.

Every operation is met as often as the graph calls it: a layer that is called
twice counts twice, whatever `model.layers` says.
"""

import math
from typing import NamedTuple

import keras
import numpy as np

from keras_wp.certificates.refusals import RefusedError, refuse
from keras_wp.certificates.rules import (
    rule_of,
    states_its_constant,
)
from keras_wp.inspection.anatomy import dissect
from keras_wp.lipschitz import norms

# No number within this can overflow float32.
_FINITE = 1e37


class Bound(NamedTuple):
    """What is known of a tensor, for images of certain lengths.

    Attributes:
        constant: The Lipschitz constant of exact arithmetic, from the images
            to it, in l2.
        size: `(n,)`, its l2 length in float32, at most.
        error: `(n,)`, its l2 distance from exact arithmetic, at most.
    """

    constant: float
    size: np.ndarray
    error: np.ndarray


class Graph:
    """A model whose every operation is bounded.

    Args:
        model: A Keras model.
        shape: The shape of an image.

    Attributes:
        anatomy: Its `Anatomy`.
        head: The step that ends it, if that has class weights `(P, K)`; or
            None.

    Raises:
        ValueError: If an operation is not; it names the first.
    """

    def __init__(self, model, shape):
        if not isinstance(model, keras.layers.Layer):
            raise RefusedError(
                "A certificate needs a Keras model, whose layers tell what "
                f"they compute. Received: {type(model).__name__}"
            )
        self.anatomy = anatomy = dissect(model, shape, states_its_constant)
        if anatomy.closed:
            name, why = anatomy.closed[0]
            raise RefusedError(
                "A certificate needs a bound for every operation of the "
                f"model, and {name} cannot be opened: {why}"
            )
        self._measured = [_measure(step) for step in anatomy.steps]
        last = anatomy.maker(anatomy.output)
        last = None if last is None else anatomy.steps[last]
        self.head = last if last and _has_class_weights(last) else None

    @property
    def features(self):
        """The tensor before the head, or the output if there is no head."""
        return self.head.inputs[0] if self.head else self.anatomy.output

    def bound(self, symbol, lengths):
        """The `Bound` of a tensor.

        Args:
            symbol: The tensor.
            lengths: `(n,)`, the l2 lengths of images, at most.
        """
        nothing = np.zeros_like(lengths)
        source = self.anatomy.source
        bounds = {id(source): Bound(1.0, lengths, nothing)}
        for step, rule, at_zero in self._measured:
            given = [bounds[id(x)] for x in step.inputs]
            if len(given) == 1:
                found = _through(rule, at_zero, given[0])
            else:
                found = rule(given)
            found = found._replace(
                error=np.where(found.size < _FINITE, found.error, np.inf)
            )
            bounds[id(step.outputs[0])] = found
        return bounds[id(symbol)]


def _through(rule, at_zero, given):
    """What an operation of one tensor makes of what is known of it."""
    local = rule.rounding(given.size, at_zero)
    # That of zeros is in float32, too.
    zeros = at_zero + rule.rounding(0.0 * given.size, at_zero)
    return Bound(
        constant=rule.constant * given.constant,
        size=zeros + rule.constant * given.size + local,
        error=rule.constant * given.error + local,
    )


def _measure(step):
    """A step, its rule, and the length of what it makes of zeros."""
    operation, outputs = step.operation, step.outputs
    inputs = step.inputs
    for symbol in (*inputs, *outputs):
        if symbol.dtype != "float32":
            refuse(step, f"leave all in float32, instead of {symbol.dtype}")
    computed = getattr(operation, "compute_dtype", "float32")
    if computed not in ("float32", None):
        refuse(step, f"build it in float32, instead of {computed}")
    if len(outputs) != 1 or len(outputs[0].shape) < 2:
        refuse(step, "return one tensor, with an axis for the images")
    if any(x.shape[0] is not None or None in x.shape[1:] for x in outputs):
        refuse(step, "keep the axis of the images in front, and shapes fixed")
    if not inputs:
        refuse(step, "compute it of the images")
    if len(inputs) > 1:
        return step, _merging(step), None
    rule = rule_of(step)
    if not math.isfinite(rule.constant):
        refuse(step, "use finite weights and constants")
    zeros = np.zeros((1, *inputs[0].shape[1:]), np.float32)
    (found,) = step.call({id(inputs[0]): keras.ops.convert_to_tensor(zeros)})
    # It may be too short by rounding, that of so many numbers at most.
    at_zero = float(np.linalg.norm(norms.float64(found))) * 1.001
    return step, rule, at_zero


def _merging(step):
    """What an operation makes of several tensors: of their `Bound`s, one."""
    kind, operation = type(step.operation), step.operation
    name = kind.__name__
    layer = isinstance(operation, keras.layers.Layer)
    where = "keras.src.layers." if layer else "keras.src.ops."
    if not kind.__module__.startswith(where):
        name = None
    count = len(step.inputs)
    (shape,) = {x.shape for x in step.outputs}
    same = all(x.shape == shape for x in step.inputs)
    if name in ("Add", "Subtract", *["Average"] * layer) and same:
        share = 1 / count if name == "Average" else 1.0

        def summed(given):
            size = sum(bound.size for bound in given)
            local = norms.gamma(count + 1) * size + norms.FLUSHED
            return Bound(
                constant=share * sum(bound.constant for bound in given),
                size=share * size + local,
                error=share * sum(bound.error for bound in given) + local,
            )

        return summed
    if name == "Concatenate" and operation.axis % len(shape):

        def joined(given):
            lengths = [
                np.sqrt(sum(np.square(value) for value in values))
                for values in zip(*given, strict=True)
            ]
            return Bound(float(lengths[0]), *lengths[1:])

        return joined
    refuse(
        step,
        "join tensors by adding, subtracting or averaging those of one "
        "shape, or by concatenating them",
    )


def _has_class_weights(step):
    """Whether a step is `x @ kernel`, and a bias at most."""
    layer = step.operation
    kernel = getattr(layer, "kernel", None)
    if kernel is None or len(kernel.shape) != 2:
        return False
    known = isinstance(layer, keras.layers.Dense) or (
        type(layer).__module__.startswith("keras_wp.lipschitz.")
    )
    return known and len(step.outputs[0].shape) == 2
