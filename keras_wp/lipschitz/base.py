"""Layers whose kernel is made of free weights, and kept."""

import math

import keras
from keras import ops

from keras_wp._checks import check_at_least
from keras_wp.lipschitz import kernels, norms


class Constrained(keras.layers.Layer):
    """A layer that trains free weights and computes with a kernel of them.

    In training the kernel is made of the free weights in each call, and kept,
    as batch normalization keeps its statistics. Otherwise the kernel that was
    kept is used: it is the model, costs nothing to make, and is exactly
    that of which the norm is told. After `fit` it is the kernel of the last
    step, which that step's update no longer enters.

    Args:
        units: Size of the last axis of what it computes.
        use_bias: Whether to add a bias.
        kernel_initializer: Initializer of the free weights.
        **kwargs: As in `keras.layers.Layer`.
    """

    def __init__(self, units, use_bias, kernel_initializer, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, **{self._units_name: units})
        self.units = int(units)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias = None

    _units_name = "units"

    def constrained(self, free):
        """The kernel of norm at most 1 that free weights stand for."""
        raise NotImplementedError

    def kernel_shape(self, channels):
        """The shape of the kernel for so many channels."""
        return channels, self.units

    def build(self, input_shape):
        """Creates the weights for inputs of a known last axis."""
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                f"`{type(self).__name__}` must know the last axis of its "
                f"input. Received: input_shape={tuple(input_shape)}"
            )
        shape = self.kernel_shape(channels)
        self.free = self.add_weight(
            shape=shape,
            initializer=self.kernel_initializer,
            autocast=False,
            name="free",
        )
        self.kernel = self.add_weight(
            shape=shape,
            initializer=lambda shape, dtype: self._made(),
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.units,), initializer="zeros", name="bias"
            )

    def _made(self):
        free = ops.convert_to_tensor(self.free)
        return kernels.SHRINK * self.constrained(free)

    def current_kernel(self, training):
        """The kernel to compute with, in the layer's compute type."""
        kernel = self.kernel
        if training and self.trainable:
            kernel = self._made()
            self.kernel.assign(ops.stop_gradient(kernel))
        return ops.cast(kernel, self.compute_dtype)

    def computed(self, product, inputs, training):
        """Inputs times the kernel, and the bias if there is one.

        Args:
            product: `matmul`, or a convolution.
            inputs: `(..., channels)`.
            training: Whether in training; if not, sums are taken in blocks.
        """
        kernel = self.current_kernel(training)
        if training:
            outputs = product(inputs, kernel)
        else:
            outputs = kernels.in_blocks(product, inputs, kernel)
        if self.bias is None:
            return outputs
        return outputs + ops.cast(self.bias, outputs.dtype)

    def lipschitz_constant(self):
        """The l2 norm of the kernel in float64, at least: 1, or just under."""
        return norms.matrix_norm(self.kernel)

    def rounding_error(self, size, at_zero):
        """How far float32 may take it from exact numbers, an l2 length.

        Args:
            size: Length of the input, at most: a number or an array.
            at_zero: Length of what the layer makes of zeros.
        """
        *taps, channels, _ = self.kernel.shape
        parts = kernels.blocks(channels, math.prod(taps))
        # Of the first block, then the other blocks, and the bias.
        terms = (parts[0].stop * math.prod(taps)) + len(parts)
        return norms.products_error(self.kernel, size, at_zero, terms)

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            self._units_name: self.units,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
        }
