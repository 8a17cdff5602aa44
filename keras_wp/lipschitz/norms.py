"""Norms of linear maps in float64, and what float32 rounding does to them.

All are upper bounds, raised by far more than float64 can be wrong.
"""

import functools
import math

import numpy as np
import threadpoolctl
from keras import ops

# Half the distance from 1 to the next float32.
UNIT = 2.0**-24
# More than all numbers together that float32 may flush to zero in a layer.
FLUSHED = 1e-25
_FLOAT64 = 1 + 1e-10


def float64(weights):
    """Weights on the host, in float64."""
    return np.asarray(ops.convert_to_numpy(weights), np.float64)


def gamma(operations):
    """The relative error of so many roundings in a row, at most.

    Source: Higham, "Accuracy and stability of numerical algorithms" (2nd
    edition, 2002), lemma 3.1.
    """
    return operations * UNIT / (1 - operations * UNIT)


@functools.cache
def _libraries():
    return threadpoolctl.ThreadpoolController()


def _one_thread(size):
    """A context in which BLAS works on small matrices in one thread.

    Several wait for each other at every step, actively: where another process
    works, that takes up to a hundred times as long.

    Args:
        size: How many entries the matrix has.
    """
    threads = 1 if size < 2**21 else None
    return _libraries().limit(limits=threads, user_api="blas")


def matrix_norm(matrix):
    """The largest singular value of a matrix `(P, K)`."""
    matrix = float64(matrix)
    rows, columns = matrix.shape
    with _one_thread(matrix.size):
        gram = matrix @ matrix.T if rows < columns else matrix.T @ matrix
        found = np.linalg.eigvalsh(gram)[-1]
    return math.sqrt(max(0.0, found)) * _FLOAT64


def convolution_norm(kernel):
    """A bound of the l2 norm of a convolution.

    Whether it is padded by zeros, circular or not padded, with any strides.
    With `G_cc'` as in `kernels.almost_orthogonal` and any positive `v`, the
    norm is at most the root of `max_c (G v)_c / v_c`; the best `v` is the
    leading eigenvector of `G`.

    Args:
        kernel: `(height, width, P, K)`.
    """
    kernel = float64(kernel)
    with _one_thread(kernel.size):
        sides = [_products(kernel), _products(kernel.swapaxes(2, 3))]
    found = min(_largest_eigenvalue(side.dot, len(side)) for side in sides)
    return min(math.sqrt(found) * _FLOAT64, absolute_norm(kernel))


def _products(kernel):
    """`G`, `(P, P)`: sums of absolute products over all shifts."""
    height, width, channels, _ = kernel.shape
    total = np.zeros((channels, channels))
    for down in range(1 - height, height):
        for right in range(1 - width, width):
            first = kernel[_overlap(down, height)][:, _overlap(right, width)]
            second = kernel[_overlap(-down, height)]
            second = second[:, _overlap(-right, width)]
            total += np.abs(np.tensordot(first, second, ((0, 1, 3),) * 2))
    return total


def _overlap(shift, size):
    return slice(max(0, shift), size + min(0, shift))


def _largest_eigenvalue(apply, size, steps=30):
    """An upper bound of that of a matrix without negative entries.

    Args:
        apply: The product of the matrix with a vector.
        size: Of the matrix.
        steps: How many vectors are tried; each gives a bound (Collatz).
    """
    vector, best = np.ones(size), np.inf
    for _ in range(steps):
        product = apply(vector)
        best = min(best, float((product / vector).max()))
        if not product.any():
            break
        # A channel of zeros would never be positive again.
        vector = product / product.max() + 1e-9
    return best


def absolute_norm(kernel):
    """A bound of the norm of the map with the absolute values of a kernel.

    Args:
        kernel: `(P, K)`, or `(height, width, P, K)` of a convolution.
    """
    kernel = np.abs(float64(kernel))
    matrix = kernel.reshape(-1, *kernel.shape[-2:]).sum(0)
    with _one_thread(matrix.size):
        found = _largest_eigenvalue(
            lambda v: matrix.T @ (matrix @ v), matrix.shape[1], steps=10
        )
    return math.sqrt(found) * _FLOAT64


def upper_lengths(x):
    """The l2 lengths of images, `(n,)`, and a little more: never less.

    Args:
        x: The images, `(n, ...)` float32.
    """
    flat = np.asarray(x, np.float32).reshape(len(x), -1)
    squares = np.einsum("ij,ij->i", flat, flat).astype(np.float64)
    return np.sqrt(squares) * (1 + gamma(flat.shape[1] + 1)) + FLUSHED


def products_error(kernel, size, bias=0.0, terms=None):
    """By how much float32 may miss sums of products: an l2 length.

    Whatever the order of the sums is, for inputs of a length of at most
    `size`: `gamma_n (||abs(W)|| size + ||b||)`, where `n` numbers are added.

    Args:
        kernel: `(P, K)`, or `(height, width, P, K)`.
        size: A number or an array.
        bias: The length of all biases that are added together.
        terms: How many numbers are added to any other, if not all products
            and the bias.
    """
    terms = terms or int(np.prod(kernel.shape[:-1])) + 1
    return gamma(terms) * (absolute_norm(kernel) * size + bias) + FLUSHED
