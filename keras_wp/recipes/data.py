"""What to train on, and what to choose the weights by."""

import contextlib

import numpy as np

from keras_wp import _checks, _first_batch, datasets
from keras_wp.evaluation.data import Data
from keras_wp.inspection.description import part_digest
from keras_wp.inspection.telling import is_graph

# The share of the training images that is held out, and how many at most.
_HELD_OUT, _MOST_HELD_OUT = 0.1, 1000
# No other units than those of bytes have so large numbers.
_BYTES = 16


def are_arrays(data):
    """Whether data are `(x, y)` arrays."""
    return (
        isinstance(data, (tuple, list))
        and len(data) == 2
        and all(hasattr(part, "shape") for part in data)
    )


def split(data, validation_data, seed, steps_per_epoch=None):
    """What to train on, and what to choose the weights by."""
    if are_arrays(data):
        if steps_per_epoch is not None:
            raise ValueError(
                "Argument `steps_per_epoch` is for `data` that are no arrays: "
                "an epoch has all images of these. Received: "
                f"steps_per_epoch={steps_per_epoch!r}"
            )
        x, y = (np.asarray(part) for part in data)
        if len(x) != len(y):
            raise ValueError(
                "`data` must have as many labels as images. Received: "
                f"{len(x)} images and {len(y)} labels"
            )
        y = _checks.class_labels(y)
        if validation_data is not None:
            return (x, y), validation_data
        count = min(int(_HELD_OUT * len(x)), _MOST_HELD_OUT)
        if not count:
            raise ValueError(
                "`data` must have at least 10 images, if a tenth is to be "
                f"held out. Received: {len(x)}"
            )
        order = np.random.default_rng(seed).permutation(len(x))
        held, kept = np.sort(order[:count]), np.sort(order[count:])
        return (x[kept], y[kept]), (x[held], y[held])
    if validation_data is None:
        raise ValueError(
            "Argument `validation_data` must be given where `data` are no "
            f"arrays. Received: data of type {type(data).__name__}"
        )
    _first_batch.check_end(data, steps_per_epoch)
    return data, validation_data


@contextlib.contextmanager
def named(argument):
    """Says which argument it is that a ValueError calls `data`."""
    try:
        yield
    except ValueError as error:
        told, name = str(error), f"`{argument}`"
        told = told.replace("`data`", name)
        if name not in told:
            told = f"Argument {name} is not as it must be. {told}"
        raise ValueError(told) from None


def first_of(name, data):
    """The first images of the data of an argument, which must have some."""
    with named(name):
        found = Data(data).first()
        if found is None:
            raise ValueError(
                "`data` must hold at least one image. Received: none"
            )
        return found


def check_units(train, others):
    """Refuse images of [0, 1] beside others up to 255.

    Args:
        train: What is trained on; not looked at if that would use it up.
        others: The first images of other arguments, by name.
    """
    if not are_arrays(train) and not hasattr(train, "element_spec"):
        return
    batch, _ = _first_batch.first(*(train if are_arrays(train) else [train]))
    if batch is None:
        return
    images, _ = batch
    for name, first in others.items():
        both = (images, first)
        if any(map(_in_bytes, both)) and any(map(_in_shares, both)):
            raise ValueError(
                f"`data` and `{name}` must have images in the same units. "
                f"Received: {images.dtype} up to {images.max():g}, and "
                f"{first.dtype} up to {first.max():g}"
            )


def _in_bytes(images):
    return images.max() > (1 if images.dtype.kind in "iu" else _BYTES)


def _in_shares(images):
    return images.dtype.kind == "f" and images.max() <= 1


def digests(model, train, validation):
    """What tells a model and its data from others, by their names.

    Weights do not count, nor the images of data that are no arrays.
    """
    layers = [p for p in model._flatten_layers() if not is_graph(p)]
    found = {"model": [part_digest(layer) for layer in layers]}
    for name, data in (("training", train), ("validation", validation)):
        if not are_arrays(data):
            data = str(getattr(data, "element_spec", type(data)))
        found[f"{name} set"] = data
    return {name: part_digest(part) for name, part in found.items()}


def batches_of(train, batch_size, seed, augment, course):
    """Arrays as arguments of `fit`, in an order that can be continued."""
    x, y = train
    size = min(batch_size, len(x))
    batches = datasets.batches(
        x, y, size, seed=seed, first_epoch=course.epoch, augment=augment
    )
    steps = len(x) // size
    return {"x": batches, "steps_per_epoch": steps, "shuffle": False}
