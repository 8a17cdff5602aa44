"""Square patches at random places: what the Square attack proposes.

Each image has a patch of its own size at its own place, so patches are made
of masks over all pixels, under one static shape.

Source: Andriushchenko et al., "Square Attack" (ECCV 2020), sections 3.2 and
3.3.
"""

import keras
import numpy as np
from keras import ops

from keras_wp import _noise

# The l2 start is a grid of so many patches a side, and no patch is smaller.
TILES = 5
SMALLEST_ODD_SIDE = 3


def _pyramid(height, width):
    """The pattern of equation 2: highest in the middle, of one sign."""
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    rings = max(height, width) // 2 + 1
    # The sum of 1 / k**2 from the pixel's ring to the outermost.
    terms = 1.0 / np.arange(1, rings + 1) ** 2
    return np.cumsum(terms[::-1])[::-1][np.maximum.outer(rows, columns)]


def pattern(height, width):
    """A patch of two pyramids of opposite signs, of Euclidean length 1.

    The first fills the upper half, rounded down, the second the rest. A patch
    of one row is parted in its width.

    Returns:
        A float64 array `(height, width)`.
    """
    if height == 1 and width > 1:
        return pattern(width, height).T
    upper = height // 2
    halves = [_pyramid(upper, width), -_pyramid(height - upper, width)]
    values = np.concatenate(halves)
    return values / np.sqrt((values**2).sum())


def _orientations(height, width):
    """The pattern as it is and on its side: `(2, height, width)`."""
    return np.stack([pattern(height, width), pattern(width, height).T])


class Grid:
    """Images of any kind as `(N, H, W, C)`, and the places in them.

    Args:
        shape: Shape of an image: `(H, W, C)`, or `(C, H, W)` if that is
            Keras's `image_data_format`, `(H, W)`, or `(D,)`, which counts as
            one row of pixels.

    Raises:
        ValueError: If images have another number of axes.
    """

    def __init__(self, shape):
        shape = tuple(shape)
        first = keras.config.image_data_format() == "channels_first"
        self._swapped = first and len(shape) == 3
        self._shape = shape
        if self._swapped:
            shape = (shape[1], shape[2], shape[0])
        elif len(shape) == 1:
            shape = (1, shape[0], 1)
        elif len(shape) == 2:
            shape = (*shape, 1)
        if len(shape) != 3:
            raise ValueError(
                "Square needs images of the shape (N, H, W, C), (N, H, W) or "
                f"(N, D). Received: images of shape {shape}"
            )
        self.height, self.width, self.channels = shape

    def view(self, x):
        """Images `(N, ...)` as `(N, H, W, C)`."""
        if self._swapped:
            return ops.transpose(x, (0, 2, 3, 1))
        return ops.reshape(x, (-1, self.height, self.width, self.channels))

    def restore(self, x):
        """The inverse of `view`."""
        if self._swapped:
            return ops.transpose(x, (0, 3, 1, 2))
        return ops.reshape(x, (-1, *self._shape))

    def patch_sizes(self, shares, odd=False):
        """The sizes of patches that cover these shares of the pixels.

        They are square, unless the image is too low for that, as a vector
        is: then they are wider.

        Args:
            shares: Numbers in (0, 1].
            odd: Whether sides are made odd, and at least 3.

        Returns:
            Integers `(len(shares), 2)`: heights and widths.
        """
        sizes = []
        for share in shares:
            side = round((share * self.height * self.width) ** 0.5)
            if odd:
                side = max(side + (side % 2 == 0), SMALLEST_ODD_SIDE)
            side = max(side, 1)
            height = min(side, self.height)
            width = min(round(side * side / height), self.width)
            sizes.append((height, width))
        return np.asarray(sizes, np.int32)

    def window(self, keys, sizes):
        """A patch at a random place in each image.

        Args:
            keys: `(N, 2)` random keys.
            sizes: `(N, 2)` int32, heights and widths.

        Returns:
            `(rows, columns, inside)`: positions counted from the patch's
            first, `(N, H, 1)` and `(N, 1, W)`, and `(N, H, W)`, true inside.
        """
        sizes = ops.convert_to_tensor(sizes)
        draws = _noise.uniform(keys, (2,))
        extent = ops.convert_to_tensor([self.height, self.width], "int32")
        places = extent - sizes + 1
        first = ops.cast(draws * ops.cast(places, "float32"), "int32")
        # The product may round up to the number of places.
        first = ops.minimum(first, places - 1)[:, :, None]
        rows = ops.arange(self.height, dtype="int32") - first[:, 0]
        columns = ops.arange(self.width, dtype="int32") - first[:, 1]
        within_rows = (rows >= 0) & (rows < sizes[:, :1])
        within_columns = (columns >= 0) & (columns < sizes[:, 1:])
        inside = within_rows[:, :, None] & within_columns[:, None, :]
        return rows[:, :, None], columns[:, None, :], inside


def _signs(keys, shape):
    """-1.0 or 1.0, with equal odds: `(N, *shape)`."""
    return 2.0 * ops.cast(_noise.uniform(keys, shape) < 0.5, "float32") - 1.0


def _unit(x, axes):
    """`x` over its Euclidean length along these axes; zero stays zero."""
    length = ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))
    return x / ops.where(length > 0, length, 1.0)


def stripes(keys, grid):
    """Vertical stripes of 1 and -1, each channel for itself."""
    signs = _signs(keys, (1, grid.width, grid.channels))
    return ops.tile(signs, (1, grid.height, 1, 1))


def tiles(keys, grid):
    """A grid of patterns of Euclidean length 1, each of random orientation.

    Each channel of a tile has a random sign.
    """
    height, width = max(grid.height // TILES, 1), max(grid.width // TILES, 1)
    down, across = min(TILES, grid.height), min(TILES, grid.width)
    top = (grid.height - down * height) // 2
    left = (grid.width - across * width) // 2
    # The tile that each pixel belongs to.
    owner = np.zeros((grid.height, grid.width), np.int32)
    patterns = np.zeros((2, grid.height, grid.width), np.float32)
    square = (
        slice(top, top + down * height),
        slice(left, left + across * width),
    )
    number = np.arange(down * across, dtype=np.int32).reshape(down, across)
    owner[square] = np.kron(number, np.ones((height, width), np.int32))
    patterns[(slice(None), *square)] = np.tile(
        _orientations(height, width), (1, down, across)
    )
    owner = owner.ravel()
    upright = _noise.uniform(_noise.fold_in(keys, 1), (down * across,)) < 0.5
    signs = _signs(_noise.fold_in(keys, 2), (down * across, grid.channels))
    values = ops.where(
        ops.take(upright, owner, axis=1),
        ops.convert_to_tensor(patterns[0].ravel()),
        ops.convert_to_tensor(patterns[1].ravel()),
    )
    values = values[:, :, None] * ops.take(signs, owner, axis=1)
    shape = (-1, grid.height, grid.width, grid.channels)
    return _unit(ops.reshape(values, shape), (1, 2, 3))


def move_linf(keys, grid, *, sizes, stage, clean, best, eps):
    """Each channel of a patch moves by `2 * eps`, up or down.

    Args:
        keys: `(N, 2)` random keys.
        grid: The `Grid` of the images.
        sizes: `(S, 2)` heights and widths of patches.
        stage: `(N,)` int32, which of them to use.
        clean: The clean images, `(N, H, W, C)`.
        best: The perturbed images to change.
        eps: Radius of the ball.

    Returns:
        Images within the ball, `(N, H, W, C)`; not clipped to the bounds.
    """
    _, _, inside = grid.window(keys, ops.take(sizes, stage, axis=0))
    signs = _signs(_noise.fold_in(keys, 1), (1, 1, grid.channels))
    move = ops.cast(inside[..., None], "float32") * (2.0 * eps * signs)
    return clean + ops.clip(best + move - clean, -eps, eps)


def move_l2(keys, grid, *, sizes, stage, clean, best, eps):
    """A patch gains what another gives up, and what the ball has left.

    See `move_linf` for the arguments.
    """
    size = ops.take(sizes, stage, axis=0)
    rows, columns, first = grid.window(_noise.fold_in(keys, 1), size)
    _, _, second = grid.window(_noise.fold_in(keys, 2), size)
    turned = _noise.uniform(_noise.fold_in(keys, 3), (1,)) < 0.5
    signs = _signs(_noise.fold_in(keys, 4), (1, 1, grid.channels))

    table = np.zeros((len(sizes), 2, grid.height, grid.width), np.float32)
    for number, (height, width) in enumerate(sizes):
        table[number, :, :height, :width] = _orientations(height, width)
    which = 2 * stage[:, None] + ops.cast(turned, "int32")
    place = (which[:, :, None] * grid.height + rows) * grid.width + columns
    values = ops.take(table.ravel(), ops.where(first, place, 0))

    delta = best - clean
    first, second = first[..., None], second[..., None]
    kept = ops.where(first, delta, 0.0)
    fresh = ops.where(first, values[..., None] * signs, 0.0)
    fresh = _unit(fresh + _unit(kept, (1, 2)), (1, 2))
    either = ops.where(first | second, delta, 0.0)
    budget = ops.sum(ops.square(either), axis=(1, 2), keepdims=True)
    used = ops.sum(ops.square(delta), axis=(1, 2, 3), keepdims=True)
    unused = ops.maximum(eps**2 - used, 0.0)
    fresh = fresh * ops.sqrt(budget + unused / grid.channels)
    delta = ops.where(first, fresh, ops.where(second, 0.0, delta))
    return clean + eps * _unit(delta, (1, 2, 3))
