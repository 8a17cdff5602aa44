"""What each operation can make of a distance, and of an error.

A rule is an upper bound. What has none here cannot be certified, and is
refused by name: there is no default.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_wp.certificates.bounds import Rule
from keras_wp.certificates.refusals import ADVICE, OWN, refuse
from keras_wp.lipschitz import norms

# Relative error of an elementary function in float32, at most. Libraries
# promise none; `tests/certificates/test_rules.py` measures them.
_FUNCTION = 2.0**-19


def rule_of(step):
    """The `Rule` of a step with one tensor among its arguments.

    Raises:
        RefusedError: If there is none.
    """
    operation = step.operation
    if states_its_constant(operation):
        return _stated(step)
    kind = type(operation)
    rule = _LAYERS.get(kind)
    if kind.__module__.startswith("keras.src.ops."):
        rule = _OPERATIONS.get(kind.__name__)
    elif rule is None:
        name = getattr(operation, "__name__", "")
        if getattr(keras.activations, name, None) is operation:
            rule = _FUNCTIONS.get(name)
    if rule is None:
        name = kind.__name__ if kind.__name__ in ADVICE else step.name
        refuse(step, ADVICE.get(name, OWN))
    return rule(step) if callable(rule) else rule


def states_its_constant(operation):
    """Whether an operation says itself what bounds it."""
    return hasattr(operation, "lipschitz_constant")


def _stated(step):
    if _is_ours(step, "lipschitz_constant") and not _is_ours(step, "call"):
        refuse(
            step,
            "give it a `lipschitz_constant()` for the `call` that it has of "
            "its own, as what it inherits is of another",
        )
    constant = step.operation.lipschitz_constant()
    rounding = getattr(step.operation, "rounding_error", None)
    if rounding is None:
        refuse(
            step,
            "give it the method `rounding_error(size, at_zero)` beside "
            "`lipschitz_constant()`",
        )
    if not (isinstance(constant, (int, float)) and 0 <= constant < math.inf):
        refuse(
            step,
            "its `lipschitz_constant()` must be a finite number of at least "
            f"0. Received: {constant!r}",
        )
    return Rule(float(constant), rounding)


def _is_ours(step, name):
    """Whether it is a class of keras_wp.lipschitz that has this method."""
    kinds = type(step.operation).__mro__
    owner = next((kind for kind in kinds if name in vars(kind)), object)
    return owner.__module__.startswith("keras_wp.lipschitz.")


def _elementary(constant):
    """A function of each number, which a library approximates."""

    def rounding(size, at_zero):
        return _FUNCTION * (constant * size + at_zero) + norms.FLUSHED

    return Rule(constant, rounding)


def _few_operations(constant, operations=1):
    """So many roundings of each number."""

    def rounding(size, at_zero):
        total = constant * size + at_zero
        return norms.gamma(operations) * total + norms.FLUSHED

    return Rule(constant, rounding)


_EXACT = Rule(1.0)


def _kernel(step):
    """A dense layer or a convolution."""
    layer = step.operation
    if getattr(layer, "lora_enabled", False) or layer.quantization_mode:
        refuse(step, "certify the model without LoRA and quantization")
    if getattr(layer, "groups", 1) != 1:
        refuse(step, "use a convolution without groups")
    kernel = layer.kernel
    matrix = len(kernel.shape) == 2
    norm = norms.matrix_norm if matrix else norms.convolution_norm

    def rounding(size, at_zero):
        return norms.products_error(kernel, size, at_zero)

    return Rule(norm(kernel), rounding)


def _rectified(step):
    layer = step.operation
    if layer.threshold:
        refuse(step, "use a ReLU without threshold, which does not jump")
    return _few_operations(max(1.0, _slope(layer)))


def _leaky(step):
    return _few_operations(max(1.0, _slope(step.operation)))


def _slope(layer):
    return abs(float(np.float32(layer.negative_slope)))


def _rescaled(step):
    scale = np.abs(np.asarray(step.operation.scale, np.float32))
    return _few_operations(float(scale.max()), 3)


def _windows(layer):
    """Pixels of a window, and in how many windows a pixel may lie."""
    pool, strides = layer.pool_size, layer.strides
    shared = math.prod(
        math.ceil(p / s) for p, s in zip(pool, strides, strict=True)
    )
    return math.prod(pool), shared


def _max_pooling(step):
    return Rule(math.sqrt(_windows(step.operation)[1]))


def _average_pooling(step):
    pixels, shared = _windows(step.operation)
    # At the border, the mean may be that of fewer pixels.
    fewest = pixels if step.operation.padding == "valid" else 1
    return _few_operations(math.sqrt(shared / fewest), pixels + 1)


def _global_average(step):
    shape = step.inputs[0].shape[1:]
    last = step.operation.data_format == "channels_last"
    pixels = math.prod(shape[:-1] if last else shape[1:])
    return _few_operations(1 / math.sqrt(pixels), pixels + 1)


def _reshaped(step):
    (symbol,), (output,) = step.inputs, step.outputs
    if math.prod(symbol.shape[1:]) != math.prod(output.shape[1:]):
        refuse(step, "keep the axis of the images apart from the others")
    return _EXACT


def _transposed(step):
    axes = step.operation.axes
    if not axes or axes[0] != 0:
        refuse(step, "keep the axis of the images in front")
    return _EXACT


def _constant(step):
    """The other argument of an operation of one tensor and a constant."""
    arguments = keras.tree.flatten((step.args, step.kwargs))
    (other,) = [a for a in arguments if a is not step.inputs[0]]
    return np.asarray(ops.convert_to_numpy(other)).astype(np.float32)


def _unbroadcast(step):
    if step.inputs[0].shape != step.outputs[0].shape:
        refuse(step, "give both arguments the same shape, for each image")


def _shifted(step):
    _unbroadcast(step)
    return _few_operations(1.0, 2)


def _multiplied(step):
    _unbroadcast(step)
    factors = np.abs(_constant(step).astype(float))
    return _few_operations(float(factors.max()), 2)


def _divided(step):
    _unbroadcast(step)
    if step.args[0] is not step.inputs[0]:
        refuse(step, "divide by constants only")
    divisors = np.abs(_constant(step).astype(float))
    if not divisors.min() > 0:
        refuse(step, "divide by numbers other than 0 only")
    return _few_operations(float((1 / divisors).max()), 3)


def _matmul(step):
    kernel = _constant(step)
    if step.args[0] is not step.inputs[0] or kernel.ndim != 2:
        refuse(step, "multiply by matrices from the right only")

    def rounding(size, at_zero):
        return norms.products_error(kernel, size)

    return Rule(norms.matrix_norm(kernel), rounding)


_LAYERS = {
    keras.layers.ActivityRegularization: _EXACT,
    keras.layers.AveragePooling2D: _average_pooling,
    keras.layers.Conv2D: _kernel,
    keras.layers.Cropping2D: _EXACT,
    keras.layers.Dense: _kernel,
    keras.layers.Dropout: _EXACT,
    keras.layers.Flatten: _EXACT,
    keras.layers.GaussianDropout: _EXACT,
    keras.layers.GaussianNoise: _EXACT,
    keras.layers.GlobalAveragePooling2D: _global_average,
    keras.layers.GlobalMaxPooling2D: _EXACT,
    keras.layers.Identity: _EXACT,
    keras.layers.LeakyReLU: _leaky,
    keras.layers.MaxPooling2D: _max_pooling,
    keras.layers.Permute: _EXACT,
    keras.layers.ReLU: _rectified,
    keras.layers.Rescaling: _rescaled,
    keras.layers.Reshape: _EXACT,
    keras.layers.SpatialDropout2D: _EXACT,
    keras.layers.ZeroPadding2D: _EXACT,
}
_FUNCTIONS = {
    # Its steepest slope is 1.12891, that of its approximation 1.12898.
    "gelu": _elementary(1.129),
    "leaky_relu": _few_operations(1.0),
    "linear": _EXACT,
    "relu": _EXACT,
    "sigmoid": _elementary(0.25),
    # Its steepest slope is 1.09984.
    "silu": _elementary(1.0999),
    "softplus": _elementary(1.0),
    "tanh": _elementary(1.0),
}
_OPERATIONS = {
    "Absolute": _EXACT,
    "Add": _shifted,
    "Divide": _divided,
    "Gelu": _FUNCTIONS["gelu"],
    "Matmul": _matmul,
    "Multiply": _multiplied,
    "Negative": _EXACT,
    "Relu": _EXACT,
    "Reshape": _reshaped,
    "Sigmoid": _FUNCTIONS["sigmoid"],
    "Silu": _FUNCTIONS["silu"],
    "Softplus": _FUNCTIONS["softplus"],
    "Subtract": _shifted,
    "Tanh": _FUNCTIONS["tanh"],
    "Transpose": _transposed,
    "TrueDivide": _divided,
}
