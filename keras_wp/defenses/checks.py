"""What defenses take, each checked in one place."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_wp import _backend, _first_batch
from keras_wp._compiled import takes_probabilities
from keras_wp._units import Units
from keras_wp.attacks import Attack
from keras_wp.inputs import of
from keras_wp.inspection.anatomy import dissect, undefended
from keras_wp.inspection.endings import squashed


def check_model(model):
    """Raise a ValueError unless one can train this model against attacks."""
    defended = undefended(model) is not model
    if not isinstance(model, keras.Model) or defended:
        raise ValueError(
            "Argument `model` must be a Keras model, and no defense. "
            f"Received: {type(model).__name__}"
        )
    inputs = getattr(model, "inputs", None)
    if isinstance(inputs, list) and len(inputs) > 1:
        names = [given.name for given in inputs]
        raise _first_batch.several_inputs(f"a model of the inputs {names}")
    if isinstance(inputs, list) and "float" not in inputs[0].dtype:
        raise ValueError(
            "Argument `model` must take floating-point images, as no gradient "
            f"passes a cast to integers. Received: an input of the type "
            f"{inputs[0].dtype}"
        )
    anatomy = dissect(model)
    ending = squashed(anatomy) if anatomy.steps else None
    if ending is not None:
        raise ValueError(
            "Argument `model` must return logits, not probabilities: pass "
            "`keras_wp.convert.to_logits(model)`, which shares its weights. "
            f"Received: a model that ends in a {ending.kind}"
        )


def check_attack(attack):
    """Raise a ValueError unless one can train against this attack."""
    if not isinstance(attack, Attack):
        raise ValueError(
            "Argument `attack` must be a keras_wp.attacks.Attack. Received: "
            f"{type(attack).__name__}"
        )
    if len(attack.parts) > 1 or attack.minimum_norm:
        raise ValueError(
            "A defense needs an attack of one part with a budget of its own, "
            f"such as PGD. Received: {attack.label}"
        )
    if attack.targeted:
        raise ValueError(
            "A defense needs an untargeted attack. Received: "
            f"{attack.label} with targeted=True"
        )


def check_loss(loss):
    """Raise a ValueError unless this is a loss of labels and logits."""
    if not isinstance(loss, keras.losses.Loss):
        raise ValueError(
            "Argument `loss` must be a keras.losses.Loss of integer labels "
            "and logits, such as SparseCategoricalCrossentropy("
            f"from_logits=True). Received: loss={loss!r}"
        )
    if takes_probabilities(loss):
        raise ValueError(
            "Argument `loss` must take logits: give it `from_logits=True`. "
            f"Received: {type(loss).__name__} with from_logits=False"
        )


def described(inputs):
    """The argument `inputs` of a defense.

    Raises:
        ValueError: If it asks for what a training step cannot do.
    """
    inputs = of(inputs)
    if inputs is not None and (inputs.fixed or inputs.name or inputs.dtype):
        raise ValueError(
            "A defense trains on one input of floating-point images: give "
            "`keras_wp.Inputs` their bounds, mean and std only. Received: "
            f"{inputs!r}"
        )
    return inputs


def units(defense, shape):
    """What ties images of this shape to the units of a defense's attack."""
    like = np.empty((0, *shape), np.float32)
    return Units(defense.attack.bounds, defense.inputs, like)


def examined(defense, x, y=None):
    """Look at a first batch of data before any work, and build the model.

    Returns:
        The data to pass on in the place of `x`.

    Raises:
        ValueError: If the model cannot learn from them.
    """
    batch, x = _first_batch.first(x, y)
    if batch is None:
        return x
    shape = batch[0].shape[1:]
    # Where Keras, too, makes the weights of a model that was never called.
    strategy = getattr(defense, "distribute_strategy", None)
    with strategy.scope() if strategy else contextlib.nullcontext():
        if not defense._opened:
            if not defense.model.built:
                build(defense.model, shape)
            check_model(defense.model)
            defense._opened = True
        _first_batch.check(
            batch,
            defense.model,
            units(defense, shape),
            _callable(defense._view),
            getattr(defense.loss, "ignore_class", None),
        )
    return x


def build(model, shape):
    """Create the weights of a model that was never called."""
    # A sequential model remembers the size of the batch.
    size = None if isinstance(model, keras.Sequential) else 1
    try:
        model(keras.KerasTensor((size, *shape)), training=False)
    except Exception as error:  # Whatever somebody's model raises.
        raise ValueError(
            f"The model must take images of the shape {tuple(shape)}. "
            "Received: one that was never called, and cannot be with them"
        ) from error


def _callable(view):
    """A `Classifier`, or None where it cannot be called without a graph."""
    try:
        alone = view.devices() == _backend.ANYWHERE
    except ValueError:  # They are those of several processes.
        return None
    return view if alone else None


def images(x, bounds):
    """A batch of images as float32.

    Raises:
        ValueError: If they are not one tensor of floating-point numbers, or
            of integers for the bounds (0, 255).
    """
    dtype = getattr(x, "dtype", type(x).__name__)
    if hasattr(x, "dtype"):
        dtype = keras.backend.standardize_dtype(dtype)
    whole = "int" in dtype and bounds == (0, 255)
    if "float" not in dtype and not whole:
        raise ValueError(
            "Images must be one tensor of floating-point numbers within the "
            f"attack's bounds. Received: {dtype}"
        )
    return ops.cast(x, "float32")
