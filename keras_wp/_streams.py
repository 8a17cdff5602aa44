"""Images read as they are needed: folders, and sets of TensorFlow Datasets.

Nothing here imports NumPy or Keras before an image is read: the command line
checks folders before it loads them.
"""

import itertools
import pathlib
import random

# What Keras's `image_dataset_from_directory` reads, and ImageNet's.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_BATCH = 64
# So near to one of 256 levels, that level is meant: as in `keras_wp._units`.
_BYTE = 2e-4


def in_levels(x):
    """Images in [0, 1] as float32, as evaluations have them in any units.

    Where a pixel is one of 256 levels but for rounding, it is that level.
    """
    import numpy as np

    near = np.rint(255 * x)
    x = np.where(np.abs(255 * x - near) < _BYTE, near / 255, x)
    return np.clip(x, 0, 1).astype(np.float32)


def listed(path, what, seed=0):
    """The classes of a folder, and `(file, label)` in mixed order.

    Args:
        path: The folder, a `pathlib.Path`.
        what: What it is called in the error.
        seed: Integer; the order depends on it and on the files' names alone.

    Raises:
        ValueError: If it has no images in folders.
    """
    classes = sorted(
        folder.name for folder in path.iterdir() if folder.is_dir()
    )
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise ValueError(
            f"{what} must have a folder for each class, with images of the "
            f"type {', '.join(SUFFIXES)}. Received: {str(path)!r}, which has "
            f"{len(classes)} folders and no image in them"
        )
    random.Random(seed).shuffle(files)
    return tuple(classes), files


def drawn(count, limit, seed):
    """How much of a set is used, in words.

    Args:
        count: How many images there are.
        limit: How many are used, or None for all.
        seed: The seed that they are drawn with.
    """
    if limit is None or limit >= count:
        return f"{count} images"
    return f"{limit} of {count} images, drawn with seed {seed}"


class Stream:
    """Batches of images and labels, read afresh by each iteration.

    Args:
        entries: What `read` takes, for each image: a sequence.
        read: Maps an entry to an image, `(H, W, C)` from 0 to 255, and its
            label.
        size: The height and width of an image, or None for what the first
            image has.
        resize: To what length the shorter side is brought before the middle
            is cut out; None to bring images to `size` whatever their shape.
        description: What reports call the data.
        class_names: The classes' names, or None.
    """

    def __init__(
        self, entries, read, *, size, resize, description, class_names=None
    ):
        self._entries, self._read = entries, read
        self._size, self._resize = size, resize
        self.description, self.class_names = description, class_names
        if size is None:
            self._size = self._image(entries[0])[0].shape[:2]

    def __len__(self):
        """The number of images."""
        return len(self._entries)

    def __iter__(self):
        return self.every(0, 1)

    def every(self, start, step):
        """Batches of the images at the places `start`, `start + step`, ...

        Others are not read.
        """
        import keras
        import numpy as np

        pairs = map(self._image, self._entries[start::step])
        first = keras.config.image_data_format() == "channels_first"
        while batch := list(itertools.islice(pairs, _BATCH)):
            images, labels = zip(*batch, strict=True)
            x = in_levels(np.stack(images).astype(np.float64) / 255)
            x = np.moveaxis(x, -1, 1) if first else x
            yield x, np.asarray(labels, np.int32)

    def _image(self, entry):
        image, label = self._read(entry)
        if self._resize is not None:
            image = _cropped(image, self._resize, self._size)
        elif self._size is not None:
            image = _resized(image, self._size)
        return image, label


def of_files(files, channels, **options):
    """The `Stream` of files.

    Args:
        files: Pairs of a path and a label.
        channels: How many channels images have: 1, 3 or 4.
        **options: Of `Stream`.
    """
    mode = {1: "grayscale", 4: "rgba"}.get(channels, "rgb")

    def read(entry):
        import keras

        file, label = entry
        image = keras.utils.load_img(file, color_mode=mode)
        array = keras.utils.img_to_array(image, data_format="channels_last")
        return array, label

    return Stream(files, read, **options)


def _cropped(image, resize, size):
    """The middle of an image whose shorter side is brought to a length."""
    height, width = image.shape[:2]
    scale = resize / min(height, width)
    scaled = tuple(
        max(round(scale * side), least)
        for side, least in zip((height, width), size, strict=True)
    )
    image = _resized(image, scaled)
    top, left = (
        (whole - part) // 2 for whole, part in zip(scaled, size, strict=True)
    )
    return image[top : top + size[0], left : left + size[1]]


def _resized(image, size):
    """An image resized as by Keras's `image_dataset_from_directory`."""
    import keras

    if image.shape[:2] == tuple(size):
        return image
    resized = keras.ops.image.resize(image, size, data_format="channels_last")
    return keras.ops.convert_to_numpy(resized)


def folder(
    path, size, *, resize=None, limit=None, seed=0, class_names=None, channels=3
):
    """Images in a folder that has a folder for each class, as a stream.

    They are read as they are needed, in a mixed order that depends on the
    seed and the files' names alone. A shard of them reads no others.

    Args:
        path: The folder. Labels are the places of the names of the folders in
            it, in the alphabet: with ImageNet's, such as `n01440764`, they are
            the usual labels.
        size: The `(height, width)` of an image that the model takes.
        resize: To what length the shorter side of an image is brought before
            the middle is cut out, such as 256 for 224 by 224 pixels. None to
            bring images to `size` whatever their shape.
        limit: To use so many images, drawn from all with `seed`; None for all.
            RobustBench takes 5,000 of ImageNet's 50,000.
        seed: Integer.
        class_names: The names of the folders in the order of the model's
            classes, if there are others than in the folder.
        channels: 1, 3 or 4.

    Returns:
        Data for `evaluate`: batches of images in [0, 1] and labels, with a
        length, `class_names`, and a `description` that reports record.

    Raises:
        ValueError: If there are no such images.

    Example:

    >>> data = keras_wp.datasets.folder(
    ...     "imagenet/val", (224, 224), resize=256, limit=5000
    ... )
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ValueError(
            f"`path` must be a folder. Received: {str(path)!r}, which is none"
        )
    names, files = listed(path, "`path`", seed)
    if class_names is not None:
        known = {name: label for label, name in enumerate(class_names)}
        if unknown := sorted({*names} - {*known}):
            raise ValueError(
                "`class_names` must have the name of every folder. Received: "
                f"no {unknown[0]!r}, of which there are images"
            )
        files = [(file, known[names[label]]) for file, label in files]
        names = tuple(class_names)
    return of_files(
        files[:limit],
        channels,
        size=tuple(size),
        resize=resize,
        description=f"{path.name}, {drawn(len(files), limit, seed)}",
        class_names=names,
    )
