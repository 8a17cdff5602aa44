"""What defenses take, each checked in one place."""

import keras
from keras import ops

from keras_wp.attacks import Attack


def check_logits(model):
    """Raise a ValueError if a model ends in a softmax or a sigmoid."""
    if not getattr(model, "outputs", None):
        return  # It does not tell what its last layer is.
    last = model.layers[-1]
    if last.output is not model.outputs[0]:
        return  # An operation follows.
    layers = keras.layers
    squashed = isinstance(last, (layers.Activation, layers.Dense)) and (
        last.activation
        in (keras.activations.softmax, keras.activations.sigmoid)
    )
    if squashed or isinstance(last, layers.Softmax):
        raise ValueError(
            "Argument `model` must return logits, not probabilities: remove "
            "its final activation. Received: a model that ends in "
            f"{last.name!r}"
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
    if getattr(attack, "targeted", False):
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
    if not getattr(loss, "from_logits", True):
        raise ValueError(
            "Argument `loss` must take logits: give it `from_logits=True`. "
            f"Received: {type(loss).__name__} with from_logits=False"
        )


def images(x):
    """A batch of images as float32.

    Raises:
        ValueError: If they are not one tensor of floating-point numbers.
    """
    dtype = getattr(x, "dtype", type(x).__name__)
    if hasattr(x, "dtype"):
        dtype = keras.backend.standardize_dtype(dtype)
    if "float" not in dtype:
        raise ValueError(
            "Images must be one tensor of floating-point numbers within the "
            f"attack's bounds. Received: {dtype}"
        )
    return ops.cast(x, "float32")
