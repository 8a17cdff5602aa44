"""One call of an operation, as it is noted in a model."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import KerasTensor, ops


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


def symbols(tree):
    """The `KerasTensor`s in a structure."""
    flat = keras.tree.flatten(tree)
    return [x for x in flat if isinstance(x, KerasTensor)]
