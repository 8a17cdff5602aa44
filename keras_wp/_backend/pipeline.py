"""Batches of images by `tf.data`, which feeds every backend."""

import numpy as np
import tensorflow as tf

# What random numbers are for; those of augmentation are 1 and more.
_ORDER, _DRAWN, _PLACES = 0, 101, 102


def batches(
    x, y, batch_size, *, seed, first_epoch, augment, part, parts, others=None
):
    """A dataset of whole batches; see `keras_wp.datasets.batches`.

    Args:
        x: Images, an array.
        y: Labels, an array.
        batch_size: Images of a batch, all parts together.
        seed: Of the order and the augmentation; None for one epoch in the
            order of the arrays.
        first_epoch: Number of the epoch to begin with.
        augment: None; or maps the numbers of the images in a batch, and
            `draw(i, limit)`, to numbers of pixels. The latter returns int32
            numbers below `limit`, one for each image, independent for each
            `i`.
        part: Which part of each batch to return.
        parts: In how many parts a batch is cut.
        others: None; or images and labels on the host, and how many of them
            each batch has in the place of images in `x`. See
            `keras_wp.datasets.mix`.
    """
    steps = len(x) // batch_size
    share = batch_size // parts
    mine = slice(part * share, (part + 1) * share)
    rows, own = _rows(x, y), batch_size
    if others is not None:
        more_images, more_labels, count = others
        rows = _rows_of_both(x, y, more_images, more_labels)
        own = batch_size - count

    def key(purpose, number):
        base = tf.constant([seed, purpose], tf.int64)
        return tf.random.experimental.stateless_fold_in(base, number)

    def epoch_of_batches(epoch):
        order = tf.range(len(x))
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(
                order, key(_ORDER, epoch)
            )
        order = tf.reshape(order[: steps * own], (steps, own))
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((order, numbers))

    def with_others(chosen, number):
        drawn = tf.random.stateless_uniform(
            (batch_size - own,),
            key(_DRAWN, number),
            len(x),
            len(x) + len(more_images),
            tf.int32,
        )
        return tf.random.experimental.stateless_shuffle(
            tf.concat([chosen, drawn], 0), key(_PLACES, number)
        )

    def load(chosen, number):
        if others is not None:
            chosen = with_others(chosen, number)
        batch, labels = rows(chosen[mine])
        if augment is not None:

            def draw(i, limit):
                # For the whole batch, so that an image's augmentation does
                # not depend on the number of parts.
                return tf.random.stateless_uniform(
                    (batch_size,), key(1 + i, number), 0, limit, tf.int32
                )[mine]

            pixels = tf.reshape(batch, (-1, batch.shape[-1]))
            batch = tf.gather(pixels, augment(tf.range(share), draw))
        return batch, labels

    epochs = tf.data.Dataset.counter(first_epoch)
    cardinality = tf.data.INFINITE_CARDINALITY
    if seed is None:
        epochs, cardinality = epochs.take(1), steps
    return (
        epochs.flat_map(epoch_of_batches)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
        # Else Keras warns when the data end.
        .apply(tf.data.experimental.assert_cardinality(cardinality))
    )


def _rows(x, y):
    """A function of numbers to these images and their labels."""
    with tf.device("CPU"):
        images, labels = tf.constant(x), tf.constant(y)
    return lambda places: (tf.gather(images, places), tf.gather(labels, places))


def _rows_of_both(x, y, more_images, more_labels):
    """Likewise, where numbers from `len(x)` on are those of more images.

    They stay where they are, which may be the disk.
    """

    def read(places):
        images = np.empty((len(places), *x.shape[1:]), x.dtype)
        labels = np.empty(len(places), y.dtype)
        mine = places < len(x)
        images[mine], labels[mine] = x[places[mine]], y[places[mine]]
        more = places[~mine] - len(x)
        found = more_images[more]
        if found.dtype != x.dtype:
            found = found.astype(x.dtype) / x.dtype.type(255)
        images[~mine], labels[~mine] = found, more_labels[more]
        return images, labels

    def rows(places):
        images, labels = tf.numpy_function(
            read, [places], [x.dtype, y.dtype], stateful=False
        )
        count = places.shape[0]
        images.set_shape((count, *x.shape[1:]))
        labels.set_shape((count,))
        return images, labels

    return rows
