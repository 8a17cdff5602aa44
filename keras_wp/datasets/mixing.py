"""Real images and generated ones, in fixed shares of each batch."""

import numpy as np

from keras_wp.datasets.batching import fed
from keras_wp.datasets.generated import read


def mix(
    real,
    generated,
    share=0.7,
    batch_size=128,
    seed=0,
    first_epoch=0,
    augment=False,
    part=0,
    parts=1,
):
    """Feed real and generated images to `fit`, as a `tf.data.Dataset`.

    Of each batch, `int(share * batch_size)` images are generated, each drawn
    from all of them, and the others are real: as in `batches`, those of an
    epoch are different ones, in an order of their own. Within a batch they are
    shuffled. An epoch has as many images as there are real ones, however many
    are generated: `fit` must be told
    `steps_per_epoch=len(x) // batch_size` (and `shuffle=False`, or it warns).
    With a share of 0.7, an epoch has 30 % of the real images, others in each.
    It depends on the seed and the number of the epoch only, as in `batches`,
    and so does augmentation.

    Nothing is downloaded, and generated images are not copied: those of an
    uncompressed `.npz` file, as the public ones are, are read from the disk
    batch by batch; a compressed file is unpacked into memory once, as bytes.

    Args:
        real: `(x, y)`: images `(N, H, W, C)`, floating-point within [0, 1], as
            `load` returns them, or uint8; and integer labels `(N,)`.
        generated: The path of a `.npz` file with the arrays `image`
            `(M, H, W, C)` uint8 and `label` `(M,)`; or such a pair of arrays.
            Images may also be of the type of the real ones.
        share: Share of generated images in each batch, from 0 to 1. Defaults
            to 0.7, that of the source for 1 million images.
        batch_size: Images of a batch, at most `N`.
        seed: Integer.
        first_epoch: Number of the epoch to begin with.
        augment: Whether to augment, as in `batches`.
        part: As in `batches`.
        parts: As in `batches`.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`, for any backend: images of
        the type of the real ones, and int32 labels.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an argument or what is in the file is not as described,
            or the generated images have no labels.

    Source: Gowal et al., "Improving robustness using generated data" (NeurIPS
    2021), section 5; Wang et al., "Better diffusion models further improve
    adversarial training" (ICML 2023), whose code counts the images of an epoch
    so, and whose files are `1m.npz` and the like.

    Example:

    >>> data = keras_wp.datasets.mix((x_train, y_train), "1m.npz", share=0.7)
    >>> defense.fit(
    ...     data,
    ...     steps_per_epoch=len(x_train) // 128,
    ...     epochs=400,
    ...     shuffle=False,
    ... )
    """
    x, y = _real(real)
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise ValueError(
            "Argument `share` must be a number from 0 to 1. Received: "
            f"share={share!r}"
        )
    if seed is None:
        raise ValueError("`mix` needs a `seed`. Received: seed=None")
    images, labels = read(generated, x, y)
    return fed(
        x,
        y,
        batch_size,
        seed=seed,
        first_epoch=first_epoch,
        augment=augment,
        part=part,
        parts=parts,
        # As people count: 0.29 of 100 are 29.
        others=(images, labels, int(share * batch_size + 1e-9)),
    )


def _real(real):
    try:
        x, y = real
    except (TypeError, ValueError):
        raise ValueError(
            "Argument `real` must be a pair (images, labels) of arrays. "
            f"Received: {type(real).__name__}"
        ) from None
    x, y = np.asarray(x), np.asarray(y)
    usual = x.dtype == np.uint8 or (
        x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1
    )
    if x.ndim != 4 or not len(x) or not usual:
        raise ValueError(
            "Real images must have the shape (N, H, W, C), and be uint8 or "
            f"floating-point within [0, 1]. Received: shape {x.shape}, dtype "
            f"{x.dtype}"
        )
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise ValueError(
            "Labels of real images must be integers of the shape "
            f"{x.shape[:1]}. Received: shape {y.shape}, dtype {y.dtype}"
        )
    return x, y.astype(np.int32)
