"""Dense layers that stretch no distance."""

import keras
from keras import ops

from keras_wp.lipschitz import kernels
from keras_wp.lipschitz.base import Constrained


class _Dense(Constrained):
    def __init__(
        self,
        units,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(units, use_bias, kernel_initializer, **kwargs)

    def call(self, inputs, training=False):
        """Returns `inputs @ kernel + bias`."""
        return self.computed(ops.matmul, inputs, training)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the outputs."""
        return tuple(input_shape[:-1]) + (self.units,)


@keras.saving.register_keras_serializable(package="keras_wp")
class OrthogonalDense(_Dense):
    """A dense layer with an orthogonal kernel: it turns, and adds a bias.

    `outputs = inputs @ kernel + bias`, where the kernel's columns are
    orthonormal or, with more units than inputs, its rows. Its l2 norm is 1
    (less 6e-5, so that float32 cannot round it beyond). No distance grows;
    none shrinks either, where there are as many units as inputs or more. It
    has no activation of its own: `MaxMin` suits it.

    The kernel is the Cayley transform of free weights; that inverts a square
    matrix as wide as the smaller side in each training step, and costs nothing
    else.

    Args:
        units: Number of units, an integer of at least 1.
        use_bias: Whether to add a bias. Defaults to `True`.
        kernel_initializer: Initializer of the free weights. Defaults to
            `"glorot_uniform"`.
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        `(..., features)`.

    Output shape:
        `(..., units)`.

    Attributes:
        free: The weights that are trained, `(features, units)`.
        kernel: The kernel of the last training step, of the same shape.

    Raises:
        ValueError: If an argument is out of its range; when built, if
            `features` is unknown.

    Reference:
        Trockman and Kolter, "Orthogonalizing convolutional layers with the
        Cayley transform" (ICLR 2021), section 3.

    Example:

    >>> layer = OrthogonalDense(3)
    >>> layer.build((None, 5))
    >>> round(layer.lipschitz_constant(), 3)
    1.0
    """

    def constrained(self, free):
        """The kernel that free weights stand for."""
        return kernels.orthogonal(free)


@keras.saving.register_keras_serializable(package="keras_wp")
class AOLDense(_Dense):
    """A dense layer rescaled to an l2 norm of at most 1.

    `outputs = inputs @ kernel + bias`, where the kernel is that of an ordinary
    layer, with each row `i` divided by the root of `sum_j |(W W^T)_ij|` (or
    each column so, if there are fewer of them). Cheaper than
    `OrthogonalDense`, but shortens most distances.

    Args:
        units: Number of units, an integer of at least 1.
        use_bias: Whether to add a bias. Defaults to `True`.
        kernel_initializer: Initializer of the free weights. Defaults to
            `"orthogonal"`, where nothing is to be shortened.
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        `(..., features)`.

    Output shape:
        `(..., units)`.

    Attributes:
        free: The weights that are trained, `(features, units)`.
        kernel: The kernel of the last training step, of the same shape.

    Raises:
        ValueError: If an argument is out of its range; when built, if
            `features` is unknown.

    Reference:
        Prach and Lampert, "Almost-orthogonal layers for efficient
        general-purpose Lipschitz networks" (ECCV 2022), theorem 1.
    """

    def __init__(
        self, units, use_bias=True, kernel_initializer="orthogonal", **kwargs
    ):
        super().__init__(units, use_bias, kernel_initializer, **kwargs)

    def constrained(self, free):
        """The kernel that free weights stand for."""
        return kernels.almost_orthogonal(free)
