"""The heads that `--head` names: those of the package, and variants of one.

A variant differs from the robust head in one thing. It is a function from a
network that ends in its features, as they come out of the last batch
normalization, and from `new`, to logits. `new(kind, **arguments)` makes a
robust head, or one of another kind, with other arguments.

Layers are registered as `keras_wp.examples`, the package's name in models that
were saved before they moved.
"""

import functools

import keras
import numpy as np
from keras import ops

import keras_wp as kwp
from keras_wp.models.heads import BATCH_NORM_MOMENTUM

LEAKY_SLOPE = 0.01
# The scale of the logits of Pang et al.'s hypersphere embedding.
_SPHERE = 15.0
_serializable = keras.saving.register_keras_serializable("keras_wp.examples")


def build(network, head, activation, **arguments):
    """A network, by a function of `keras_wp.models`, with the head of a name.

    The program ends with one sentence if there is no such network.
    """
    # As the package's own heads: in full precision under a mixed policy.
    dtype = keras.config.dtype_policy().variable_dtype
    if activation == "leaky_relu":  # With the authors' slope, not Keras's.
        activation = keras.layers.LeakyReLU(LEAKY_SLOPE, dtype=dtype)
    arguments["activation"] = activation
    try:
        if head not in VARIANTS:
            return network(head=head, **arguments)
        trunk = network(head=keras.layers.Identity(), **arguments)
        shared = {k: arguments[k] for k in ("s", "alpha", "activation")}
        shared |= {"name": "head", "dtype": dtype}
        new = functools.partial(_head, arguments["num_classes"], **shared)
        logits = VARIANTS[head](trunk, new)
        return keras.Model(trunk.input, logits, name=trunk.name)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def _head(units, kind=kwp.RobustHead, **arguments):
    return kind(units, **arguments)


def depends_on_length(head):
    """Whether an epoch is another one in a longer training."""
    return head in ("rising", "falling")


def callbacks(model, epochs):
    """What the head of a model needs in a training of so many epochs."""
    head, last = model.get_layer("head"), max(epochs - 1, 1)
    if not hasattr(head, "anneal"):
        return []

    def begin(epoch, logs):
        head.anneal(epoch / last if epochs > 1 else 1.0)

    return [keras.callbacks.LambdaCallback(on_epoch_begin=begin)]


@_serializable
class AnnealedHead(kwp.RobustHead):
    """A robust head whose penalty counts more, or less, in each epoch.

    `share * alpha * ||kernel^T kernel - Sigma||_F` is added to the loss of
    training. `share` is a weight that is not trained: `anneal` sets it, from 0
    to 1 if it is `rising`, or else from 1 to 0.
    """

    def __init__(self, units, rising=True, **kwargs):
        super().__init__(units, **kwargs)
        self.rising = rising
        self.dense.kernel_regularizer = None
        self._penalty = kwp.SimplexRegularizer(self.s, self.alpha)

    def build(self, input_shape):
        super().build(input_shape)
        self.share = self.add_weight(
            name="share", initializer="zeros", trainable=False
        )

    def anneal(self, progress):
        """Set the share; `progress` goes from 0 to 1 in a training."""
        self.share.assign(progress if self.rising else 1.0 - progress)

    def call(self, inputs, training=False):
        if training:
            self.add_loss(self.share * self._penalty(self.kernel))
        return super().call(inputs)

    def get_config(self):
        return {**super().get_config(), "rising": self.rising}


@_serializable
class SquaredSimplex(keras.regularizers.Regularizer):
    """The penalty `alpha * ||kernel^T kernel - Sigma||_F^2 / ||Sigma||_F`.

    It is that of `keras_wp.SimplexRegularizer(s, alpha)` where the kernel is
    zero, and its gradient fades towards the optimum.
    """

    def __init__(self, s=0.1, alpha=100.0):
        self._norm = kwp.SimplexRegularizer(s, alpha=1.0)
        self.s, self.alpha = s, alpha

    def __call__(self, x):
        sigma = np.linalg.norm(kwp.simplex.gram(x.shape[-1], self.s))
        return ops.square(self._norm(x)) * float(self.alpha / sigma)

    def get_config(self):
        return {"s": self.s, "alpha": self.alpha}


@_serializable
class SquaredHead(kwp.RobustHead):
    """A robust head under the penalty of `SquaredSimplex`."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.dense.kernel_regularizer = SquaredSimplex(self.s, self.alpha)


@_serializable
class Limit(keras.layers.Layer):
    """Passes its inputs `u` on, and penalizes those that are large.

    The mean of `weight * max(|u| - limit, 0)^2` is added to the loss of
    training.
    """

    def __init__(self, limit=3.0, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        self.limit, self.weight = limit, weight

    def call(self, inputs, training=False):
        if training:
            excess = ops.relu(ops.abs(inputs) - self.limit)
            self.add_loss(self.weight * ops.mean(ops.square(excess)))
        return inputs


@_serializable
class Sphere(keras.layers.Layer):
    """Gives features one length: `radius * u / ||u||_2`.

    With `learned` it is multiplied by a factor that is learned.

    Source: Pang et al., "Boosting adversarial training with hypersphere
    embedding" (NeurIPS 2020), without its margin.
    """

    def __init__(self, radius, learned=False, **kwargs):
        super().__init__(**kwargs)
        self.radius, self.learned = radius, learned

    def build(self, input_shape):
        self.factor = self.add_weight(
            name="factor", initializer="ones", trainable=self.learned
        )

    def call(self, inputs):
        square = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        # Zeros have no direction, and stay.
        length = ops.sqrt(ops.maximum(square, 1e-12))
        return inputs * (self.radius * self.factor / length)


def _of_kind(kind, **arguments):
    return lambda trunk, new: new(kind, **arguments)(trunk.output)


def _at_vertices(trunk, new, trainable=True):
    vertices = kwp.initializers.SimplexVertices(new.keywords["s"])
    head = new(kernel_initializer=vertices, trainable=trainable)
    return head(trunk.output)


def _limited(trunk, new):
    return new()(Limit(dtype=new.keywords["dtype"])(trunk.output))


def _before_norm(trunk):
    """What the batch normalization normalizes that ends a network."""
    *_, norm, _ = trunk.layers
    return norm.input


def _fixed_norm(trunk, new):
    norm = keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, scale=False
    )
    return new()(norm(_before_norm(trunk)))


def _on_sphere(trunk, new, learned=False):
    radius = _SPHERE / new.keywords["s"]
    sphere = Sphere(radius, learned, dtype=new.keywords["dtype"])
    return new(activation=sphere)(trunk.output)


VARIANTS = {
    # The penalty's weight rises from 0 to alpha, linearly, or falls to 0.
    "rising": _of_kind(AnnealedHead, rising=True),
    "falling": _of_kind(AnnealedHead, rising=False),
    # The penalty squared: it fades next to the optimum.
    "squared": _of_kind(SquaredHead),
    # Class weights that start at the vertices of the simplex; or stay there.
    "vertices": _at_vertices,
    "frozen": functools.partial(_at_vertices, trainable=False),
    # Pre-activations beyond 3 are penalized.
    "limited": _limited,
    # The last batch normalization does not learn a scale; or is not there.
    "fixed-norm": _fixed_norm,
    "no-norm": lambda trunk, new: new()(_before_norm(trunk)),
    # Features of one length, so that logits lie within 15 of 0; or of one
    # that is learned.
    "sphere": _on_sphere,
    "sphere-learned": functools.partial(_on_sphere, learned=True),
}
