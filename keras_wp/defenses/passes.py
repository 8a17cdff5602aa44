"""The passes of a training step through the model, and what they share."""

import contextvars

import keras
from keras import ops

# The step that is being traced. Each replica is traced in a thread of its own,
# and so has a step of its own.
_current = contextvars.ContextVar("step", default=None)


class Step:
    """One step of training, as a context: of whatever defense passes are.

    Args:
        loss: The loss that the defense in training was compiled with.
        one_hot: Whether labels were given as one-hot ones.
        penalized: Whether passes return what the model's own losses are, or
            zero in their place.

    Attributes:
        penalties: What these were in each pass, `(1,)`.
    """

    def __init__(self, loss, one_hot=False, penalized=True):
        self.loss, self.one_hot = loss, one_hot
        self.penalized, self.penalties = penalized, []

    def __enter__(self):
        self._token = _current.set(self)
        return self

    def __exit__(self, *raised):
        _current.reset(self._token)


def current(loss):
    """The step that is being traced; outside of any, one of that loss."""
    return _current.get() or Step(loss)


def train(model, x):
    """Pass images through a model in training mode.

    Layers with a state, such as `BatchNormalization`, move it.

    Returns:
        `(logits, penalty)`: `(N, K)` float32, and the sum of the model's own
        losses, `(1,)`.
    """
    before = values(model)
    with keras.StatelessScope(before, collect_losses=True) as scope:
        logits = model(x, training=True)
        losses = model.losses
    keep(scope, before)
    penalty = sum(ops.sum(ops.cast(loss, "float32")) for loss in losses)
    penalty = ops.reshape(ops.cast(penalty, "float32"), (1,))
    step = _current.get()
    if step is not None:
        step.penalties.append(penalty)
        if not step.penalized:
            penalty = ops.zeros_like(penalty)
    return ops.cast(logits, "float32"), penalty


def values(model):
    """The model's variables, each with its value as a tensor."""
    return [(v, ops.convert_to_tensor(v)) for v in model.variables]


def frozen(model):
    """The same as constants, which no gradient reaches."""
    return [(v, ops.stop_gradient(value)) for v, value in values(model)]


def keep(scope, before, shifts=None):
    """Assign what variables have become in a scope to them themselves.

    Args:
        scope: A `keras.StatelessScope`.
        before: The values that variables had as it began.
        shifts: By the `id` of a variable, by what its value there had been
            shifted. That is taken back.
    """
    shifts = shifts or {}
    for variable, value in before:
        after = scope.get_current_value(variable)
        if after is not value:
            shift = shifts.get(id(variable))
            variable.assign(after if shift is None else after - shift)
