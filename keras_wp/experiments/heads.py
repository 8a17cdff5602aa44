"""The heads that `--head` names: those of the package, and variants of one.

A variant differs from the robust head in one thing. It is a function from a
network that ends in its features, as they come out of the last batch
normalization, and from `new`, to logits. `new(kind, **arguments)` makes a
robust head, or one of another kind, with other arguments.
"""

import functools

import keras

import keras_wp as kwp
from keras_wp.experiments.head_layers import (
    AnnealedHead,
    Limit,
    Sphere,
    SquaredHead,
)
from keras_wp.models.heads import BATCH_NORM_MOMENTUM

LEAKY_SLOPE = 0.01
# The scale of the logits of Pang et al.'s hypersphere embedding.
_SPHERE = 15.0


def build(network, head, **arguments):
    """A network with the head of a name.

    Args:
        network: A function of `keras_wp.models`.
        head: A head that the function knows, or a key of `VARIANTS`.
        **arguments: The function's other arguments.

    Raises:
        SystemExit: In one sentence, if there is no such network.
    """
    try:
        return _build(network, head, **arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def _build(network, head, activation, **arguments):
    # As the package's own heads: in full precision under a mixed policy.
    dtype = keras.config.dtype_policy().variable_dtype
    if activation == "leaky_relu":
        # The authors' framework has another slope than Keras.
        activation = keras.layers.LeakyReLU(LEAKY_SLOPE, dtype=dtype)
    arguments["activation"] = activation
    if head not in VARIANTS:
        return network(head=head, **arguments)
    trunk = network(head=keras.layers.Identity(), **arguments)
    shared = {name: arguments[name] for name in ("s", "alpha", "activation")}
    shared |= {"name": "head", "dtype": dtype}
    new = functools.partial(_head, arguments["num_classes"], **shared)
    logits = VARIANTS[head](trunk, new)
    return keras.Model(trunk.input, logits, name=trunk.name)


def _head(units, kind=kwp.RobustHead, **arguments):
    return kind(units, **arguments)


def depends_on_length(head):
    """Whether an epoch is another one in a longer training."""
    return head in ("rising", "falling")


def callbacks(model, epochs):
    """What the head of a model needs in a training of so many epochs."""
    head = model.get_layer("head")
    return [Annealing(head, epochs)] if hasattr(head, "anneal") else []


class Annealing(keras.callbacks.Callback):
    """Tells a head how far the training has come."""

    def __init__(self, head, epochs):
        super().__init__()
        self._head = head
        self._last = epochs - 1

    def on_epoch_begin(self, epoch, logs=None):
        self._head.anneal(epoch / self._last if self._last else 1.0)


def _at_vertices(trunk, new, **arguments):
    vertices = kwp.initializers.SimplexVertices(new.keywords["s"])
    return new(kernel_initializer=vertices, **arguments)(trunk.output)


def _limited(trunk, new):
    return new()(Limit(dtype=new.keywords["dtype"])(trunk.output))


def _fixed_norm(trunk, new):
    norm = keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, scale=False
    )
    return new()(norm(_before_norm(trunk)))


def _before_norm(trunk):
    """What the batch normalization normalizes that ends a network."""
    *_, norm, _ = trunk.layers
    return norm.input


def _on_sphere(trunk, new, learned):
    radius = _SPHERE / new.keywords["s"]
    sphere = Sphere(radius, learned, dtype=new.keywords["dtype"])
    return new(activation=sphere)(trunk.output)


VARIANTS = {
    # The penalty's weight rises from 0 to alpha, linearly, or falls to 0.
    "rising": lambda trunk, new: new(AnnealedHead)(trunk.output),
    "falling": lambda trunk, new: new(AnnealedHead, rising=False)(trunk.output),
    # The penalty squared: it fades next to the optimum.
    "squared": lambda trunk, new: new(SquaredHead)(trunk.output),
    # Class weights that start at the vertices of the simplex; or stay there.
    "vertices": _at_vertices,
    "frozen": lambda trunk, new: _at_vertices(trunk, new, trainable=False),
    # Pre-activations beyond 3 are penalized.
    "limited": _limited,
    # The last batch normalization does not learn a scale; or is not there.
    "fixed-norm": _fixed_norm,
    "no-norm": lambda trunk, new: new()(_before_norm(trunk)),
    # Features of one length, so that logits lie within 15 of 0; or of one
    # that is learned.
    "sphere": lambda trunk, new: _on_sphere(trunk, new, learned=False),
    "sphere-learned": lambda trunk, new: _on_sphere(trunk, new, learned=True),
}
