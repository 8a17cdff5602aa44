"""Batches of images for `fit`, shuffled and augmented."""

from keras_wp import augmentation


def batches(
    x,
    y,
    batch_size=128,
    seed=0,
    first_epoch=0,
    augment=False,
    part=0,
    parts=1,
):
    """Feed images to `fit`, shuffled and augmented, as a `tf.data.Dataset`.

    The dataset continues epoch after epoch, each in an order of its own, so
    `fit` must be told `steps_per_epoch=len(x) // batch_size` (and
    `shuffle=False`, or it warns). The few images
    that do not fill a batch sit out, others each epoch. Order and augmentation
    depend on the seed and the number of the epoch only: a training that is
    taken up with `first_epoch` sees the images that it would have seen.

    With `augment`, images are padded by 4 pixels that mirror them, cropped at
    random to their size, and half of them flipped, as by
    `keras_wp.augmentation.CropAndFlip`, but ahead of the training step and
    on other cores.

    Args:
        x: Images `(N, H, W, C)`, an array.
        y: Labels `(N,)`, an array.
        batch_size: Images of a batch, at most `N`.
        seed: Integer; or `None` for a single epoch in the order of the
            arrays, for validation.
        first_epoch: Number of the epoch to begin with.
        augment: Whether to augment, which needs a seed.
        part: Number of this process, if several share the training.
        parts: How many they are. The part with number `i` gets the `i`-th
            of `parts` equal parts of each batch.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`, for any backend.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> model.fit(
    ...     keras_wp.datasets.batches(x_train, y_train, 128, augment=True),
    ...     steps_per_epoch=len(x_train) // 128,
    ...     epochs=400,
    ...     shuffle=False,  # They are, and Keras cannot.
    ... )
    """
    return fed(
        x,
        y,
        batch_size,
        seed=seed,
        first_epoch=first_epoch,
        augment=augment,
        part=part,
        parts=parts,
    )


def fed(x, y, batch_size, *, seed, augment, part, parts, **more):
    """`batches` with more arguments, those of `_backend.pipeline`."""
    if not 1 <= batch_size <= len(x):
        raise ValueError(
            "`batch_size` must be from 1 to the number of images, "
            f"{len(x)}. Received: batch_size={batch_size}"
        )
    if batch_size % parts or not 0 <= part < parts:
        raise ValueError(
            "`batch_size` must be divisible by `parts`, and `part` from 0 to "
            f"parts - 1. Received: batch_size={batch_size}, part={part}, "
            f"parts={parts}"
        )
    if augment and seed is None:
        raise ValueError("`augment` needs a `seed`. Received: seed=None")
    shape, padding = x.shape[1:], augmentation.PADDING
    if augment:
        augmentation.check_shape(shape, padding)

    def pixels(images, draw):
        return augmentation.pixel_numbers(
            images, draw, shape, padding, flip=True
        )

    from keras_wp._backend import pipeline

    return pipeline.batches(
        x,
        y,
        int(batch_size),
        seed=seed,
        augment=pixels if augment else None,
        part=part,
        parts=parts,
        **more,
    )
