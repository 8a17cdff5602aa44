"""What linear layers can make of a distance, and of an error."""

import math

import keras
import numpy as np

from keras_wp.certificates.bounds import Rule, few_operations
from keras_wp.certificates.refusals import refuse
from keras_wp.lipschitz import norms


def kernel(step):
    """A dense layer or a convolution."""
    layer = step.operation
    if getattr(layer, "lora_enabled", False) or layer.quantization_mode:
        refuse(step, "certify the model without LoRA and quantization")
    kernel, terms = _without_groups(layer)
    matrix = len(kernel.shape) == 2
    norm = norms.matrix_norm if matrix else norms.convolution_norm

    def rounding(size, at_zero):
        return norms.products_error(kernel, size, at_zero, terms)

    return Rule(norm(kernel), rounding)


def _without_groups(layer):
    """A layer's kernel `(P, K)` or `(height, width, P, K)`, and its terms.

    Where channels are in groups, with zeros between these. A depthwise
    convolution has a group for each channel.

    Returns:
        The kernel, and how many numbers are added for an output.
    """
    kernel, groups = norms.float64(layer.kernel), getattr(layer, "groups", 1)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        height, width, groups, each = kernel.shape
        kernel = kernel.reshape(height, width, 1, groups * each)
    terms = math.prod(kernel.shape[:-1]) + 1
    if isinstance(layer, keras.layers.Conv1D):
        kernel = kernel[None]
    if groups == 1:
        return kernel, terms
    parts = np.split(kernel, groups, axis=-1)
    whole = np.zeros((*kernel.shape[:2], groups, *parts[0].shape[2:], groups))
    for place, part in enumerate(parts):
        whole[:, :, place, :, :, place] = part
    channels = groups * kernel.shape[2]
    return whole.reshape(*kernel.shape[:2], channels, -1), terms


def rescaled(step):
    """Every number times a scale, and an offset."""
    scale = np.abs(np.asarray(step.operation.scale, np.float32))
    return few_operations(float(scale.max()), 3)


def normalized(step):
    """Less a mean, over a deviation; or the reverse."""
    layer = step.operation
    if layer.invert:
        scale = float(np.sqrt(norms.float64(layer.variance)).max())
    else:
        variance = norms.float64(layer.variance)
        least = np.maximum(np.sqrt(variance), keras.config.epsilon())
        scale = float((1 / least).max())
    # The root, the difference and the quotient, each rounded.
    return few_operations(scale * (1 + 4 * norms.UNIT), 4)


def repeated(step):
    """Every pixel several times."""
    if step.operation.interpolation != "nearest":
        refuse(step, 'use `interpolation="nearest"`')
    return Rule(math.sqrt(math.prod(step.operation.size)))


def _windows(layer):
    """Pixels of a window, and in how many windows a pixel may lie."""
    pool, strides = layer.pool_size, layer.strides
    shared = math.prod(
        math.ceil(p / s) for p, s in zip(pool, strides, strict=True)
    )
    return math.prod(pool), shared


def max_pooling(step):
    """The largest of each window, in which a pixel may be several times."""
    return Rule(math.sqrt(_windows(step.operation)[1]))


def average_pooling(step):
    """The mean of each window."""
    pixels, shared = _windows(step.operation)
    # At the border, the mean may be that of fewer pixels.
    fewest = pixels if step.operation.padding == "valid" else 1
    return few_operations(math.sqrt(shared / fewest), pixels + 1)


def global_average(step):
    """The mean of each channel."""
    shape = step.inputs[0].shape[1:]
    last = step.operation.data_format == "channels_last"
    pixels = math.prod(shape[:-1] if last else shape[1:])
    return few_operations(1 / math.sqrt(pixels), pixels + 1)
