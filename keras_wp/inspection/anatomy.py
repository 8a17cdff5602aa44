"""A model taken apart: the operations that it runs, in their order.

Whoever wants to know how a model ends, or what is inside, asks here. What is
walked is Keras's own graph of operations and nodes, in which a layer may
occur many times. Models within a model are entered; so are custom layers,
`Lambda` and overridden `call` methods, by calling them on symbolic tensors.
What that cannot open stays one step, and is listed with the reason.
"""

import dataclasses
import hashlib

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_wp import _checks
from keras_wp.inspection.recorder import Recorder, first_line, name_of
from keras_wp.inspection.steps import Step

# How far logits may be from those of the model's steps called in turn.
TOLERANCE = 1e-3


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
                to the output, which is then returned alone.
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
        for place in reversed(range(len(self.steps))):
            step = self.steps[place]
            made = {id(symbol) for symbol in step.outputs}
            if missing & made:
                places.append(place)
                missing -= made
                missing |= {id(symbol) for symbol in step.inputs} - set(known)
        return places[::-1]

    def pruned(self):
        """The same without steps that the output does not need."""
        places = self._needed([self.output], {id(self.source): None})
        steps = tuple(self.steps[place] for place in places)
        return dataclasses.replace(self, steps=steps)

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
    """Whether logits are the same except for rounding."""
    found, expected = map(ops.convert_to_numpy, (found, expected))
    limit = TOLERANCE * (np.abs(expected).max() + np.ptp(expected))
    return bool(np.abs(found - expected).max() <= limit)


def _numbers(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


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
    "Pad",
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


def undefended(model):
    """The model inside a defense, in whose place it is trained; or itself."""
    return getattr(model, "undefended", model)


def dissect(model, shape=None, whole=lambda operation: False):
    """Take a model apart. Outside of a trace.

    Args:
        model: A Keras model or layer, or another callable that maps images
            to logits.
        shape: The shape of one image. Needed by models that do not tell.
        whole: As in `Recorder`.

    Returns:
        An `Anatomy`, without steps if the model cannot be called on symbols.
    """
    model = undefended(model)
    source = KerasTensor((None, *(shape or ())), "float32")

    def closed(why):
        return Anatomy(source, (), source, ((name_of(model), why),))

    if shape is None:
        image = _checks.only(model, "inputs")
        if image is None:
            return closed("it does not say which one image it takes")
        source = KerasTensor(image.shape, image.dtype)
    recorder = Recorder(whole)
    try:
        found = recorder.call(model, source)
    except Exception as error:  # Anything, from whatever the model calls.
        return closed(first_line(error))
    several = keras.tree.flatten(found)
    if len(several) != 1:
        return closed(f"it has {len(several)} outputs")
    return Anatomy(
        source, tuple(recorder.steps), several[0], tuple(recorder.closed)
    )
