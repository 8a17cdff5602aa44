"""A model taken apart: the operations that it runs, in their order.

Whoever wants to know how a model ends, or what is inside, asks here. What is
walked is Keras's own graph of operations and nodes, in which a layer may
occur many times. Models within a model are entered; so are custom layers,
`Lambda` and overridden `call` methods, by calling them on symbolic tensors.
What that cannot open stays one step, and is listed with the reason.
"""

import dataclasses
import hashlib
import inspect
from collections.abc import Callable

import keras
import numpy as np
from keras import KerasTensor, ops

_ACTIVATED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
# How far logits may be from those of the model's steps called in turn.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of one operation.

    Attributes:
        operation: What is called: a Keras layer or operation, or a function.
        args: Its positional arguments, with a `KerasTensor` for each value
            that an earlier step computes.
        kwargs: Its keyword arguments, likewise.
        outputs: The `KerasTensor`s that stand for what it returns.
        name: What the operation is called.
    """

    operation: Callable
    args: tuple
    kwargs: dict
    outputs: tuple
    name: str

    @property
    def inputs(self):
        """The `KerasTensor`s among the arguments."""
        return symbols((self.args, self.kwargs))

    @property
    def constants(self):
        """The arguments that are tensors or arrays of fixed values."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        return [
            value
            for value in flat
            if not isinstance(value, (KerasTensor, keras.Variable))
            and (ops.is_tensor(value) or isinstance(value, np.ndarray))
        ]

    def call(self, values, operation=None):
        """What the operation returns for these values, as a flat list.

        Args:
            values: By the id of a `KerasTensor`, what stands in its place.
            operation: What is called instead.
        """

        def value(x):
            return values[id(x)] if isinstance(x, KerasTensor) else x

        args, kwargs = keras.tree.map_structure(value, (self.args, self.kwargs))
        operation = self.operation if operation is None else operation
        if isinstance(operation, keras.layers.Layer):
            kwargs.setdefault("training", False)
        return keras.tree.flatten(operation(*args, **kwargs))


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """The steps from images to an output.

    Attributes:
        source: The `KerasTensor` that stands for the images.
        steps: The steps, each after those that it needs.
        output: The `KerasTensor` that stands for the output.
        closed: For what could not be opened, `(name, reason)`.
    """

    source: KerasTensor
    steps: tuple[Step, ...]
    output: KerasTensor
    closed: tuple[tuple[str, str], ...] = ()

    def __call__(self, x, instead=None, until=None, given=None):
        """Run the steps.

        Args:
            x: Images `(N, ...)`, or None if `given` suffices.
            instead: By the place of a step in `steps`, what is called in the
                place of its operation.
            until: A list of `KerasTensor`s to return the values of. Defaults
                to the output, which is then returned by itself.
            given: By the id of a `KerasTensor`, values known already.
        """
        instead = instead or {}
        wanted = [self.output] if until is None else until
        values = dict(given or {})
        if x is not None:
            values.setdefault(id(self.source), x)
        for place in self._needed(wanted, values):
            step = self.steps[place]
            found = step.call(values, instead.get(place))
            for symbol, value in zip(step.outputs, found, strict=True):
                values[id(symbol)] = value
        found = [values[id(symbol)] for symbol in wanted]
        return found[0] if until is None else found

    def _needed(self, wanted, known):
        """The places of the steps that lead to these tensors, in order."""
        missing = {id(symbol) for symbol in wanted} - set(known)
        places = []
        for place in range(len(self.steps) - 1, -1, -1):
            step = self.steps[place]
            if missing & {id(symbol) for symbol in step.outputs}:
                places.append(place)
                missing -= {id(symbol) for symbol in step.outputs}
                missing |= {id(symbol) for symbol in step.inputs} - set(known)
        return places[::-1]

    def maker(self, symbol):
        """The place of the step that computes a tensor; None for images."""
        for place, step in enumerate(self.steps):
            if any(output is symbol for output in step.outputs):
                return place
        return None

    def users(self, symbol):
        """The places of the steps that take a tensor."""
        return [
            place
            for place, step in enumerate(self.steps)
            if any(x is symbol for x in step.inputs)
        ]

    @property
    def digest(self):
        """What tells this anatomy's fixed values from others', as bytes.

        A call may have turned weights into numbers, which do not change with
        them.
        """
        digest = hashlib.blake2b(digest_size=8)
        for step in self.steps:
            digest.update(step.name.rstrip("_0123456789").encode())
            for value in step.constants:
                digest.update(ops.convert_to_numpy(value).tobytes())
        return digest.digest()

    def does_as(self, model, x):
        """Whether the steps give what a model gives, for images `(N, ...)`.

        Outside of a trace.
        """
        try:
            found = _numbers(self(ops.convert_to_tensor(x)))
        except Exception:  # Whatever an operation of somebody else raises.
            return False
        expected = _numbers(model(ops.convert_to_tensor(x)))
        return found.shape == expected.shape and agree(found, expected)


def agree(found, expected):
    """Whether logits on the host are the same but for rounding."""
    limit = TOLERANCE * (np.abs(expected).max() + np.ptp(expected))
    return bool(np.abs(found - expected).max() <= limit)


def _numbers(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def symbols(tree):
    """The `KerasTensor`s in a structure."""
    flat = keras.tree.flatten(tree)
    return [x for x in flat if isinstance(x, KerasTensor)]


# They may stand between the last class weights and the logits.
_LINEAR_LAYERS = (
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.Subtract,
)
# Linear in all their arguments together, and in any one of them.
_LINEAR = {
    "Add",
    "Concatenate",
    "ConvertToTensor",
    "ExpandDims",
    "Flip",
    "GetItem",
    "Identity",
    "Mean",
    "Negative",
    "Reshape",
    "Roll",
    "Squeeze",
    "Stack",
    "Subtract",
    "Sum",
    "Take",
    "Transpose",
    "_Cast",
}
_LINEAR_IN_ONE = {"Divide", "Matmul", "Multiply", "TrueDivide"}


def _is_linear_step(step):
    operation = step.operation
    kind = type(operation).__name__
    if isinstance(operation, _LINEAR_LAYERS) or kind in _LINEAR:
        return True
    if kind == "Cast":
        return all("float" in x.dtype for x in (*step.inputs, *step.outputs))
    if kind not in _LINEAR_IN_ONE or len(step.inputs) != 1:
        return False
    # Nothing is divided by it.
    return "ivide" not in kind or isinstance(step.args[0], KerasTensor)


def ending(anatomy):
    """Where a model's features become logits.

    From the output back, through linear steps, as far as the input of a layer
    with class weights (a `kernel` `(P, K)`, or `centers` `(K, P)`), or else to
    what is not linear.

    Args:
        anatomy: An `Anatomy`.

    Returns:
        `(features, heads)`: the `KerasTensor`s that are the features
        together; and the places of the steps with class weights.
    """
    found, heads, met = [], [], set()

    def visit(symbol):
        if id(symbol) in met:
            return
        met.add(id(symbol))
        place = anatomy.maker(symbol)
        step = None if place is None else anatomy.steps[place]
        if step is not None and _is_head(step):
            heads.append(place)
            symbol = step.inputs[0]
        elif step is not None and _is_linear_step(step):
            for source in step.inputs:
                visit(source)
            return
        if not any(symbol is other for other in found):
            found.append(symbol)

    visit(anatomy.output)
    return found, heads


def _is_head(step):
    operation = step.operation
    if hasattr(operation, "centers"):
        return True
    if type(operation).__name__ == "Matmul":
        alone = len(step.inputs) == 1 and step.inputs[0] is step.args[0]
        return alone and len(step.inputs[0].shape) == 2
    kernel = getattr(operation, "kernel", None)
    return (
        isinstance(operation, keras.layers.Dense)
        and kernel is not None
        and len(step.inputs[0].shape) == 2
    )


def dissect(model, shape=None):
    """Take a model apart. Outside of a trace.

    Args:
        model: A Keras model or layer, or another callable that maps images
            to logits.
        shape: The shape of one image. Needed by models that do not tell.

    Returns:
        An `Anatomy`. What cannot be opened at all is its only step.
    """
    source = KerasTensor((None, *(shape or ())), "float32")
    if shape is None:
        inputs = getattr(model, "inputs", None)
        if not isinstance(inputs, list) or len(inputs) != 1:
            why = "it does not say which one image it takes"
            return Anatomy(source, (), source, ((_name(model), why),))
        source = KerasTensor(inputs[0].shape, inputs[0].dtype)
    recorder = _Recorder()
    try:
        found = recorder.call(model, source)
    except Exception as error:  # Anything, from whatever the model calls.
        why = _first_line(error)
        return Anatomy(source, (), source, ((_name(model), why),))
    several = keras.tree.flatten(found)
    if len(several) != 1:
        why = f"it has {len(several)} outputs"
        return Anatomy(source, (), source, ((_name(model), why),))
    return Anatomy(
        source, tuple(recorder.steps), several[0], tuple(recorder.closed)
    )


class _Recorder:
    """Calls operations on symbols, and notes what was called on what."""

    def __init__(self):
        self.steps = []
        self.closed = []

    def call(self, operation, *args, **kwargs):
        """What an operation makes of symbols, step by step; new symbols."""
        before = len(self.steps), len(self.closed)
        try:
            if isinstance(operation, keras.layers.Layer):
                return self._layer(operation, *args, **kwargs)
            if isinstance(operation, keras.Operation):
                return self._leaf(operation, *args, **kwargs)
            return self._traced(operation, operation, *args, **kwargs)
        except _ClosedError as error:
            del self.steps[before[0] :], self.closed[before[1] :]
            self.closed.append((_name(operation), str(error)))
            return self._leaf(operation, *args, **kwargs)

    def _layer(self, layer, *args, **kwargs):
        if isinstance(layer, keras.Sequential) and _is_keras(layer.call):
            (x,) = args
            for part in layer.layers:
                x = self.call(part, x)
            return x
        if isinstance(layer, keras.Function) and _is_keras(layer.call):
            return self._functional(layer, args[0])
        if isinstance(layer, keras.layers.Activation):
            return self._activation(layer, args[0])
        if isinstance(layer, _ACTIVATED) and _is_keras(layer.call):
            return self._activated(layer, args[0])
        mine = _is_keras(layer.call) and not isinstance(
            layer, keras.layers.Lambda
        )
        # A head with centers is asked for them as it is.
        if mine or hasattr(layer, "centers"):
            if len(list(layer._flatten_layers())) > 1 and mine:
                self.closed.append((_name(layer), "made of other layers"))
            return self._leaf(layer, *args, **kwargs)
        return self._traced(layer, layer.call, *args, **kwargs)

    def _functional(self, model, inputs):
        inputs = keras.tree.flatten(inputs)
        wanted = [(len(x.shape), x.dtype) for x in model.inputs]
        if [(len(x.shape), x.dtype) for x in inputs] != wanted:
            raise _ClosedError("its inputs are cast or reshaped")
        outputs = model._run_through_graph(inputs, call_fn=self.call)
        several = isinstance(outputs, (list, tuple)) and len(outputs) > 1
        return outputs if several else keras.tree.flatten(outputs)[0]

    def _activated(self, layer, x):
        """A layer that applies an activation to what it computes."""
        if getattr(layer, "quantization_mode", None):
            raise _ClosedError("it is quantized")
        if _is_linear(layer.activation):
            return self._leaf(layer, x)
        # A twin that shares all weights, as nothing of the layer may change.
        affine = object.__new__(type(layer))
        vars(affine).update(vars(layer))
        vars(affine)["activation"] = keras.activations.linear
        return self._activation(layer, self._leaf(affine, x))

    def _activation(self, layer, x):
        """An activation, computed in the type of its layer."""
        function, dtype = layer.activation, layer.compute_dtype
        if _is_linear(function):
            return x
        if x.dtype != dtype:
            x = self._leaf(_Cast(dtype), x)
        if isinstance(function, keras.layers.Layer) or not _is_keras(function):
            return self.call(function, x)
        return self._leaf(function, x)

    def _traced(self, owner, call, *args, **kwargs):
        """What a call of somebody's own does with symbols."""
        if not symbols((args, kwargs)):
            raise _ClosedError("it takes no tensor")
        if isinstance(owner, keras.layers.Layer):
            args = keras.tree.map_structure(
                lambda x: self._as_of(owner, x), args
            )
        if "training" in _parameters(call):
            kwargs = {**kwargs, "training": False}
        given = symbols((args, kwargs))
        try:
            # Those of its own, as what it computes is recorded in them.
            own = {
                id(x): keras.Input(batch_shape=x.shape, dtype=x.dtype)
                for x in given
            }
            args, kwargs = keras.tree.map_structure(
                lambda x: own.get(id(x), x), (args, kwargs)
            )
            returned = call(*args, **kwargs)
            if not symbols(returned):
                raise _ClosedError("it returns no symbolic tensor")
            function = keras.Function(list(own.values()), returned)
        except _ClosedError:
            raise
        except Exception as error:  # Anything that the code may raise.
            raise _ClosedError(_first_line(error)) from error
        return function._run_through_graph(
            list({id(x): x for x in given}.values()), call_fn=self.call
        )

    def _as_of(self, layer, x):
        """A tensor in the type in which a layer computes."""
        wanted = layer.compute_dtype
        floats = isinstance(x, KerasTensor) and "float" in x.dtype
        if not floats or not layer.autocast or x.dtype == wanted:
            return x
        return self._leaf(_Cast(wanted), x)

    def _leaf(self, operation, *args, **kwargs):
        """One step."""
        specify = getattr(operation, "compute_output_spec", None)
        if specify is None:
            specify = _Call(operation).compute_output_spec
        found = keras.tree.map_structure(
            lambda x: KerasTensor(x.shape, x.dtype), specify(*args, **kwargs)
        )
        outputs = tuple(keras.tree.flatten(found))
        step = Step(operation, args, kwargs, outputs, _name(operation))
        self.steps.append(step)
        return found


class _ClosedError(Exception):
    """Something that cannot be opened; says why."""


class _Call(keras.Operation):
    """A function as a Keras operation."""

    def __init__(self, function):
        super().__init__()
        self.call = function


class _Cast:
    """A cast to a type."""

    def __init__(self, dtype):
        self.name = f"cast to {dtype}"
        self._dtype = dtype

    def __call__(self, x):
        return ops.cast(x, self._dtype)


def _is_keras(thing):
    return getattr(thing, "__module__", "").startswith("keras.")


def _is_linear(function):
    return function is None or function is keras.activations.linear


def _parameters(function):
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()


def _name(operation):
    kind = getattr(operation, "__name__", type(operation).__name__)
    return getattr(operation, "name", None) or kind


def _first_line(error):
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
