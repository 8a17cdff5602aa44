"""Existing networks with another end: logits, or another head.

All functions return a model that shares all layers and weights with the one
given, but for its end, and leave that one as it is.
"""

import keras

from keras_wp.inspection.anatomy import dissect, undefended
from keras_wp.inspection.endings import squashed
from keras_wp.layers import RobustHead

_SQUASHING = (keras.activations.softmax, keras.activations.sigmoid)
_LINEAR = (None, keras.activations.linear)


def to_logits(model):
    """A model that ends before the final softmax or sigmoid of another.

    It shares all weights with it, and can be saved, trained and attacked. A
    model that ends in neither is returned as it is.

    Args:
        model: A Keras model, sequential or functional, of one output; the
            end may be in a model within.

    Returns:
        A Keras model. It is not compiled.

    Raises:
        ValueError: If `model` cannot be opened, or it ends in a softmax or a
            sigmoid that is not a layer's own.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    ... )
    >>> logits = keras_wp.convert.to_logits(model)
    >>> logits.layers[-1].kernel is model.layers[-1].kernel
    True
    """
    model = undefended(model)
    _check(model)
    anatomy = dissect(model)
    if not anatomy.steps or squashed(anatomy) is None:
        return model
    done = False

    def change(last, x):
        nonlocal done
        if _is_squashing(last):
            done = True
            return _cast(last, x)
        if getattr(last, "activation", None) in _SQUASHING:
            done = True
            return _linear_twin(last)
        if _passes(last):
            return None
        raise ValueError(
            "The model must end in a softmax or a sigmoid that is a layer or "
            f"the activation of one. Received: {_shown(last)} at its end"
        )

    while not done:
        model = _changed(model, change)
    return model


def to_head(model, head):
    """A model with a layer of your choice in the place of its last `Dense`.

    The layer sees the same features; a softmax or sigmoid after the `Dense` is
    left out. Features that have passed an activation, such as a ReLU, have
    passed it.

    Args:
        model: A Keras model, sequential or functional, of one output, that
            ends in a `Dense` layer on features `(N, P)`; the end may be in a
            model within.
        head: A Keras layer from features `(N, P)` to logits, such as a
            `keras_wp.layers.HypersphereHead`: of as many classes, or of
            others, to be learned.

    Returns:
        A Keras model that returns logits. It is not compiled.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(8, activation="relu"),
    ...         keras.layers.Dense(3, activation="softmax"),
    ...     ]
    ... )
    >>> head = keras_wp.layers.HypersphereHead(3)
    >>> embedded = keras_wp.convert.to_head(model, head)
    >>> embedded.layers[-1] is head, embedded.layers[0] is model.layers[0]
    (True, True)
    """
    if not isinstance(head, keras.layers.Layer):
        raise ValueError(
            "Argument `head` must be a Keras layer from features to logits. "
            f"Received: head={head!r}"
        )
    return _with_head(model, lambda dense: head)


def to_robust_head(
    model,
    s=0.1,
    alpha=100.0,
    activation="tanh",
    kernel_initializer="glorot_uniform",
):
    """A model with a `RobustHead` in the place of another's last `Dense`.

    The head sees the same features and has a kernel of its own, to be
    trained; a softmax or sigmoid after the `Dense` is left out. Features
    that have passed an activation, such as a ReLU, pass the head's as well:
    choose `activation=None` to have theirs alone.

    Args:
        model: A Keras model, sequential or functional, of one output, that
            ends in a `Dense` layer on features `(N, P)`; the end may be in a
            model within.
        s: Length of a class weight, as in `keras_wp.RobustHead`.
        alpha: Weight of the penalty, likewise.
        activation: The head's activation, likewise.
        kernel_initializer: Initializer of the kernel, likewise.

    Returns:
        A Keras model that returns logits. It is not compiled.

    Raises:
        ValueError: If `model` is not as described, or an argument is out of
            its range.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(8),
    ...         keras.layers.Dense(3, activation="softmax"),
    ...     ]
    ... )
    >>> robust = keras_wp.convert.to_robust_head(model)
    >>> type(robust.layers[-1]).__name__, robust.layers[0] is model.layers[0]
    ('RobustHead', True)
    """

    def head(dense):
        return RobustHead(
            dense.units,
            s=s,
            alpha=alpha,
            activation=activation,
            kernel_initializer=kernel_initializer,
            # Under a mixed policy, in full precision.
            dtype=dense.dtype_policy.variable_dtype,
        )

    return _with_head(model, head)


def _with_head(model, head):
    """A model with `head(dense)` in the place of its last `Dense` layer."""
    model = undefended(model)
    _check(model)
    done = False

    def change(last, x):
        nonlocal done
        squashes = getattr(last, "activation", None) in _SQUASHING + _LINEAR
        flat = len(getattr(x, "shape", ())) == 2
        if isinstance(last, keras.layers.Dense) and squashes and flat:
            done = True
            return head(last)
        if _is_squashing(last) or _passes(last):
            return None
        raise ValueError(
            "The model must end in a Dense layer on features (N, P), after "
            "which there is at most a softmax or a sigmoid. Received: "
            f"{_shown(last)} at its end"
        )

    while not done:
        model = _changed(model, change)
        if model is None:
            raise ValueError(
                "The model must end in a Dense layer. Received: one without"
            )
    return model


def _check(model):
    one = len(getattr(model, "outputs", None) or ()) == 1
    kinds = (keras.Sequential, keras.Function)
    usual = isinstance(model, kinds) and model.call.__module__
    if not one or not usual or not usual.startswith("keras."):
        raise ValueError(
            "The model must be a sequential or functional Keras model of one "
            f"output. Received: a {type(model).__name__}{_unbuilt(model)}"
        )


def _unbuilt(model):
    """What helps if it is one that has not got its weights yet, in words."""
    if isinstance(model, keras.Sequential) and model.layers and not model.built:
        return " that is not built: call `model.build((None, ...))` first"
    return ""


def _changed(model, change):
    """A model with something else in the place of its last layer.

    Args:
        model: A sequential or functional model.
        change: Maps the last operation, and the `KerasTensor` that it takes,
            to the layer in its place; or to None, if there is to be none.

    Returns:
        The model, or None if nothing is left of it.
    """
    # In the graph: a layer's own `input` is that of its first use.
    last, place, _ = model.outputs[0]._keras_history
    arguments = last._inbound_nodes[place].arguments
    (x, *_) = [*arguments.keras_tensors, None]
    if isinstance(model, keras.Sequential):
        *kept, last = model.layers
        new = _instead(last, x, change)
        kept += [] if new is None else [new]
        given = model.inputs[0]
        first = keras.Input(batch_shape=given.shape, dtype=given.dtype)
        made = keras.Sequential([first, *kept], name=model.name)
        return made if kept else None
    new = _instead(last, x, change)
    if new is not None:
        x = new(*arguments.args, **arguments.kwargs)
    if any(x is given for given in model.inputs):
        return None
    return keras.Model(model.input, x, name=model.name)


def _instead(last, x, change):
    if isinstance(last, keras.Model):
        _check(last)
        return _changed(last, change)
    return change(last, x)


def _is_squashing(last):
    """Whether an operation is a softmax or a sigmoid and nothing else."""
    if isinstance(last, keras.layers.Activation):
        return last.activation in _SQUASHING
    return type(last).__name__ in ("Softmax", "Sigmoid")


def _passes(last):
    """Whether an operation changes nothing but the type of numbers."""
    if isinstance(last, keras.layers.Activation):
        return last.activation in _LINEAR
    return isinstance(last, keras.layers.Identity)


def _cast(last, x):
    """What keeps the type of numbers that a layer returned; None if usual."""
    policy = getattr(last, "dtype_policy", None)
    if policy is None or policy.compute_dtype == x.dtype:
        return None
    return keras.layers.Activation("linear", dtype=policy, name=last.name)


def _linear_twin(layer):
    """A layer that shares another's weights, without its activation."""
    config = {**layer.get_config(), "activation": "linear"}
    twin = type(layer).from_config(config)
    own = {id(v) for v in layer._trainable_variables}
    for name, value in vars(layer).items():
        if isinstance(value, keras.Variable):
            # A layer sorts a variable once, by what it says of itself; those
            # of a frozen layer say what must not outlast the freezing.
            said, value.trainable = value.trainable, id(value) in own
            setattr(twin, name, value)
            value.trainable = said
    twin.built = True
    return twin


def _shown(operation):
    return f"{operation.name!r} of type {type(operation).__name__}"
