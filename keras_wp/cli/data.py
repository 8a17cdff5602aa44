"""The images to attack: data sets by name, arrays in a file, folders."""

import pathlib
import random
import zipfile
from typing import NamedTuple

from keras_wp import _kinds
from keras_wp.cli import arguments, models, pixels

_PAIRS = (("x_test", "y_test"), ("x", "y"), ("images", "labels"))
# What Keras's `image_dataset_from_directory` reads.
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_BATCH = 64
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


class Images(NamedTuple):
    """What is attacked.

    Attributes:
        data: Arrays `(x, y)`, or a `Folder` of such batches.
        name: What reports call it.
        class_names: In the order of the labels, or None.
        bounds: The range of the pixels; None if it is not known, as those
            of floating-point numbers in a file are not.
    """

    data: object
    name: str
    class_names: tuple | None = None
    bounds: tuple | None = (0.0, 1.0)


def add_options(command):
    """What may be said of the images."""
    add = command.add_argument
    add(
        "--data",
        "--dataset",
        metavar="DATA",
        help="mnist5k; a set of TensorFlow Datasets, as tfds:cifar10 or "
        "cifar10, of which the test images are used; an .npz file with the "
        "arrays x_test and y_test, x and y, or images and labels; or a folder "
        "that has a folder of images for each class",
    )
    add("--data-dir", metavar="DIR", help="where TensorFlow Datasets are")
    add(
        "--limit",
        metavar="N",
        type=arguments.count,
        help="use the first N images; of a folder, N drawn from all classes",
    )


def check(args):
    """Make sure, before anything is loaded, that there are images.

    Raises:
        ValueError: If not, or they cannot be read.
    """
    if args.data is None:
        raise ValueError(
            "--data must say which images to attack, such as mnist5k, cifar10, "
            "an .npz file or a folder. Received: no --data"
        )
    path = _path(args.data)
    if path is None:
        return
    if path.is_dir():
        _listed(path)
    elif path.suffix == ".npz":
        if not path.is_file():
            raise ValueError(
                f"--data must be there. Received: {str(path)!r}, which is not"
            )
        if not zipfile.is_zipfile(path):
            raise ValueError(
                "--data must be an .npz file as numpy.savez writes it. "
                f"Received: {str(path)!r}, which is not"
            )
        with zipfile.ZipFile(path) as file:
            _pair(path, {name.removesuffix(".npy") for name in file.namelist()})
    elif path.suffix or "/" in args.data:
        raise ValueError(
            "--data must be the name of a data set, an .npz file or a folder. "
            f"Received: {args.data!r}, which is "
            + ("another file" if path.is_file() else "not there")
        )


def load(args, model):
    """The images that the arguments name.

    Args:
        args: The parsed arguments.
        model: The model that takes them, which tells the size of images.

    Raises:
        ValueError: If they cannot be read.
    """
    from keras_wp import datasets

    path = _path(args.data)
    shape = models.image_shape(model)
    if path is not None and path.is_dir():
        return _folder(path, args.limit, shape, models.num_classes(model))
    if path is not None and path.suffix == ".npz":
        return _arrays(path, args.limit, shape)
    name = args.data.removeprefix("tfds:")
    _, (x, y) = datasets.load(name, args.data_dir)
    x, y = x[: args.limit], y[: args.limit]
    names = _CIFAR10 if name == "cifar10" else None
    return Images((x, y), f"{name}, test, {len(x)} images", names)


def _path(name):
    """The path that data may be at; None for what names a data set."""
    if name in _kinds.BUDGETS or name.startswith("tfds:"):
        return None
    return pathlib.Path(name)


def _pair(path, names):
    for pair in _PAIRS:
        if names.issuperset(pair):
            return pair
    raise ValueError(
        "--data must have the arrays x_test and y_test, x and y, or images and "
        f"labels. Received: {', '.join(sorted(names)) or 'none'} in "
        f"{str(path)!r}"
    )


def _arrays(path, limit, shape):
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        pair = _pair(path, set(file.files))
        x, y = (file[name][:limit] for name in pair)
    if x.dtype.kind not in "fiub" or not x.size or len(x) != len(y):
        raise ValueError(
            "--data must have numbers for images, and as many labels. "
            f"Received: {len(x)} of type {x.dtype} and {len(y)} labels in "
            f"{str(path)!r}"
        )
    # The axis of the channel, which gray images often lack.
    if len(shape) == x.ndim and shape[-1] == 1:
        x = x[..., None]
    name = f"{path.name} ({pair[0]}), {len(x)} images"
    if x.dtype == np.uint8:
        return Images((x.astype(np.float32) / 255, y), name)
    return Images((x, y), name, bounds=None)


def _listed(path):
    """The classes of a folder, and `(file, label)` in mixed order."""
    classes = sorted(
        folder.name for folder in path.iterdir() if folder.is_dir()
    )
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise ValueError(
            "--data must have a folder for each class, with images of the type "
            f"{', '.join(_SUFFIXES)}. Received: {str(path)!r}, which has "
            f"{len(classes)} folders and no image in them"
        )
    random.Random(0).shuffle(files)
    return tuple(classes), files


def _folder(path, limit, shape, count):
    classes, files = _listed(path)
    files = files[:limit]
    if count not in (None, len(classes)):
        raise ValueError(
            "--data must have a folder for each class of the model, which has "
            f"{count}, as labels are their places in the alphabet. Received: "
            f"{len(classes)} folders in {str(path)!r}"
        )
    if len(shape) not in (0, 3):
        raise ValueError(
            "A folder of images needs a model of images. Received: a model "
            f"that takes the shape {shape}"
        )
    name = f"{path.name}, {len(files)} images"
    return Images(Folder(files, shape), name, classes)


class Folder:
    """Batches of images from files, read afresh by each iteration.

    Args:
        files: Pairs of a path and a label.
        shape: The shape `(H, W, C)` of an image that the model takes, with
            None for what it leaves open, or (). Images are resized to it as
            by Keras's `image_dataset_from_directory`.
    """

    def __init__(self, files, shape):
        import keras

        self._files = files
        first = keras.config.image_data_format() == "channels_first"
        if first and shape:
            shape = (*shape[1:], shape[0])
        self._first = first
        channels = shape[2] if shape else 3
        self._mode = {1: "grayscale", 4: "rgba"}.get(channels, "rgb")
        self._size = tuple(shape[:2]) or (None, None)
        if None in self._size:
            self._size = self._read(files[0][0]).shape[:2]

    def __iter__(self):
        import numpy as np

        for start in range(0, len(self._files), _BATCH):
            batch = self._files[start : start + _BATCH]
            images = [self._resized(self._read(file)) for file, _ in batch]
            x = pixels.in_levels(np.stack(images).astype(np.float64) / 255)
            if self._first:
                x = np.moveaxis(x, -1, 1)
            yield x, np.asarray([label for _, label in batch], np.int32)

    def _read(self, file):
        import keras

        image = keras.utils.load_img(file, color_mode=self._mode)
        return keras.utils.img_to_array(image, data_format="channels_last")

    def _resized(self, image):
        import keras

        if image.shape[:2] == self._size:
            return image
        resized = keras.ops.image.resize(
            image, self._size, data_format="channels_last"
        )
        return keras.ops.convert_to_numpy(resized)
