"""How steep models are, found by other means than those under test."""

import keras
import numpy as np
from helpers import to_numpy
from keras import ops


def float64_twin(model):
    """The same functional model in float64, with all that lies within it."""
    kinds = {type(layer).__name__: type(layer) for layer in _parts(model)}
    policy = keras.config.dtype_policy()
    # Models within it have the type of the policy.
    keras.config.set_dtype_policy("float64")
    try:
        twin = keras.models.model_from_json(
            model.to_json().replace('"float32"', '"float64"'), kinds
        )
    finally:
        keras.config.set_dtype_policy(policy)
    twin.set_weights(model.get_weights())
    for part in (*_parts(twin), *twin.inputs):
        if part.dtype != "float64":
            raise ValueError(f"{part.name} computes in {part.dtype}")
    return twin


def _parts(model):
    return model._flatten_layers(include_self=False)


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


def jacobian_norms(twin, x, step=1e-6):
    """The norm of the Jacobian at each image, by differences in float64.

    Args:
        twin: What `float64_twin` returns.
        x: `(N, ...)`.
        step: The length of the differences.
    """
    x = np.asarray(x, np.float64)
    size = x[0].size
    basis = step * np.eye(size).reshape(-1, *x.shape[1:])
    places = x[:, None] + np.stack([basis, -basis])[:, None]
    places = ops.convert_to_tensor(places.reshape(-1, *x.shape[1:]))
    found = to_numpy(twin(places))
    above, below = found.reshape(2, len(x), size, -1)
    return np.linalg.norm((above - below) / (2 * step), 2, axis=(1, 2))


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
