"""What each operation can make of a distance, and of an error.

A rule is an upper bound. What has none here cannot be certified, and is
refused by name: there is no default.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_wp.certificates import linear_rules
from keras_wp.certificates.bounds import EXACT, Rule, few_operations
from keras_wp.certificates.refusals import ADVICE, OWN, refuse
from keras_wp.lipschitz import norms

# Relative error of an elementary function in float32, at most. Libraries
# promise none; `tests/certificates/test_rules.py` measures them.
_FUNCTION = 2.0**-19
# Absolute error of an exponential below 1, likewise.
_EXPONENTIAL = 2.0**-21


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


def _rectified(step):
    if step.operation.threshold:
        refuse(step, "use a ReLU without threshold, which does not jump")
    return _leaky(step)


def _leaky(step):
    slope = abs(float(np.float32(step.operation.negative_slope)))
    return few_operations(max(1.0, slope))


def _exponential(constant, alpha):
    """`alpha (exp(x) - 1)` below zero, where a backend may round `exp(x)`."""

    def rule(step):
        numbers = math.prod(step.outputs[0].shape[1:])
        lost = alpha * _EXPONENTIAL * math.sqrt(numbers)
        known = _elementary(constant).rounding
        return Rule(constant, lambda *given: known(*given) + lost)

    return rule


def _elu(step):
    alpha = abs(float(np.float32(step.operation.alpha)))
    return _exponential(max(1.0, alpha), alpha)(step)


def _parametric(step):
    slopes = np.abs(norms.float64(step.operation.alpha))
    return few_operations(max(1.0, float(slopes.max())))


def _reshaped(step):
    (symbol,), (output,) = step.inputs, step.outputs
    if math.prod(symbol.shape[1:]) != math.prod(output.shape[1:]):
        refuse(step, "keep the axis of the images apart from the others")
    return EXACT


def _transposed(step):
    axes = step.operation.axes
    if not axes or axes[0] != 0:
        refuse(step, "keep the axis of the images in front")
    return EXACT


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
    return few_operations(1.0, 2)


def _multiplied(step):
    _unbroadcast(step)
    factors = np.abs(_constant(step).astype(float))
    return few_operations(float(factors.max()), 2)


def _divided(step):
    _unbroadcast(step)
    if step.args[0] is not step.inputs[0]:
        refuse(step, "divide by constants only")
    divisors = np.abs(_constant(step).astype(float))
    if not divisors.min() > 0:
        refuse(step, "divide by numbers other than 0 only")
    return few_operations(float((1 / divisors).max()), 3)


def _matmul(step):
    kernel = _constant(step)
    if step.args[0] is not step.inputs[0] or kernel.ndim != 2:
        refuse(step, "multiply by matrices from the right only")

    def rounding(size, at_zero):
        return norms.products_error(kernel, size)

    return Rule(norms.matrix_norm(kernel), rounding)


_LAYERS = {
    keras.layers.ActivityRegularization: EXACT,
    keras.layers.AveragePooling2D: linear_rules.average_pooling,
    keras.layers.Conv1D: linear_rules.kernel,
    keras.layers.Conv2D: linear_rules.kernel,
    keras.layers.Cropping2D: EXACT,
    keras.layers.Dense: linear_rules.kernel,
    keras.layers.DepthwiseConv2D: linear_rules.kernel,
    keras.layers.Dropout: EXACT,
    keras.layers.ELU: _elu,
    keras.layers.Flatten: EXACT,
    keras.layers.GaussianDropout: EXACT,
    keras.layers.GaussianNoise: EXACT,
    keras.layers.GlobalAveragePooling2D: linear_rules.global_average,
    keras.layers.GlobalMaxPooling2D: EXACT,
    keras.layers.Identity: EXACT,
    keras.layers.LeakyReLU: _leaky,
    keras.layers.MaxPooling2D: linear_rules.max_pooling,
    keras.layers.Normalization: linear_rules.normalized,
    keras.layers.PReLU: _parametric,
    keras.layers.Permute: EXACT,
    keras.layers.ReLU: _rectified,
    keras.layers.Rescaling: linear_rules.rescaled,
    keras.layers.Reshape: EXACT,
    keras.layers.SpatialDropout2D: EXACT,
    keras.layers.UpSampling2D: linear_rules.repeated,
    keras.layers.ZeroPadding2D: EXACT,
}
_FUNCTIONS = {
    "elu": _exponential(1.0, 1.0),
    # Its steepest slope is 1.12891, that of its approximation 1.12898.
    "gelu": _elementary(1.129),
    "hard_sigmoid": few_operations(1 / 6, 3),
    "hard_tanh": EXACT,
    "leaky_relu": few_operations(1.0),
    "linear": EXACT,
    # Its steepest slope is 1.08850.
    "mish": _elementary(1.0886),
    "relu": EXACT,
    "relu6": EXACT,
    # Its steepest slope is 1.75810, where the exponential begins.
    "selu": _exponential(1.7581, 1.7581),
    "sigmoid": _elementary(0.25),
    # Its steepest slope is 1.09984.
    "silu": _elementary(1.0999),
    "softplus": _elementary(1.0),
    "tanh": _elementary(1.0),
}
_OPERATIONS = {
    "Absolute": EXACT,
    "Add": _shifted,
    "Divide": _divided,
    "Gelu": _FUNCTIONS["gelu"],
    "HardSigmoid": _FUNCTIONS["hard_sigmoid"],
    "HardTanh": _FUNCTIONS["hard_tanh"],
    "Matmul": _matmul,
    "Mish": _FUNCTIONS["mish"],
    "Multiply": _multiplied,
    "Negative": EXACT,
    "Relu": EXACT,
    "Relu6": EXACT,
    "Reshape": _reshaped,
    "Selu": _FUNCTIONS["selu"],
    "Sigmoid": _FUNCTIONS["sigmoid"],
    "Silu": _FUNCTIONS["silu"],
    "Softplus": _FUNCTIONS["softplus"],
    "Subtract": _shifted,
    "Tanh": _FUNCTIONS["tanh"],
    "Transpose": _transposed,
    "TrueDivide": _divided,
}
