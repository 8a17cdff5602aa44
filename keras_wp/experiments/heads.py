"""The heads that `--head` names: those of the package, and variants of one.

A variant differs from the robust head in one thing. It is a function from a
network that ends in its features, as they come out of the last batch
normalization, and from what makes a robust head, to logits.
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
    if activation == "leaky_relu":
        # The authors' framework has another slope than Keras.
        activation = keras.layers.LeakyReLU(
            LEAKY_SLOPE, dtype=keras.config.dtype_policy().variable_dtype
        )
    arguments["activation"] = activation
    if head not in VARIANTS:
        return network(head=head, **arguments)
    trunk = network(head=keras.layers.Identity(), **arguments)
    # As the package's own heads: in full precision under a mixed policy.
    new = functools.partial(
        kwp.RobustHead,
        arguments["num_classes"],
        s=arguments["s"],
        alpha=arguments["alpha"],
        activation=arguments["activation"],
        name="head",
        dtype=keras.config.dtype_policy().variable_dtype,
    )
    logits = VARIANTS[head](trunk, new)
    return keras.Model(trunk.input, logits, name=trunk.name)


def depends_on_length(head):
    """Whether an epoch is another one in a longer training."""
    return head in ("rising", "falling")


def callbacks(model, epochs):
    """What the head of a model needs in a training of so many epochs."""
    head = model.get_layer("head")
    return [Annealing(head, epochs)] if hasattr(head, "anneal") else []


def _rising(trunk, new):
    """The penalty's weight rises from 0 to alpha, linearly."""
    return _of_kind(AnnealedHead, new, rising=True)(trunk.output)


def _falling(trunk, new):
    """The penalty's weight falls from alpha to 0, linearly."""
    return _of_kind(AnnealedHead, new, rising=False)(trunk.output)


def _squared(trunk, new):
    """The penalty squared: it fades next to the optimum."""
    return _of_kind(SquaredHead, new)(trunk.output)


def _vertices(trunk, new):
    """Class weights that start at the vertices of the simplex."""
    return _at_vertices(trunk, new, trainable=True)


def _frozen(trunk, new):
    """Class weights at the vertices of the simplex, and not trained."""
    return _at_vertices(trunk, new, trainable=False)


def _limited(trunk, new):
    """Pre-activations beyond 3 are penalized."""
    return new()(Limit(dtype=new.keywords["dtype"])(trunk.output))


def _fixed_norm(trunk, new):
    """The last batch normalization does not learn a scale."""
    layer = keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, scale=False
    )
    return new()(layer(_before_norm(trunk)))


def _no_norm(trunk, new):
    """No batch normalization before the head."""
    return new()(_before_norm(trunk))


def _sphere(trunk, new):
    """Features of one length, so that logits lie within 15 of 0."""
    return _on_sphere(trunk, new, learned=False)


def _sphere_learned(trunk, new):
    """Features of one length, which is learned."""
    return _on_sphere(trunk, new, learned=True)


VARIANTS = {
    "rising": _rising,
    "falling": _falling,
    "squared": _squared,
    "vertices": _vertices,
    "frozen": _frozen,
    "limited": _limited,
    "fixed-norm": _fixed_norm,
    "no-norm": _no_norm,
    "sphere": _sphere,
    "sphere-learned": _sphere_learned,
}


def _of_kind(kind, new, **more):
    """A head of a class of this module, with the arguments of `new`."""
    return kind(*new.args, **new.keywords, **more)


def _at_vertices(trunk, new, trainable):
    vertices = kwp.initializers.SimplexVertices(new.keywords["s"])
    return new(kernel_initializer=vertices, trainable=trainable)(trunk.output)


def _on_sphere(trunk, new, learned):
    radius = _SPHERE / new.keywords["s"]
    sphere = Sphere(radius, learned, dtype=new.keywords["dtype"])
    return new(activation=sphere)(trunk.output)


def _before_norm(trunk):
    """What the batch normalization normalizes that ends a network."""
    *_, norm, _ = trunk.layers
    return norm.input


class Annealing(keras.callbacks.Callback):
    """Tells a head how far the training has come."""

    def __init__(self, head, epochs):
        super().__init__()
        self._head = head
        self._last = epochs - 1

    def on_epoch_begin(self, epoch, logs=None):
        self._head.anneal(epoch / self._last if self._last else 1.0)
