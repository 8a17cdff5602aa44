"""Layers of which the variants of the robust head consist.

They are registered as `keras_wp.examples`, the package's name in models that
were saved before these layers moved.
"""

import keras
import numpy as np
from keras import ops

import keras_wp as kwp

_serializable = keras.saving.register_keras_serializable(
    package="keras_wp.examples"
)


@_serializable
class AnnealedHead(kwp.RobustHead):
    """A robust head whose penalty counts more, or less, in each epoch.

    `share * alpha * ||kernel^T kernel - Sigma||_F` is added to the loss of
    training.

    Args:
        units: Number of classes.
        rising: Whether the share is to rise from 0 to 1, or to fall.
        **kwargs: The other arguments of `keras_wp.RobustHead`.

    Attributes:
        share: A weight that is not trained; `anneal` sets it.
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

    def get_config(self):
        config = {"limit": self.limit, "weight": self.weight}
        return {**super().get_config(), **config}


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

    def get_config(self):
        config = {"radius": self.radius, "learned": self.learned}
        return {**super().get_config(), **config}
