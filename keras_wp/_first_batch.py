"""The first batch of training data, looked at before any work.

Data come as arrays or tensors, as a `tf.data.Dataset`, a `PyDataset`, a
generator, or another iterable. Here they are all alike: `first` finds a
batch of them, and `check` says in one sentence what is wrong with it.
"""

import types

import keras
import numpy as np
from keras import ops

from keras_wp import _checks

# How many images of an array are looked at, and how many go through the model.
_EXAMINED, _PASSED = 1000, 8


def first(x, y=None):
    """A first batch of the data that are passed to `fit`.

    Reading it costs what the data take for a batch. A generator loses none.

    Args:
        x: Images, or data of batches `(x, y)` or `(x, y, sample_weight)`.
        y: All the labels, if `x` are images.

    Returns:
        `(batch, x)`: a pair of NumPy arrays, the first images and their labels
        (of arrays, all the labels), or None if the data cannot be looked at;
        and what to pass on in the place of `x`.

    Raises:
        ValueError: If there are images for several inputs.
    """
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        if y is None:
            return None, x
        return (_on_host(x[:_EXAMINED]), _on_host(y)), x
    if isinstance(x, types.GeneratorType):
        try:
            batch = next(x)
        except StopIteration:
            return None, x
        return _pair(batch), _resumed(batch, x)
    if isinstance(x, keras.utils.PyDataset):
        return _pair(x[0]), x
    if hasattr(x, "take"):
        return next((_pair(batch) for batch in x.take(1)), None), x
    _one_input(x)
    if hasattr(x, "__iter__") and not isinstance(x, str):
        return next((_pair(batch) for batch in x), None), x
    return None, x


def is_endless(data):
    """Whether a dataset says that it does not end."""
    if hasattr(data, "cardinality"):
        return int(data.cardinality()) == -1
    batches = getattr(data, "num_batches", 0)
    return batches is None or batches == float("inf")


def check_end(data, steps_per_epoch):
    """Raise a ValueError if an epoch of these data would never end."""
    if steps_per_epoch is None and is_endless(data):
        raise ValueError(
            "Argument `steps_per_epoch` must be given where data do not end. "
            "Received: an endless dataset"
        )


def check(batch, model, units, classifier=None, ignored=None):
    """Raise a ValueError if a model cannot learn from such data as they are.

    Args:
        batch: `(x, y)`, as `first` returns it.
        model: The Keras model that is to learn.
        units: The `Units` of the images.
        classifier: Maps images to logits, or None; called on a few of them,
            for models that do not tell their classes, and to see what the
            outputs are.
        ignored: A label to be passed over, or None.
    """
    x, y = batch
    if units.trivial:
        bounds = units.bounds
        images = _checks.images(as_images(x, bounds), bounds)
    else:
        images = units.to_data(units.images(x))
    _checks.image_shape(model, images.shape[1:])
    classes = _checks.num_classes(model)
    if classifier is not None:
        logits = ops.convert_to_numpy(classifier(images[:_PASSED]))
        _checks.logits(logits, model)
        if _checks.are_probabilities(logits):
            raise ValueError(
                "The model must return logits, not probabilities: pass "
                "`keras_wp.convert.to_logits(model)`. Received: outputs that "
                "are not negative and sum to 1"
            )
        classes = logits.shape[-1]
    if y is None:
        raise ValueError(
            "Labels must be integers, one for each image. Received: none"
        )
    if classes is not None:
        y = _checks.class_labels(y)
        y = y.astype(np.int32) if y.dtype == bool else y
        y = y if ignored is None else y[y != ignored]
        if len(y):
            _checks.labels(y, len(y), classes)


def as_images(x, bounds):
    """Images as they are; those of integers within (0, 255) as float32."""
    whole = np.issubdtype(x.dtype, np.integer)
    return x.astype(np.float32) if whole and bounds == (0, 255) else x


def several_inputs(received):
    """The error to raise for a model, or data, of more than one input."""
    return ValueError(
        "A defense trains a model of one input, that of the images. Received: "
        f"{received}"
    )


def _one_input(x):
    if isinstance(x, (dict, list, tuple)):
        raise several_inputs(f"images as a {type(x).__name__} of {len(x)}")


def _pair(batch):
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    _one_input(x)
    if isinstance(y, (dict, list, tuple)):
        return None
    return _on_host(x), None if y is None else _on_host(y)


def _on_host(values):
    if hasattr(values, "values") and not hasattr(values, "shape"):
        values = values.values[0]  # Of several replicas.
    return np.asarray(ops.convert_to_numpy(values))


def _resumed(batch, rest):
    """A generator of what had been taken from it, and of the rest."""
    yield batch
    yield from rest
