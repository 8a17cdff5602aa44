"""How steep models are, found by other means than those under test."""

import keras
import numpy as np
from helpers import to_numpy
from keras import ops


def float64_twin(model):
    """The same functional model in float64."""

    def doubled(layer):
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        config = {**layer.get_config(), "dtype": "float64"}
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=doubled)
    twin.set_weights(model.get_weights())
    return twin


def steepest(model, x):
    """The largest singular value of the Jacobian at any of these images.

    On TensorFlow, in float64, by power iteration from 4 starts.

    Args:
        model: A functional model, of any output shape.
        x: `(N, ...)`.
    """
    import tensorflow as tf

    twin = float64_twin(model)
    x = tf.constant(x, "float64")
    rng = np.random.default_rng(0)

    @tf.function
    def pushed(x, v):
        with tf.autodiff.ForwardAccumulator(x, v) as forward:
            y = twin(x)
        return forward.jvp(y)

    @tf.function
    def pulled(x, u):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = twin(x)
        return tape.gradient(y, x, u)

    best = 0.0
    for _ in range(2):
        v = rng.normal(size=x.shape)
        for _ in range(150):
            v /= lengths(v).reshape(-1, *[1] * (v.ndim - 1)) + 1e-300
            u = pushed(x, tf.constant(v))
            v = pulled(x, u).numpy()
        best = max(best, lengths(u.numpy()).max())
    return best


def jacobian_norm(model, x, step=1e-6):
    """The norm of the Jacobian at an image, by differences in float64.

    Args:
        model: A functional model.
        x: `(1, ...)`.
        step: The length of the differences.
    """
    twin = float64_twin(model)
    basis = step * np.eye(x.size).reshape(-1, *x.shape[1:])
    above, below = (
        to_numpy(
            twin(ops.convert_to_tensor(x.astype("float64") + sign * basis))
        )
        for sign in (1, -1)
    )
    matrix = (above - below).reshape(x.size, -1) / (2 * step)
    return np.linalg.norm(matrix, 2)


def lengths(x):
    """The l2 length of each image."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    return np.linalg.norm(flat, axis=1)


def sampled(model, x, rng, step=0.3):
    """Slopes between images and others at a distance of `step`, random ones."""
    delta = rng.normal(size=x.shape)
    delta *= step / lengths(delta).reshape(-1, *[1] * (x.ndim - 1))
    other = (x + delta).astype(np.float32)
    first, second = (
        to_numpy(model(ops.convert_to_tensor(part))) for part in (x, other)
    )
    return lengths(first.astype(float) - second) / lengths(
        x.astype(float) - other
    )
