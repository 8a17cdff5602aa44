"""A model cut in two where its features become logits.

Attacks on defences that shape the features, and not the logits, need to see
what the last layer sees.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_wp import _backend


@dataclasses.dataclass(frozen=True)
class Cut:
    """The two halves of a model.

    Attributes:
        features: Maps images `(N, ...)` to float32 features `(N, P)`.
        classify: Maps features to float32 logits `(N, K)`.
        head: The last layer.
    """

    features: Callable
    classify: Callable
    head: keras.layers.Layer

    def centers(self, scaled=True):
        """`(centers, given)`: a point `(K, P)` of the features for each class.

        A head with an attribute `centers` has them `given`. For a linear head
        the class weights stand in, as directions of unit length: less their
        mean, which takes no part in the decision.

        Args:
            scaled: Whether class weights become such directions. Otherwise
                they count as given, as they are.

        Raises:
            ValueError: If the last layer has neither.
        """
        if hasattr(self.head, "centers"):
            centers = ops.convert_to_tensor(self.head.centers)
            return ops.cast(centers, "float32"), True
        if not hasattr(self.head, "kernel"):
            raise ValueError(
                "The last layer of the model must have `centers`, one for "
                "each class, or a `kernel`. Received: a layer of type "
                f"{type(self.head).__name__}"
            )
        weights = ops.transpose(ops.convert_to_tensor(self.head.kernel))
        weights = ops.cast(weights, "float32")
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


def cut(model):
    """Cut a Keras model before the linear map of its last layer.

    A last layer with an `activation` and a linear layer `dense`, as
    `keras_wp.RobustHead`, is cut between the two. Any other belongs to the
    second half as a whole.

    Args:
        model: A functional or sequential Keras model.

    Returns:
        A `Cut`. It shares the model's layers.

    Raises:
        ValueError: If the model is of another kind, or branches at its end.
    """
    if not isinstance(model, (keras.Sequential, keras.Model)) or not getattr(
        model, "inputs", None
    ):
        raise ValueError(
            "Features are known for functional and sequential Keras models "
            f"only. Received: a model of type {type(model).__name__}"
        )
    head = model.layers[-1]
    before = _only_input(head)
    if before is None or len(before.shape) != 2:
        raise ValueError(
            "The model must end in a layer that maps features (N, P) to "
            f"logits, and is used once. Received: {head.name!r} of type "
            f"{type(head).__name__}"
        )
    trunk = keras.Model(model.inputs[0], before)
    activation, classify = _halves(head)

    def features_of(x):
        inputs = trunk(x, training=False)
        inputs = ops.cast(inputs, head.compute_dtype)
        return ops.cast(activation(inputs), "float32")

    def features(x):
        return _backend.in_parts(features_of, x)

    def logits(values):
        return ops.cast(classify(values), "float32")

    return Cut(features, logits, head)


def _only_input(layer):
    try:
        before = layer.input
    except (AttributeError, ValueError):
        return None
    return None if isinstance(before, (list, tuple, dict)) else before


def _halves(head):
    if hasattr(head, "activation") and hasattr(head, "dense"):
        return head.activation, head.dense
    return keras.activations.linear, head


def class_means(model, x, y, batch_size=128):
    """The mean features of each class, on given images.

    Args:
        model: A functional or sequential Keras model.
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
    classes = model.output_shape[-1]
    missing = sorted(set(range(classes)) - set(y.tolist()))
    if missing:
        raise ValueError(
            "Every class needs an image. Received: none of the classes "
            f"{missing}"
        )
    means = [values[y == label].mean(0) for label in range(classes)]
    return np.stack(means)
