"""How the model that a layer ends was compiled.

Keras tells a layer nothing of `compile`, and a loss nothing of the layer that
it is given the outputs of. But `fit` calls the layer before the first step, or
while that is traced: the model is then further up, on every backend.
"""

import functools
import inspect
import sys

import keras

# Names that Keras replaces by a loss of probabilities.
_SHORT = {"crossentropy", "ce"}
# Methods of a model that train it.
_TRAINING = {"fit", "train_on_batch", "train_step"}


def with_logits(call):
    """A layer's `call` that refuses a loss of probabilities in training."""

    @functools.wraps(call)
    def checked(self, inputs):
        refuse_probabilities(self)
        return call(self, inputs)

    # What tells a model from others is what it computes.
    checked.told_as = call
    return checked


def refuse_probabilities(layer):
    """Raise a ValueError if logits are trained as if they were probabilities.

    Args:
        layer: The layer that is being called. Nothing is said if no `fit`
            calls it, or it is not the end of the model.
    """
    model = _in_training()
    if model is None or not _ends_in(model, layer):
        return
    losses = keras.tree.flatten(model.loss)
    if len(losses) != 1 or not takes_probabilities(losses[0]):
        return
    error = ValueError(
        f"A {type(layer).__name__} returns logits, and needs a loss of "
        "logits, such as keras.losses.SparseCategoricalCrossentropy("
        f"from_logits=True). Received: loss={losses[0]!r}"
    )
    error._keras_call_info_injected = True  # It is one sentence, as it is.
    raise error


def takes_probabilities(loss):
    """Whether a loss, by name, function or object, says so of itself."""
    if isinstance(loss, str) and loss.lower() in _SHORT:
        return True
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        return getattr(loss, "from_logits", True) is False
    try:
        argument = inspect.signature(loss).parameters["from_logits"]
    except (KeyError, TypeError, ValueError):
        return False
    return argument.default is False


def _in_training():
    """The model that is being trained, or None."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _TRAINING:
            owner = frame.f_locals.get("self")
            if isinstance(owner, keras.Model):
                return owner
        frame = frame.f_back
    return None


def _ends_in(model, layer):
    """Whether a functional model's only output is that of a layer."""
    outputs = getattr(model, "outputs", None)
    if not isinstance(outputs, list) or len(outputs) != 1:
        return False
    last = outputs[0]._keras_history.operation
    return last is layer or (
        isinstance(last, keras.Model) and _ends_in(last, layer)
    )
