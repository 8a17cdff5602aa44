"""A convolution that stretches no distance."""

import functools

import keras
import numpy as np
from keras import ops

from keras_wp._checks import check_at_least, check_one_of
from keras_wp.lipschitz import kernels, norms
from keras_wp.lipschitz.base import Constrained


@keras.saving.register_keras_serializable(package="keras_wp")
class AOLConv2D(Constrained):
    """A convolution rescaled to an l2 norm of at most 1.

    With `W_c` the kernel's part of input channel `c`, it is divided by the
    root of `sum_c' sum_shifts |<W_c, W_c' shifted>|` (or so the parts of the
    output channels, if there are fewer of them).

    Args:
        filters: Number of output channels, an integer of at least 1.
        kernel_size: Height and width of the kernel, an integer of at least
            1; odd, unless the padding is `"valid"`.
        padding: `"same"` pads by zeros, `"circular"` by the other side of the
            image, `"valid"` not at all. Defaults to `"same"`.
        use_bias: Whether to add a bias. Defaults to `True`.
        kernel_initializer: Initializer of the free weights: `"dirac"`, the
            default, copies channels, so that nothing is shortened at first;
            or as in Keras.
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, filters)`; with `"valid"`, `kernel_size - 1`
        less high and wide.

    Attributes:
        free: The weights that are trained, `(kernel_size, kernel_size,
            channels, filters)`.
        kernel: The kernel of the last training step, of the same shape.

    Raises:
        ValueError: If an argument is out of its range; when built, if the
            number of channels is unknown.

    Reference:
        Prach and Lampert, "Almost-orthogonal layers for efficient
        general-purpose Lipschitz networks" (ECCV 2022), theorem 2.
    """

    _units_name = "filters"

    def __init__(
        self,
        filters,
        kernel_size=3,
        padding="same",
        use_bias=True,
        kernel_initializer="dirac",
        **kwargs,
    ):
        if kernel_initializer == "dirac":
            kernel_initializer = Dirac()
        super().__init__(filters, use_bias, kernel_initializer, **kwargs)
        check_at_least(1, kernel_size=kernel_size)
        check_one_of(("same", "circular", "valid"), padding=padding)
        if padding != "valid" and kernel_size % 2 == 0:
            raise ValueError(
                "Argument `kernel_size` must be odd, unless the padding is "
                f"'valid'. Received: kernel_size={kernel_size!r}, "
                f"padding={padding!r}"
            )
        self.kernel_size = int(kernel_size)
        self.padding = padding

    def kernel_shape(self, channels):
        """The shape of the kernel for so many channels."""
        return self.kernel_size, self.kernel_size, channels, self.units

    def build(self, input_shape):
        """Creates the weights, for images that the kernel fits around."""
        reach = self.kernel_size // 2
        sizes = [n for n in input_shape[1:3] if n is not None]
        if self.padding == "circular" and min(sizes, default=reach) < reach:
            raise ValueError(
                "Argument `kernel_size` must be such that a circular padding "
                "of half of it is at most as large as the image. Received: "
                f"kernel_size={self.kernel_size} for images of "
                f"{' x '.join(map(str, sizes))}"
            )
        super().build(input_shape)

    def constrained(self, free):
        """The kernel that free weights stand for."""
        return kernels.almost_orthogonal(free)

    def call(self, inputs, training=False):
        """Returns the convolution of the inputs, and the bias."""
        padding = self.padding
        if padding == "circular":
            inputs = _wrapped(inputs, self.kernel_size // 2)
            padding = "valid"
        convolution = functools.partial(
            ops.conv, padding=padding, data_format="channels_last"
        )
        return self.computed(convolution, inputs, training)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the outputs."""
        less = self.kernel_size - 1 if self.padding == "valid" else 0
        sizes = (None if n is None else n - less for n in input_shape[1:3])
        return input_shape[0], *sizes, self.units

    def lipschitz_constant(self):
        """A bound of the l2 norm of the convolution in float64: 1 or less."""
        return norms.convolution_norm(self.kernel)

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="keras_wp")
class Dirac(keras.initializers.Initializer):
    """An orthogonal matrix in the middle of the kernel, and zeros around.

    Args:
        seed: Of the random matrix.
    """

    def __init__(self, seed=None):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        """Returns a kernel `(height, width, channels, filters)`."""
        height, width, *matrix = shape
        center = keras.initializers.Orthogonal(seed=self.seed)(matrix, dtype)
        place = np.zeros((height, width, 1, 1), "float32")
        place[height // 2, width // 2] = 1.0
        return ops.cast(place, center.dtype) * center

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {"seed": self.seed}


def _wrapped(x, margin):
    """Images with a margin of what is on their other side."""
    if margin:
        x = ops.concatenate([x[:, -margin:], x, x[:, :margin]], axis=1)
        x = ops.concatenate([x[:, :, -margin:], x, x[:, :, :margin]], axis=2)
    return x
