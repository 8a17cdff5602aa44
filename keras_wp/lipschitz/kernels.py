"""Kernels of norm at most 1, made of free weights; in float32, by `ops`."""

import math

from keras import ops

# So many products are added apart from others, in inference: the rounding of
# float32 is bounded by the numbers that are added one after another.
BLOCK = 72
# A kernel is shrunk by so much, that float32 cannot round its norm beyond 1.
SHRINK = 1 - 2**-14


def orthogonal(free):
    """A matrix with orthonormal columns or, if it is wide, rows.

    By the Cayley transform of a matrix of any entries: with `free = [U; B]`,
    `U` square, and `A = U - U^T + B^T B`, it is `[(I + A)^-1 (I - A);
    -2 B (I + A)^-1]`.

    Args:
        free: `(P, K)`.

    Source: Trockman and Kolter, "Orthogonalizing convolutional layers with
    the Cayley transform" (ICLR 2021), sections 3 and 4.3.
    """
    rows, columns = free.shape
    if rows < columns:
        return ops.transpose(orthogonal(ops.transpose(free)))
    upper, lower = free[:columns], free[columns:]
    skew = (
        upper - ops.transpose(upper) + ops.matmul(ops.transpose(lower), lower)
    )
    identity = ops.eye(columns, dtype=free.dtype)
    inverse = ops.inv(identity + skew)
    # (I + A)^-1 (I - A) = 2 (I + A)^-1 - I.
    top = 2.0 * inverse - identity
    return ops.concatenate([top, -2.0 * ops.matmul(lower, inverse)], axis=0)


def almost_orthogonal(free):
    """A matrix or the kernel of a convolution, rescaled to norm at most 1.

    Each channel `c` of the side with fewer channels is divided by the root
    of `sum_c' |G_cc'|`, where `G` are the products of channels; in a
    convolution, summed over all shifts of one against the other.

    Args:
        free: `(P, K)`, or `(height, width, P, K)`.

    Source: Prach and Lampert, "Almost-orthogonal layers for efficient
    general-purpose Lipschitz networks" (ECCV 2022), theorems 1 and 2.
    """
    matrix = len(free.shape) == 2
    kernel = free[None, None] if matrix else free
    wide = kernel.shape[2] <= kernel.shape[3]
    if not wide:
        kernel = ops.swapaxes(kernel, 2, 3)
    # Its channels as images, convolved with its channels as filters.
    height, width = kernel.shape[:2]
    images = ops.pad(
        ops.transpose(kernel, (2, 0, 1, 3)),
        ((0, 0), (height - 1,) * 2, (width - 1,) * 2, (0, 0)),
    )
    filters = ops.transpose(kernel, (0, 1, 3, 2))
    products = ops.conv(
        images, filters, padding="valid", data_format="channels_last"
    )
    sums = ops.sum(ops.abs(products), axis=(0, 1, 2))
    scale = ops.rsqrt(ops.maximum(sums, 1e-12))
    kernel = kernel * scale[:, None]
    if not wide:
        kernel = ops.swapaxes(kernel, 2, 3)
    return kernel[0, 0] if matrix else kernel


def blocks(channels, taps=1):
    """Slices of channels that have about `BLOCK` products each.

    Args:
        channels: How many channels there are.
        taps: Products for each channel.
    """
    size = max(1, BLOCK // taps)
    return [slice(i, i + size) for i in range(0, channels, size)]


def in_blocks(product, inputs, kernel):
    """The sum of the products of blocks of channels with their kernels.

    Args:
        product: `matmul`, or a convolution.
        inputs: `(..., P)`.
        kernel: `(..., P, K)`.
    """
    *taps, channels, _ = kernel.shape
    parts = [
        product(inputs[..., block], kernel[..., block, :])
        for block in blocks(channels, math.prod(taps))
    ]
    return sum(parts[1:], parts[0])
