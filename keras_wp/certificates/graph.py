"""A model's graph, walked node by node, with what it makes of a distance.

Every operation is met as often as the graph calls it: a layer that is called
twice counts twice, whatever `model.layers` says.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_wp.certificates.bounds import Bound, Joined
from keras_wp.certificates.refusals import RefusedError, refuse
from keras_wp.certificates.rules import rule_of, states_its_constant
from keras_wp.inspection.anatomy import dissect
from keras_wp.lipschitz import norms


class Graph:
    """A model whose every operation is bounded.

    Its operations are called once, in turn.

    Args:
        model: A Keras model.
        x: Some images, `(N, ...)` float32, one at least.

    Attributes:
        center: The mean of the images. Of an image near it, every tensor is
            near what the model makes of the center, which is measured.
        anatomy: Its `Anatomy`.
        head: The step that ends it, if that has class weights `(P, K)`; or
            None.
        outputs: What its operations, called in turn, make of the images.

    Raises:
        ValueError: If an operation is not; it names the first.
    """

    def __init__(self, model, x):
        if not isinstance(model, keras.layers.Layer):
            raise RefusedError(
                "A certificate needs a Keras model, whose layers tell what "
                f"they compute. Received: {type(model).__name__}"
            )
        self.anatomy = anatomy = dissect(
            model, x.shape[1:], states_its_constant
        )
        if anatomy.closed:
            name, why = anatomy.closed[0]
            raise RefusedError(
                "A certificate needs a bound for every operation of the "
                f"model, and {name} cannot be opened: {why}"
            )
        last = anatomy.maker(anatomy.output)
        last = None if last is None else anatomy.steps[last]
        self.head = last if last and _has_class_weights(last) else None
        self._rules, self._constants = [], {id(anatomy.source): 1.0}
        x = np.asarray(x, np.float32)
        self.center = x.mean(0, dtype=np.float64).astype(np.float32)
        self.outputs = self._measured(np.stack([self.center, *x]))[1:]

    def _measured(self, x):
        """Finds a rule and a constant for each step; returns the outputs."""
        values = {id(self.anatomy.source): x}
        for step in self.anatomy.steps:
            rule = _rule(step)
            given = [self._constants[id(symbol)] for symbol in step.inputs]
            found, at_zero = _called(step, values)
            self._rules.append((step, rule, at_zero, _length(found[0])))
            (output,) = step.outputs
            self._constants[id(output)] = rule.constant_of(given)
            values[id(output)] = found
        return values[id(self.anatomy.output)]

    @property
    def features(self):
        """The tensor before the head, or the output if there is no head."""
        return self.head.inputs[0] if self.head else self.anatomy.output

    def constant(self, symbol):
        """The Lipschitz constant, in l2, from the images to a tensor.

        That of exact arithmetic.
        """
        return self._constants[id(symbol)]

    def lengths(self, x):
        """`(n, 2)`: l2 lengths of images and distances from the center.

        At most: rounding makes none shorter.

        Args:
            x: The images, `(n, ...)` float32.
        """
        apart = norms.upper_lengths(x - self.center) * (1 + norms.gamma(1))
        return np.stack([norms.upper_lengths(x), apart], axis=-1)

    def bound(self, symbol, lengths):
        """The `Bound` of a tensor.

        Args:
            symbol: The tensor.
            lengths: `(n, 2)`, of images, as `lengths` tells.
        """
        # The center is the first of the images.
        lengths = np.concatenate([self.lengths(self.center[None]), lengths])
        sizes, apart = lengths.T
        source = self.anatomy.source
        bounds = {id(source): Bound(sizes, np.zeros_like(sizes))}
        for step, rule, at_zero, at_center in self._rules:
            given = [bounds[id(x)] for x in step.inputs]
            size, error = rule.bound(given, at_zero)
            (output,) = step.outputs
            # In exact arithmetic it is that far from that of the center.
            near = at_center + error[0] + self.constant(output) * apart + error
            bounds[id(output)] = Bound(np.fmin(size, near), error)
        return Bound(*(part[1:] for part in bounds[id(symbol)]))


def _rule(step):
    """The `Rule` of a step, or its `Joined`."""
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
    if _is_training(step):
        refuse(step, "call it without `training=True`, which is not inference")
    if len(inputs) > 1:
        return _joined(step)
    rule = rule_of(step)
    if not math.isfinite(rule.constant):
        refuse(step, "use finite weights and constants")
    return rule


def _called(step, values):
    """What a step makes of values, and the length of what it makes of zeros.

    Args:
        step: The step.
        values: By the id of a `KerasTensor`, `(N, ...)`.
    """
    given = {}
    for symbol in step.inputs:
        x = values[id(symbol)]
        # In the same call: one of zeros in front.
        x = np.concatenate([np.zeros_like(x[:1]), x])
        given[id(symbol)] = ops.convert_to_tensor(x)
    (found,) = map(ops.convert_to_numpy, step.call(given))
    return found[1:], _length(found[0])


def _length(x):
    # It may be too short by rounding, that of so many numbers at most.
    return float(np.linalg.norm(norms.float64(x))) * 1.001


def _joined(step):
    """How an operation joins tensors."""
    kind, operation = type(step.operation), step.operation
    name = kind.__name__
    layer = isinstance(operation, keras.layers.Layer)
    where = "keras.src.layers." if layer else "keras.src.ops."
    if not kind.__module__.startswith(where):
        name = None
    count = len(step.inputs)
    (shape,) = {x.shape for x in step.outputs}
    same = all(x.shape == shape for x in step.inputs)
    if name in ("Add", "Subtract") and same:
        return Joined(sum, count)
    if name == "Average" and layer and same:
        return Joined(lambda values: sum(values) / count, count)
    if name == "Concatenate" and operation.axis % len(shape):
        return Joined(lambda values: np.sqrt(sum(map(np.square, values))))
    refuse(
        step,
        "join tensors by adding, subtracting or averaging those of one "
        "shape, or by concatenating them",
    )


def _is_training(step):
    """Whether the model calls a layer as in training, always."""
    layer = isinstance(step.operation, keras.layers.Layer)
    given = (step.args, step.kwargs.get("training"))
    return layer and any(x is True for x in keras.tree.flatten(given))


def _has_class_weights(step):
    """Whether a step is `x @ kernel`, and a bias at most."""
    layer = step.operation
    kernel = getattr(layer, "kernel", None)
    if kernel is None or len(kernel.shape) != 2:
        return False
    # A class of somebody else's may compute anything of its kernel.
    known = type(layer) is keras.layers.Dense or (
        type(layer).__module__.startswith("keras_wp.lipschitz.")
    )
    return known and len(step.outputs[0].shape) == 2
