"""The images to attack: data sets by name, arrays in a file, folders."""

import functools
import pathlib
import zipfile
from typing import NamedTuple

from keras_wp import _kinds, _streams
from keras_wp.cli import arguments, models

_PAIRS = (("x_test", "y_test"), ("x", "y"), ("images", "labels"))
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


class Images(NamedTuple):
    """What is attacked.

    Attributes:
        data: Arrays `(x, y)`, or a stream of such batches.
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


_listed = functools.partial(_streams.listed, what="--data")


def _folder(path, limit, shape, count):
    classes, files = _listed(path)
    count_of_all, files = len(files), files[:limit]
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
    name = f"{path.name}, {_streams.drawn(count_of_all, limit, 0)}"
    return Images(_stream(files, shape, name, classes), name, classes)


def _stream(files, shape, name, classes):
    """Images of files in the shape that the model takes, as Keras resizes."""
    import keras

    first = keras.config.image_data_format() == "channels_first"
    if first and shape:
        shape = (*shape[1:], shape[0])
    size = tuple(shape[:2])
    return _streams.of_files(
        files,
        shape[2] if shape else 3,
        size=None if None in size or not size else size,
        resize=None,
        description=name,
        class_names=classes,
    )
