"""What a model takes besides images, and which of its outputs counts."""

import inspect
import math

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_wp import _checks


class InterfaceError(ValueError):
    """What a model takes or returns is not to be used."""


class Ends:
    """Calls a model on images: in inference mode, for one of its outputs.

    Args:
        inputs: The `keras_wp.Inputs`, with other inputs; or None.
        output: Which output of several, by name or place; or None.
    """

    def __init__(self, inputs=None, output=None):
        self._name = inputs and inputs.name
        self._fixed = dict(inputs.fixed or {}) if inputs else {}
        self._output = output

    @property
    def usual(self):
        """Whether nothing is asked for."""
        return not self._name and not self._fixed and self._output is None

    @property
    def key(self):
        """What tells these from others; hashable."""
        fixed = tuple(
            (name, np.asarray(value).shape, np.asarray(value).tobytes())
            for name, value in sorted(self._fixed.items())
        )
        return self._name, fixed, self._output

    def __call__(self, model, x):
        """What the model returns for its classes, as one tensor."""
        switch = {"training": False} if has_switch(model) else {}
        return self._picked(model, model(self._placed(model, x), **switch))

    def _placed(self, model, x):
        """The image among the model's other inputs."""
        layer = isinstance(model, keras.layers.Layer)
        functional = getattr(model, "inputs", None) if layer else None
        several = isinstance(functional, list) and len(functional) > 1
        if not several and not self._fixed:
            return x if self._name is None else {self._name: x}
        name = self._name or "image"
        names = [*self._fixed, name]
        if several:
            names = [tensor.name for tensor in functional]
            name = self._name
            left = [n for n in names if n not in self._fixed]
            if unknown := sorted(set(self._fixed) - set(names)):
                raise InterfaceError(
                    "`inputs` must name inputs of the model. Received: "
                    f"{unknown} for a model of the inputs {names}"
                )
            if name is None and len(left) == 1:
                (name,) = left
            if name not in names or {*left} != {name}:
                raise InterfaceError(
                    "A model of several inputs needs the name of that which "
                    "is attacked, and values for the others: give `inputs="
                    "keras_wp.Inputs(name=..., fixed={...})`. Received: a "
                    f"model of the inputs {names}"
                )
        x = x if isinstance(x, KerasTensor) else ops.convert_to_tensor(x)
        zero = ops.reshape(ops.zeros_like(x), (-1, math.prod(x.shape[1:])))
        zero = zero[:, :1]

        def value(of):
            if of == name:
                return x
            fixed = np.asarray(self._fixed[of])
            kind = "float32" if fixed.dtype.kind == "f" else fixed.dtype.name
            rows = ops.cast(ops.reshape(zero, (-1, *[1] * fixed.ndim)), kind)
            return rows + ops.convert_to_tensor(fixed[None], kind)

        if not several:
            return {of: value(of) for of in names}
        flat = [value(of) for of in names]
        return keras.tree.pack_sequence_as(model._inputs_struct, flat)

    def _picked(self, model, outputs):
        """The output that is the classification."""
        if not isinstance(outputs, (dict, list, tuple)):
            known = [None, 0, *getattr(model, "output_names", ())]
            if self._output not in known:
                raise InterfaceError(
                    "`output` must name an output of the model, which has one. "
                    f"Received: output={self._output!r}"
                )
            return outputs
        names = list(outputs)
        if not isinstance(outputs, dict):
            names = list(getattr(model, "output_names", range(len(outputs))))
            outputs = dict(zip(names, outputs, strict=True))
        output = self._output
        if output is None and len(names) == 1:
            (output,) = names
        if output not in outputs and isinstance(output, int):
            output = names[output] if output < len(names) else None
        if output not in outputs:
            raise InterfaceError(
                "`output` must name the output with the classes, if a model "
                f"has several. Received: output={self._output!r} for the "
                f"outputs {names}"
            )
        return outputs[output]


def has_switch(model):
    """Whether a model is told of training."""
    if isinstance(model, keras.layers.Layer):
        return True
    try:
        return "training" in inspect.signature(model).parameters
    except (TypeError, ValueError):
        return False


def whole_numbers(model):
    """The type of whole numbers that a model's Input has, or None."""
    return input_of(model)[1]


def input_of(model):
    """A model's fixed batch size, and its type of whole numbers; or None."""
    if isinstance(model, (list, tuple)):
        found = (input_of(member)[1] for member in model)
        return None, next(filter(None, found), None)
    inputs = getattr(model, "inputs", None)
    layer = isinstance(model, keras.layers.Layer)
    if not layer or not inputs or not isinstance(inputs, list):
        return None, None
    first = inputs[0]
    return first.shape[0], first.dtype if "int" in first.dtype else None


def is_plain(model):
    """Whether a model is seen at once to map images to logits."""
    image, output = (_checks.only(model, s) for s in ("inputs", "outputs"))
    if image is None or output is None or input_of(model) != (None, None):
        return False
    struct = getattr(model, "_outputs_struct", None)
    if len(output.shape) != 2 or not isinstance(
        struct, (KerasTensor, type(None), list)
    ):
        return False
    last = output._keras_history.operation
    if isinstance(last, keras.Model):
        return is_plain(last)
    linear = (None, keras.activations.linear)
    return (
        isinstance(last, keras.layers.Dense)
        and last.activation in linear
        and output.shape[-1] > 1
    )
