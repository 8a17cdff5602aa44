"""The paper's weight penalty as a Keras regularizer."""

import math
import numbers

import keras
import numpy as np
from keras import ops

from keras_wp import simplex

# Spacing of the numbers just above 1, of the types a kernel may have.
_EPSILON = {"float64": 2**-52, "float16": 2**-10, "bfloat16": 2**-7}
_EPSILON_FLOAT32 = 2**-23
_HALF = {"float16", "bfloat16"}


@keras.saving.register_keras_serializable(package="keras_wp")
class SimplexRegularizer(keras.regularizers.Regularizer):
    """Penalizes class weights that are not the vertices of a simplex.

    The penalty is the second term of (3.8),
    `alpha * frobenius_norm(kernel^T kernel - Sigma)`, where
    `Sigma[i, j] = s**2` if `i == j` and `s**2 / (1 - classes)` otherwise. By
    Theorem 1 it is zero if and only if all class weights have length `s` and
    the smallest angle between them is as large as it can be.

    The norm is not squared, so the gradient keeps its length however small
    the penalty is, and does not exist at the optimum. It is taken to be zero
    there, and wherever the kernel may be an optimal one, rounded: where the
    norm is at most `1.25 * epsilon * frobenius_norm(Sigma)` and `epsilon` is
    the spacing of the kernel's type at 1.

    The penalty is computed in float32 (in float64 if the kernel is float64)
    whatever the dtype policy, to a few units in the last place even next to
    the optimum, and also where matrices are multiplied in TensorFloat-32.

    Keras reads a layer's `kernel_regularizer` when the layer is built, and
    not again: setting the attribute later does nothing. A built layer gets a
    penalty by `layer.kernel.regularizer = SimplexRegularizer()`; set
    `layer.kernel_regularizer` as well, for it to be saved.

    Args:
        s: Length of a class weight, a positive number. Defaults to `0.1`.
        alpha: Weight of the penalty, a number of at least 0. Defaults to
            `100.0`.

    Raises:
        ValueError: If `s` or `alpha` is out of its range; when called, if the
            kernel is not of shape `(features, classes)` with
            `1 < classes <= features + 1`.

    Reference:
        Xu, Li and Yang, "Improve adversarial robustness via weight
        penalization on classification layer", Section 3.1.

    Example:

    >>> head = keras.layers.Dense(
    ...     10, use_bias=False, kernel_regularizer=SimplexRegularizer()
    ... )
    >>> head.build((None, 64))
    >>> len(head.losses)
    1
    """

    def __init__(self, s=0.1, alpha=100.0):
        simplex.validate_s(s)
        if not isinstance(alpha, numbers.Real) or not 0 <= alpha < math.inf:
            raise ValueError(
                "`alpha` must be a finite number of at least 0. "
                f"Received: alpha={alpha!r}"
            )
        self.s = float(s)
        self.alpha = float(alpha)

    def __call__(self, x):
        """Returns the penalty of the kernel `x`, a scalar."""
        x = ops.convert_to_tensor(x)
        simplex.validate_kernel_rank(x.shape)
        dim, num_classes = x.shape
        simplex.validate_dimensions(num_classes, dim)
        dtype = keras.backend.standardize_dtype(x.dtype)
        epsilon = _EPSILON.get(dtype, _EPSILON_FLOAT32)
        compute_dtype = "float64" if dtype == "float64" else "float32"

        # In units of `unit`, a power of two, so that squares stay in range.
        unit = 2.0 ** math.frexp(self.s)[1]
        sigma = simplex.gram(num_classes, self.s / unit)
        kernel = ops.cast(x, compute_dtype) / unit
        residual, scale = _gram_residual(kernel, sigma)

        square = ops.sum(ops.square(residual))
        # Rounding an optimal kernel costs epsilon times the norm of Sigma at
        # most, in first order.
        floor = 1.25 * epsilon * np.linalg.norm(sigma) / ops.square(scale)
        optimal = square <= ops.square(floor)
        norm = ops.where(
            optimal,
            ops.sqrt(ops.stop_gradient(square)),
            ops.sqrt(ops.where(optimal, ops.ones_like(square), square)),
        )
        scale = scale * unit
        penalty = self.alpha * (norm * scale * scale)
        # Where losses are in half precision, Keras adds up those of one type.
        floatx = keras.config.floatx()
        return ops.cast(penalty, floatx) if floatx in _HALF else penalty

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {"s": self.s, "alpha": self.alpha}


def _gram_residual(kernel, sigma):
    """Computes `(kernel^T kernel - sigma) / scale**2` without cancellation.

    Near the optimum the difference is far smaller than its terms, and the
    rounding of the product would be most of it. So the kernel is split into a
    multiple of 2**-10 and a rest that is 2**-11 at most. The product of the
    former with itself is exact: in units of 2**-20 it and all its partial sums
    are integers under 2**24, if no class weight is longer than 1. The power
    of two `scale` sees to that. Its 11 bits fit TensorFloat-32 too.

    Returns:
        The residual, of shape `(classes, classes)`, and `scale`, a scalar.
    """
    length = ops.sqrt(ops.max(ops.sum(ops.square(kernel), axis=0)))
    powers = ops.convert_to_tensor(2.0 ** np.arange(64), dtype=kernel.dtype)
    fitting = ops.where(powers >= length, powers, powers[-1])
    scale = ops.stop_gradient(ops.min(fitting))

    kernel = kernel / scale
    coarse = ops.round(ops.stop_gradient(kernel) * 2.0**10) / 2.0**10
    fine = kernel - coarse
    cross = ops.matmul(ops.transpose(fine), coarse + fine / 2.0)

    sigma_coarse = sigma.astype("float32")
    sigma_fine = sigma - sigma_coarse
    residual_coarse = ops.matmul(ops.transpose(coarse), coarse)
    residual_coarse -= ops.cast(sigma_coarse, kernel.dtype) / scale / scale
    residual_fine = cross + ops.transpose(cross)
    residual_fine -= ops.cast(sigma_fine, kernel.dtype) / scale / scale
    return residual_coarse + residual_fine, scale
