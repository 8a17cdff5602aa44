"""Layers without weights that stretch no distance."""

import keras
import numpy as np
from keras import ops

from keras_wp._checks import check_at_least
from keras_wp.lipschitz import norms


class _Unweighted(keras.layers.Layer):
    def lipschitz_constant(self):
        """1: no distance grows."""
        return 1.0

    def rounding_error(self, size, at_zero):
        """0, as numbers are moved and compared only."""
        return np.zeros_like(size)


@keras.saving.register_keras_serializable(package="keras_wp")
class MaxMin(_Unweighted):
    """Orders pairs of channels: the activation of 1-Lipschitz networks.

    The first half of the channels becomes `max(a, b)`, the second
    `min(a, b)`, where `a` and `b` are the halves. It keeps the length of its
    input and that of gradients, which ReLU shortens.

    Args:
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        `(..., channels)`, an even number of channels.

    Output shape:
        The same.

    Raises:
        ValueError: When built, if the number of channels is odd or unknown.

    Reference:
        Anil, Lucas and Grosse, "Sorting out Lipschitz function approximation"
        (ICML 2019), section 4: GroupSort of pairs.

    Example:

    >>> outputs = MaxMin()(np.array([[1.0, 5.0, 2.0, 3.0]]))
    >>> [float(x) for x in outputs[0]]
    [2.0, 5.0, 1.0, 3.0]
    """

    def build(self, input_shape):
        """Checks the number of channels."""
        _check_divisible(self, "an even number of channels", input_shape[-1], 2)

    def call(self, inputs):
        """Returns the larger and the smaller of each pair."""
        first, second = ops.split(inputs, 2, axis=-1)
        return ops.concatenate(
            [ops.maximum(first, second), ops.minimum(first, second)], axis=-1
        )

    def compute_output_shape(self, input_shape):
        """Returns the shape of the inputs."""
        return input_shape


class _Blocks(_Unweighted):
    """What takes an image apart into square blocks."""

    _name_of_size = "block_size"

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, **{self._name_of_size: size})
        self.size = int(size)

    def build(self, input_shape):
        """Checks that the blocks fill the image."""
        what = f"a height and width that are multiples of {self.size}"
        for length in input_shape[1:3]:
            _check_divisible(self, what, length, self.size)

    def blocks(self, x):
        """`(batch, height, block, width, block, channels)`."""
        _, height, width, channels = x.shape
        size = self.size
        shape = (-1, height // size, size, width // size, size, channels)
        return ops.reshape(x, shape)

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {**super().get_config(), self._name_of_size: self.size}


@keras.saving.register_keras_serializable(package="keras_wp")
class SpaceToDepth(_Blocks):
    """Makes channels of the pixels of a block: halves an image, loses nothing.

    Args:
        block_size: Height and width of a block, at least 1. Defaults to 2.
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, known and multiples of
        `block_size`.

    Output shape:
        `(batch, height / block_size, width / block_size, block_size ** 2 *
        channels)`.

    Raises:
        ValueError: If an argument or the shape is not as described.
    """

    def __init__(self, block_size=2, **kwargs):
        super().__init__(block_size, **kwargs)

    def call(self, inputs):
        """Returns the blocks as channels."""
        blocks = ops.transpose(self.blocks(inputs), (0, 1, 3, 2, 4, 5))
        shape = self.compute_output_shape(inputs.shape)
        return ops.reshape(blocks, (-1, *shape[1:]))

    def compute_output_shape(self, input_shape):
        """Returns the shape of the outputs."""
        batch, height, width, channels = input_shape
        size = self.size
        return batch, height // size, width // size, size * size * channels


@keras.saving.register_keras_serializable(package="keras_wp")
class L2Pooling(_Blocks):
    """The l2 length of the pixels of a block, channel by channel.

    `outputs = sqrt(sum over the block of inputs^2)`, at least 1e-15, where
    its gradient ends.

    Args:
        pool_size: Height and width of a block, at least 1. Defaults to 2.
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, height and width known and
        multiples of `pool_size`.

    Output shape:
        `(batch, height / pool_size, width / pool_size, channels)`.

    Raises:
        ValueError: If an argument or the shape is not as described.

    Reference:
        Boureau, Ponce and LeCun, "A theoretical analysis of feature pooling"
        (ICML 2010).
    """

    _name_of_size = "pool_size"

    def __init__(self, pool_size=2, **kwargs):
        super().__init__(pool_size, **kwargs)

    def call(self, inputs):
        """Returns the lengths."""
        squares = ops.sum(ops.square(self.blocks(inputs)), axis=(2, 4))
        # The root has no gradient at zero.
        return ops.sqrt(ops.maximum(squares, 1e-30))

    def compute_output_shape(self, input_shape):
        """Returns the shape of the outputs."""
        batch, height, width, channels = input_shape
        return batch, height // self.size, width // self.size, channels

    def rounding_error(self, size, at_zero):
        """How far float32 may take it from exact numbers, an l2 length."""
        terms = self.size**2
        return norms.gamma(terms + 4) * np.asarray(size) + norms.FLUSHED


def _check_divisible(layer, what, length, divisor):
    if length is None or length % divisor:
        raise ValueError(
            f"`{type(layer).__name__}` needs {what}. Received: {length}"
        )
