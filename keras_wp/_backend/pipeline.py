"""Batches of images by `tf.data`, which feeds every backend."""

import tensorflow as tf


def batches(x, y, batch_size, *, seed, first_epoch, augment, part, parts):
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
    """
    steps = len(x) // batch_size
    share = batch_size // parts
    mine = slice(part * share, (part + 1) * share)
    with tf.device("CPU"):
        images, labels = tf.constant(x), tf.constant(y)

    def key(purpose, number):
        base = tf.constant([seed, purpose], tf.int64)
        return tf.random.experimental.stateless_fold_in(base, number)

    def epoch_of_batches(epoch):
        order = tf.range(len(x))
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(
                order, key(0, epoch)
            )
        order = tf.reshape(order[: steps * batch_size], (steps, batch_size))
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((order, numbers))

    def load(chosen, number):
        batch = tf.gather(images, chosen[mine])
        if augment is not None:

            def draw(i, limit):
                # For the whole batch, so that an image's augmentation does
                # not depend on the number of parts.
                return tf.random.stateless_uniform(
                    (batch_size,), key(1 + i, number), 0, limit, tf.int32
                )[mine]

            pixels = tf.reshape(batch, (-1, batch.shape[-1]))
            batch = tf.gather(pixels, augment(tf.range(share), draw))
        return batch, tf.gather(labels, chosen[mine])

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
