"""The paper's augmentation: pad by reflection, crop at random, flip.

Each pixel of the result is a pixel of the image, so both forms of it (the
layer here, and the pipeline behind `keras_wp.datasets.batches`) choose pixel
numbers and gather once.
"""

import keras
import numpy as np
from keras import ops

PADDING = 4


@keras.saving.register_keras_serializable(package="keras_wp")
class CropAndFlip(keras.layers.Layer):
    """Pads images by reflection, crops at random, and flips half of them.

    Each image is padded by `padding` pixels on all sides, as if mirrored at
    its outermost pixels (which are not repeated), a part as large as the image
    is cut out at a random place, and with probability 1/2 mirrored from left
    to right. Every image of a batch has a place of its own. In inference
    mode images stay as they are.

    To train against attacks, augment the images before they are attacked, as
    `keras_wp.datasets.batches` does; inside the model that is attacked, this
    layer would move the perturbation with the image.

    Args:
        padding: Number of pixels, at least 0 and less than the image's
            height and width. Defaults to 4.
        flip: Whether to flip. Defaults to true.
        seed: Integer, or `None` for a random one.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        The same.

    Raises:
        ValueError: If `padding` is out of its range; when called, if the
            images are not of one known shape.

    Source: Xu, Li and Yang, "Improve Adversarial Robustness via Weight
    Penalization on Classification Layer", section 4.1.

    Example:

    >>> layer = keras_wp.augmentation.CropAndFlip(seed=0)
    >>> augmented = layer(images, training=True)
    """

    def __init__(self, padding=PADDING, flip=True, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_padding(padding)
        self.padding = int(padding)
        self.flip = bool(flip)
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        """Returns augmented images in training, `inputs` otherwise."""
        if not training:
            return inputs
        count = ops.shape(inputs)[0]

        def draw(_, limit):
            return keras.random.randint(
                (count,), 0, limit, seed=self._generator
            )

        chosen = pixel_numbers(
            ops.arange(count, dtype="int32"),
            draw,
            tuple(inputs.shape[1:]),
            self.padding,
            self.flip,
        )
        pixels = ops.reshape(inputs, (-1, inputs.shape[-1]))
        return ops.take(pixels, chosen, axis=0)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the images."""
        return input_shape

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            "padding": self.padding,
            "flip": self.flip,
            "seed": self.seed,
        }


def check_padding(padding):
    """Refuse a `padding` that is not an integer of at least 0."""
    if not isinstance(padding, (int, np.integer)) or padding < 0:
        raise ValueError(
            "`padding` must be an integer of at least 0. "
            f"Received: padding={padding!r}"
        )


def check_shape(shape, padding):
    """Refuse images that are not larger than the padding, or of no one size.

    Args:
        shape: Of an image.
        padding: Pixels around it.
    """
    if len(shape) != 3 or None in shape or min(shape[:2]) <= padding:
        raise ValueError(
            "Images to augment must be of one known (height, width, "
            f"channels), larger than the padding of {padding} pixels. "
            f"Received: images of shape {tuple(shape)}"
        )


def pixel_numbers(images, draw, shape, padding, flip):
    """Which pixel of a batch each pixel of its augmented images is.

    Args:
        images: `(N,)`, the numbers 0 to N - 1, an int32 tensor.
        draw: `draw(i, limit)` returns `(N,)` random int32 numbers from 0 to
            `limit - 1`, independent for each `i`.
        shape: `(H, W, C)` of an image.
        padding: Pixels around the image, less than `H` and `W`.
        flip: Whether to mirror half of the images.

    Returns:
        `(N, H, W)` numbers of pixels, which are counted image by image and
        row by row.

    Raises:
        ValueError: If the images are not large enough, or their size is not
            known.
    """
    check_shape(shape, padding)
    height, width, _ = shape
    places = 2 * padding + 1
    rows = _reflected(draw(0, places), height, padding)
    columns = _reflected(draw(1, places), width, padding)
    if flip:
        columns += draw(2, 2)[:, None] * (width - 1 - 2 * columns)
    first = images[:, None] * height
    return (first + rows)[:, :, None] * width + columns[:, None, :]


def _reflected(offsets, size, padding):
    """`(N, size)`: the rows of a part that begins at `offsets`.

    Only operators are used, which every backend's tensors have.
    """
    place = offsets[:, None] + np.arange(
        -padding, size - padding, dtype="int32"
    )
    return (size - 1) - abs((size - 1) - abs(place))
