"""A model cut in two where its features become logits.

Attacks on defences that shape the features, and not the logits, need to see
what the last layer sees.
"""

import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_wp import _backend
from keras_wp.inspection.anatomy import dissect, ending


@dataclasses.dataclass(frozen=True)
class Cut:
    """The two halves of a model.

    Attributes:
        features: Maps images `(N, ...)` to float32 features `(N, P)`.
        classify: Maps features to float32 logits `(N, K)`, by all that
            follows them.
        head: The layer with the class weights, if one makes the logits.
        width: The number of features P.
    """

    features: Callable
    classify: Callable
    head: keras.layers.Layer | None
    width: int

    def centers(self, scaled=True):
        """`(centers, given)`: a point `(K, P)` of the features for each class.

        A head with an attribute `centers` has them `given`. For a linear end
        the class weights stand in, as directions of unit length: less their
        mean, which takes no part in the decision.

        Args:
            scaled: Whether class weights become such directions. Otherwise
                they count as given, as they are.
        """
        if hasattr(self.head, "centers"):
            centers = ops.convert_to_tensor(self.head.centers)
            return ops.cast(centers, "float32"), True
        if self.head is not None:
            weights = ops.transpose(ops.convert_to_tensor(self.head.kernel))
            weights = ops.cast(weights, "float32")
        else:
            # What each feature adds to the logits.
            alone = self.classify(ops.eye(self.width, dtype="float32"))
            none = self.classify(ops.zeros((1, self.width), "float32"))
            weights = ops.transpose(alone - none)
        if not scaled:
            return weights, True
        weights = weights - ops.mean(weights, axis=0, keepdims=True)
        return unit(weights), False


def unit(vectors):
    """Rows `(N, P)` of length 1; those of zeros stay zeros."""
    largest = ops.max(ops.abs(vectors), axis=-1, keepdims=True)
    vectors = vectors / ops.where(largest > 0, largest, 1.0)
    length = ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True))
    return vectors / ops.where(length > 0, length, 1.0)


def cut(model, anatomy=None, instead=None):
    """Cut a model before the last class weights.

    What is linear behind them, such as a choice of some logits or a sum of
    two heads, belongs to the second half; so does a layer with `centers`.

    Args:
        model: A Keras model, or another callable.
        anatomy: Its `Anatomy`, if it is known.
        instead: By the place of a step, what is called in its place.

    Returns:
        A `Cut`. It shares the model's layers.

    Raises:
        ValueError: If the model cannot be opened, or has no class weights.
    """
    anatomy = dissect(model) if anatomy is None else anatomy
    if not anatomy.steps:
        raise closed(model, [f"{name}: {why}" for name, why in anatomy.closed])
    symbols, heads = ending(anatomy)
    if not heads:
        last = anatomy.steps[-1].operation
        raise ValueError(
            "The model must end in a layer with class weights, which maps "
            "features (N, P) to logits. Received: "
            f"{anatomy.steps[-1].name!r} of type {type(last).__name__}"
        )
    shapes = [tuple(symbol.shape[1:]) for symbol in symbols]
    sizes = [math.prod(shape) for shape in shapes]
    # Nothing but a change of type may follow class weights read as they are.
    head = anatomy.steps[heads[0]].operation
    alone = anatomy.maker(anatomy.output) == heads[0] and len(heads) == 1
    alone &= hasattr(head, "centers") or hasattr(head, "kernel")

    def features_of(x):
        values = anatomy(x, instead, until=symbols)
        flat = [
            ops.cast(ops.reshape(value, (-1, size)), "float32")
            for value, size in zip(values, sizes, strict=True)
        ]
        return flat[0] if len(flat) == 1 else ops.concatenate(flat, axis=-1)

    def features(x):
        return _backend.in_parts(features_of, x)

    def logits(values):
        begin, given = 0, {}
        for symbol, shape, size in zip(symbols, shapes, sizes, strict=True):
            part = ops.reshape(values[:, begin : begin + size], (-1, *shape))
            given[id(symbol)] = ops.cast(part, symbol.dtype)
            begin += size
        return ops.cast(anatomy(None, given=given), "float32")

    return Cut(features, logits, head if alone else None, sum(sizes))


def closed(model, why):
    """The error that a model has no features, as it could not be opened."""
    return ValueError(
        "Features are known for models that can be opened only. Received: a "
        f"model of type {type(model).__name__}"
        + (f" ({'; '.join(why)})" if why else "")
    )


def class_means(model, x, y, batch_size=128):
    """The mean features of each class, on given images.

    Args:
        model: A Keras model that can be opened; see `cut`.
        x: Images `(N, ...)`.
        y: Integer labels `(N,)`.
        batch_size: How many images go through the model at a time.

    Returns:
        `(K, P)` float32, for `keras_wp.attacks.MultiTarget`.

    Raises:
        ValueError: If a class has no image, or the model has no features.
    """
    halves = cut(model)
    x, y = np.asarray(x, np.float32), np.asarray(y)
    values = np.concatenate(
        [
            ops.convert_to_numpy(halves.features(x[i : i + batch_size]))
            for i in range(0, len(x), batch_size)
        ]
    )
    classes = halves.classify(ops.zeros((1, halves.width))).shape[-1]
    missing = sorted(set(range(classes)) - set(y.tolist()))
    if missing:
        raise ValueError(
            "Every class needs an image. Received: none of the classes "
            f"{missing}"
        )
    return np.stack([values[y == label].mean(0) for label in range(classes)])
