"""Data to evaluate on: arrays, or batches that can be read more than once."""

import numpy as np
from keras import ops

from keras_wp import _checks, _noise

_CHUNK = 512


class Data:
    """Batches `(x, y)` of NumPy arrays, read afresh by each iteration.

    Args:
        data: `(x, y)` arrays, or an iterable of `(x, y)` pairs, single or
            batched, such as a `tf.data.Dataset` or a `PyDataset`.

    Raises:
        ValueError: If `data` is neither, or can be read only once.
    """

    def __init__(self, data):
        self._pair = None
        if isinstance(data, (tuple, list)) and len(data) == 2:
            x, y = (ops.convert_to_numpy(part) for part in data)
            if not x.ndim or not y.ndim:
                raise ValueError(
                    "`data` must be (x, y) arrays of many images and labels. "
                    f"Received: x of the shape {x.shape} and y of the shape "
                    f"{y.shape}"
                )
            if len(x) != len(y):
                raise ValueError(
                    "`data` must have as many labels as images. Received: "
                    f"{len(x)} images and {len(y)} labels"
                )
            self._pair = x, y
        elif not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
            raise ValueError(
                "`data` must be (x, y) arrays or a dataset of (x, y) batches. "
                f"Received: {type(data).__name__}"
            )
        elif hasattr(data, "__next__"):
            raise ValueError(
                "`data` must be readable more than once, as each attack reads "
                f"it. Received: a one-time {type(data).__name__}"
            )
        self._data = data

    def __len__(self):
        """The number of images, if that is known before reading them."""
        if self._pair is None:
            raise TypeError("The number of images is not known in advance.")
        return len(self._pair[0])

    def __iter__(self):
        if self._pair is not None:
            x, y = self._pair
            for begin in range(0, len(x), _CHUNK):
                yield x[begin : begin + _CHUNK], y[begin : begin + _CHUNK]
            return
        for item in self._read():
            if not isinstance(item, (tuple, list)) or len(item) < 2:
                raise ValueError(
                    "`data` must consist of (x, y) pairs. Received: an item "
                    f"of type {type(item).__name__}"
                )
            x, y = (ops.convert_to_numpy(part) for part in item[:2])
            if y.ndim == 0:
                x, y = x[None], y[None]
            yield x, y

    def named(self, bounds):
        """Yield `(identity, image)` of each image, checked, in order."""
        for raw, y in self:
            x = _checks.images(raw, bounds)
            labels = np.asarray(y).reshape(-1)
            names = identities(_noise.image_digests(x), labels)
            yield from zip(names, x, strict=True)

    def _read(self):
        data = self._data
        if hasattr(data, "as_numpy_iterator"):
            return data.as_numpy_iterator()
        if hasattr(data, "num_batches"):
            return (data[i] for i in range(data.num_batches))
        return iter(data)


def identities(digests, labels):
    """What an image is known by: its digest and label, as hexadecimal."""
    return [
        f"{int(a):08x}{int(b):08x}-{int(label)}"
        for (a, b), label in zip(digests, labels, strict=True)
    ]
