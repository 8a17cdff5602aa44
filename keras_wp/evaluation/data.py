"""Data to evaluate on: arrays, or batches that can be read more than once."""

import numpy as np
from keras import ops

from keras_wp import _checks, _noise
from keras_wp._first_batch import is_endless
from keras_wp._units import Units
from keras_wp.evaluation.functions import Function, is_function

_CHUNK = 512

# What the images and the labels of a dictionary are called.
_IMAGES = ("image", "images", "x")
_LABELS = ("label", "labels", "y", "target")


class Data:
    """Batches `(x, y)` of NumPy arrays, read afresh by each iteration.

    Labels come as `(N,)`: the places of the ones, if they are one-hot.

    Args:
        data: `(x, y)` arrays, or an iterable of `(x, y)` pairs, single or
            batched, such as a `tf.data.Dataset` or a `PyDataset`; or
            dictionaries in the place of pairs. Or a function of `(k, n)` that
            returns such data, or a generator of them: shard k of n.
        axes: How many axes an image has, if that is known.
        output: Which of several labels are meant, by name.
        shard: `(index, count)`, the part of the data that is yielded; see
            `reports.shard`. None for all.

    Attributes:
        units: The `Units` of the images; to be set where they are others.
        shard: As given.
        total: How many images the whole data have; None if that is not
            known yet.
        description: What the data call themselves, or None.

    Raises:
        ValueError: If `data` is neither, can be read only once, or has no end.
    """

    def __init__(self, data, axes=None, output=None, shard=None):
        self._axes, self._output = axes, output
        self.shard, self.total = shard, None
        self._pair, self.units = None, Units((0.0, 1.0))
        if _is_weighted(data):
            data = data[:2]  # What `fit` takes, with a weight for each image.
        if isinstance(data, dict) or (_is_pair(data) and not _is_batches(data)):
            x, y = self._arrays(data)
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
            if x.ndim == axes:  # The axis of one channel, as Keras adds it.
                x = x[..., None]
            self._pair, self.total = (x, _checks.class_labels(y)), len(x)
        elif is_function(data):
            data = Function(
                data, shard, lambda found: iter(Data(found, axes, output))
            )
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
        elif is_endless(data):
            raise ValueError(
                "`data` must end: take the `repeat()` out of it, or use "
                "`take`. Received: an endless dataset"
            )
        self._data = data
        told = getattr(data, "description", None)
        self.description = told if isinstance(told, str) else None
        if hasattr(data, "every") and hasattr(data, "__len__"):
            self.total = len(data)

    def __len__(self):
        """The number of images, if that is known before reading them."""
        if self.total is None:
            raise TypeError("The number of images is not known in advance.")
        return len(range(self.total)[self._places])

    @property
    def counts_only_its_own(self):
        """Whether `total` is the least that fits the shard."""
        return isinstance(self._data, Function)

    @property
    def _places(self):
        index, count = self.shard or (1, 1)
        return slice(index - 1, None, count)

    def __iter__(self):
        # Readers that leave images out may leave out all of a batch.
        return ((x, y) for x, y in self._batches() if len(x))

    def _batches(self):
        if self.shard is None:
            yield from self._whole()
        elif self._pair is not None:
            yield from _chunks(*(part[self._places] for part in self._pair))
        elif hasattr(self._data, "every"):
            index, count = self.shard
            own = 0
            for x, y in map(self._batch, self._data.every(index - 1, count)):
                own += len(x)
                yield x, y
            if self.total is None:  # The least that there can be.
                self.total = (own - 1) * count + index
        else:
            index, count = self.shard
            place = 0
            for x, y in self._whole():
                begin = (index - 1 - place) % count
                place += len(x)
                if begin < len(x):
                    yield x[begin::count], y[begin::count]
            self.total = place

    def _whole(self):
        """Batches of all data, whatever the shard."""
        if self._pair is not None:
            yield from _chunks(*self._pair)
        elif isinstance(self._data, Function):
            yield from self._first_shard()
        else:
            yield from map(self._batch, self._read())

    def _first_shard(self):
        """Of a function, all that every shard sees: the first with images."""
        for items in self._data:
            found = False
            for x, y in map(self._batch, items):
                found = found or len(x) > 0
                yield x, y
            if found:
                return

    def _batch(self, item):
        x, y = self._arrays(item)
        if y.ndim == 0 or self._is_single(x, y):
            x, y = x[None], y[None]
        return x, _checks.class_labels(y)

    def first(self):
        """The first images, `(N, ...)`, as they are; None if there are none.

        Not only those of a batch, which may all be dark. Every shard has the
        same, as the units of the pixels are read off them.
        """
        found, count = [], 0
        for x, _ in self._whole():
            found.append(x)
            count += len(x)
            if count >= _CHUNK or x.shape[1:] != found[0].shape[1:]:
                break
        same = [x for x in found if x.shape[1:] == found[0].shape[1:]]
        return np.concatenate(same) if same else None

    def beginning(self):
        """The first batch of all data, `(x, y)`, the same for every shard.

        What a model is like is looked for at these images.
        """
        for pair in self._whole():
            if len(pair[0]):
                return pair
        raise ValueError("`data` must hold at least one image. Received: none")

    def images(self, raw):
        """Images as float32 in the units of attacks, checked."""
        return self.units.images(raw)

    def named(self):
        """Yield `(identity, image)` of each image, checked, in order."""
        for raw, y in self:
            x = self.images(raw)
            names = identities(_noise.image_digests(x), y)
            yield from zip(names, x, strict=True)

    def _arrays(self, item):
        """Images and labels of an item, as arrays."""
        if isinstance(item, dict):
            pair = [_entry(item, _IMAGES), _entry(item, _LABELS)]
        elif isinstance(item, (tuple, list)) and len(item) > 1:
            pair = list(item[:2])
        else:
            raise ValueError(
                "`data` must consist of (x, y) pairs. Received: an item "
                f"of type {type(item).__name__}"
            )
        for place, names in enumerate(([], [self._output])):
            if isinstance(pair[place], dict):
                known = _IMAGES if place == 0 else _LABELS
                pair[place] = _entry(pair[place], (*names, *known))
        return tuple(np.asarray(ops.convert_to_numpy(part)) for part in pair)

    def _is_single(self, x, y):
        """Whether these are one image and its one-hot label."""
        if y.ndim != 1 or (
            np.issubdtype(y.dtype, np.integer) and len(x) == len(y)
        ):
            return False
        if self._axes is not None:
            return x.ndim == self._axes
        return len(x) != len(y) and np.sum(y) == 1

    def _read(self):
        data = self._data
        if hasattr(data, "as_numpy_iterator"):
            return data.as_numpy_iterator()
        if hasattr(data, "num_batches"):
            return (data[i] for i in range(data.num_batches))
        return iter(data)


def _chunks(x, y):
    for begin in range(0, len(x), _CHUNK):
        yield x[begin : begin + _CHUNK], y[begin : begin + _CHUNK]


def _is_pair(data):
    return isinstance(data, (tuple, list)) and len(data) == 2


def _is_weighted(data):
    """Whether these are images, labels and weights, as many of each."""
    if not isinstance(data, tuple) or len(data) != 3:
        return False
    shapes = [getattr(part, "shape", ()) for part in data]
    return (
        all(shapes)
        and len({shape[0] for shape in shapes}) == 1
        and len(shapes[0]) > 1 >= len(shapes[2])
    )


def _is_batches(data):
    """Whether two things are pairs, rather than images and labels."""
    return all(
        isinstance(part, dict)
        or (_is_pair(part) and all(hasattr(one, "shape") for one in part))
        for part in data
    )


def _entry(item, names):
    """The entry of a dictionary with one of these names, or its only one."""
    for name in names:
        if name in item:
            return item[name]
    if len(item) == 1:
        return next(iter(item.values()))
    raise ValueError(
        "`data` in dictionaries must have one entry, or one that is called "
        f"{' or '.join(map(repr, filter(None, names)))}. Received: the entries "
        f"{sorted(item)}"
    )


def identities(digests, labels):
    """What an image is known by: its digest and label, as hexadecimal."""
    return [
        f"{int(a):08x}{int(b):08x}-{int(label)}"
        for (a, b), label in zip(digests, labels, strict=True)
    ]
