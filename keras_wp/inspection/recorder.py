"""What a model runs, noted step by step as it is called on symbols."""

import collections
import inspect
import re
import types

import keras
from keras import KerasTensor, ops

from keras_wp.inspection.steps import Step, symbols

# Layers of Keras that hold a model of another framework.
_FOREIGN = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
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


class Recorder:
    """Calls operations on symbols, and notes what was called on what.

    Args:
        whole: Says of an operation whether it stays one step, though it could
            be opened.

    Attributes:
        steps: The `Step`s, in order.
        closed: What could not be opened: pairs of a name and the reason.
    """

    def __init__(self, whole=lambda operation: False):
        self.steps = []
        self.closed = []
        self._whole = whole
        self._traces, self._numbers = 0, collections.Counter()

    def call(self, operation, *args, **kwargs):
        """What an operation makes of symbols, step by step; new symbols."""
        before = len(self.steps), len(self.closed)
        try:
            if self._whole(operation):
                return self._leaf(operation, *args, **kwargs)
            if isinstance(operation, keras.layers.Layer):
                return self._layer(operation, *args, **kwargs)
            if isinstance(operation, keras.Operation):
                if any(map(_is_function, keras.tree.flatten((args, kwargs)))):
                    name = name_of(operation)
                    self.closed.append((name, "it calls a function in a loop"))
                return self._leaf(operation, *args, **kwargs)
            return self._traced(operation, operation, *args, **kwargs)
        except _ClosedError as error:
            del self.steps[before[0] :], self.closed[before[1] :]
            self.closed.append((name_of(operation), str(error)))
            return self._leaf(operation, *args, **kwargs)

    def _layer(self, layer, *args, **kwargs):
        # A functional model tells every layer, and Keras forgets it for those
        # that do not ask.
        if "training" not in _parameters(layer.call):
            kwargs.pop("training", None)
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
                self.closed.append((name_of(layer), "made of other layers"))
            elif type(layer).__name__ in _FOREIGN and mine:
                self.closed.append((name_of(layer), "not made by Keras"))
            return self._leaf(layer, *args, **kwargs)
        return self._traced(layer, layer.call, *args, **kwargs)

    def _functional(self, model, inputs):
        inputs = keras.tree.flatten(inputs)
        if [len(x.shape) for x in inputs] != [
            len(x.shape) for x in model.inputs
        ]:
            raise _ClosedError("its inputs are reshaped")
        inputs = [
            x if x.dtype == wanted.dtype else self._leaf(_Cast(wanted.dtype), x)
            for x, wanted in zip(inputs, model.inputs, strict=True)
        ]
        outputs = model._run_through_graph(inputs, call_fn=self.call)
        alone = isinstance(outputs, (list, tuple)) and len(outputs) == 1
        return outputs[0] if alone else outputs

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
            raise _ClosedError(first_line(error)) from error
        self._traces += 1
        try:
            return function._run_through_graph(
                list({id(x): x for x in given}.values()), call_fn=self.call
            )
        finally:
            self._traces -= 1

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
        step = Step(operation, args, kwargs, outputs, self._name(operation))
        self.steps.append(step)
        return found

    def _name(self, operation):
        """What an operation is called, the same each time and everywhere.

        Keras numbers those that a call makes through the whole process.
        """
        name = name_of(operation)
        if not self._traces or isinstance(operation, keras.layers.Layer):
            return name
        name = re.sub(r"_\d+$", "", name)
        self._numbers[name] += 1
        number = self._numbers[name] - 1
        return f"{name}_{number}" if number else name


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


def _is_function(thing):
    return isinstance(thing, (types.FunctionType, types.MethodType))


def _is_keras(thing):
    return getattr(thing, "__module__", "").startswith("keras.")


def _is_linear(function):
    return function is None or function is keras.activations.linear


def _parameters(function):
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()


def name_of(operation):
    """What an operation is called."""
    kind = getattr(operation, "__name__", type(operation).__name__)
    return getattr(operation, "name", None) or kind


def first_line(error):
    """What an error says, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
