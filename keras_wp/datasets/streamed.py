"""Sets of TensorFlow Datasets: found, prepared, and read as streams."""

import contextlib
import io
import logging
import os
import random

from keras_wp._streams import Stream, drawn

# Sets that are known without it.
_FAMILIAR = ("mnist", "cifar10", "cifar100")


def prepared(name, data_dir=None, download=False):
    """The builder of a set that is there.

    Args:
        name: The set's name.
        data_dir: See `keras_wp.datasets.load`.
        download: Whether to download and prepare a set that is not there.

    Raises:
        ImportError: If the package that has the data is not installed.
        ValueError: If there is no such set.
        FileNotFoundError: If the set is not there and `download` is false.
        ConnectionError: If it cannot be downloaded.
    """
    data_dir = os.path.expanduser(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    )
    builder = _find(name, data_dir)
    with _without_warnings():
        there = builder.is_prepared()
    if not there:
        _prepare(builder, name, data_dir, download)
    return builder


def _find(name, data_dir):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        if name not in _FAMILIAR:
            raise ImportError(
                f"{name!r} is not 'mnist5k'; if TensorFlow Datasets has such a "
                "set, it takes the package tensorflow-datasets. Install it "
                "with: pip install 'keras_wp[data]'"
            ) from error
        raise missing_package(name, "tensorflow-datasets") from error

    try:
        with _without_warnings():
            return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(
            "Invalid value for argument `name`. Expected 'mnist5k', or an "
            "image classification set of TensorFlow Datasets, such as "
            f"'mnist', 'cifar10' or 'cifar100'. Received: name={name!r}"
        ) from None


def _prepare(builder, name, data_dir, download):
    if not download:
        raise FileNotFoundError(
            f"The data set {name!r} is not in {data_dir}. Point the "
            "environment variable TFDS_DATA_DIR, or the option `data_dir`, at "
            "a TensorFlow Datasets directory that has it; or, where there is "
            "a network, let Python call "
            f"keras_wp.datasets.load({name!r}, download=True)."
        )
    try:
        builder.download_and_prepare()
    except OSError as error:
        raise ConnectionError(
            f"The data set {name!r} could not be downloaded to {data_dir}. "
            "Prepare it where there is a network, and point `data_dir` or the "
            "environment variable TFDS_DATA_DIR at the directory that has it. "
            f"Received: {type(error).__name__}"
        ) from error


def missing_package(name, package):
    """The error for a set whose package is not installed."""
    return ImportError(
        f"The data set {name!r} comes with the package {package}. Install it "
        "with: pip install 'keras_wp[data]'"
    )


@contextlib.contextmanager
def _without_warnings():
    """Hide the log lines about a missing set: our own sentence follows."""

    def is_error(record):
        return record.levelno >= logging.ERROR

    logger = logging.getLogger("absl")
    logger.addFilter(is_error)
    try:
        yield
    finally:
        logger.removeFilter(is_error)


def stream(
    name,
    size,
    *,
    split="test",
    resize=None,
    limit=None,
    seed=0,
    data_dir=None,
):
    """A set of TensorFlow Datasets as a stream, whatever its images' sizes.

    Args:
        name: Its name, such as `"imagenet2012"`.
        size: See `folder`.
        split: The split, such as `"validation"`.
        resize: See `folder`.
        limit: See `folder`. The images keep the set's order.
        seed: Integer, for `limit`.
        data_dir: See `load`.

    Returns:
        As `folder`.

    Raises:
        ValueError: If there is no such set or split, or it is not one of
            images with labels.
        FileNotFoundError: If the set is not there.
    """
    builder = prepared(name, data_dir)
    keys = builder.info.supervised_keys
    features = builder.info.features
    labeled = (
        keys and len(keys) == 2 and hasattr(features[keys[1]], "num_classes")
    )
    if split not in builder.info.splits or not labeled:
        raise ValueError(
            "`name` and `split` must be those of a set of labeled images. "
            f"Received: {name!r} and {split!r}; it has the splits "
            f"{sorted(builder.info.splits)}"
        )
    count = builder.info.splits[split].num_examples
    places = range(count)
    if limit is not None and limit < count:
        places = sorted(random.Random(seed).sample(places, limit))
    channels = features[keys[0]].shape[-1] or 3

    def read(example):
        return pillow(example[keys[0]], channels), int(example[keys[1]])

    return Stream(
        _Examples(builder, split, places, keys[0]),
        read,
        size=tuple(size),
        resize=resize,
        description=f"{name}, {split}, {drawn(count, limit, seed)}",
        class_names=tuple(features[keys[1]].names),
    )


class _Examples:
    """The examples of a set at some places; images as the bytes of files.

    Their order is always the same.
    """

    def __init__(self, builder, split, places, image):
        self._builder, self._split = builder, split
        self._places, self._image = places, image

    def __len__(self):
        return len(self._places)

    def __getitem__(self, part):
        import tensorflow_datasets as tfds

        wanted = {*self._places[part]}
        found = self._builder.as_dataset(
            split=self._split,
            shuffle_files=False,
            decoders={self._image: tfds.decode.SkipDecoding()},
        )
        for place, example in enumerate(tfds.as_numpy(found)):
            if place in wanted:
                yield example


def pillow(data, channels):
    """An image from the bytes of a file, `(H, W, C)` float32.

    Args:
        data: The bytes.
        channels: 1, 3 or 4.
    """
    import numpy as np
    from PIL import Image

    mode = {1: "L", 4: "RGBA"}.get(channels, "RGB")
    image = np.asarray(Image.open(io.BytesIO(data)).convert(mode), np.float32)
    return image[..., None] if image.ndim == 2 else image
