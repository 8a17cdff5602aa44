"""Models whose gradients say what there is to say, by name."""

import keras
from bases import (
    CLASSES,
    FEATURES,
    HIDDEN,
    SHAPE,
    Do,
    batch_norm,
    fit,
    hidden_network,
    network,
    sequential,
)
from keras import ops

import keras_wp as kwp


def resnet():
    """The residual network, on images of half the size."""
    inner = kwp.models.resnet32((14, 14, 1), CLASSES)
    return fit(sequential(keras.layers.AveragePooling2D(2), inner), epochs=3)


def normalized():
    """Layer normalization and GELU, as in transformers."""
    layers = [keras.layers.Flatten()]
    for units in (HIDDEN, FEATURES):
        layers += [
            keras.layers.Dense(units),
            keras.layers.LayerNormalization(),
            keras.layers.Activation("gelu"),
        ]
    return fit(sequential(*layers, keras.layers.Dense(CLASSES)))


def attention():
    """Patches of 4x4 pixels, and one block of a vision transformer."""
    images = keras.Input(SHAPE)
    h = keras.layers.Conv2D(24, 4, strides=4)(images)
    h = keras.layers.Reshape((49, 24))(h)
    inner = keras.layers.LayerNormalization()(h)
    h = h + keras.layers.MultiHeadAttention(2, 12)(inner, inner)
    inner = keras.layers.LayerNormalization()(h)
    inner = keras.layers.Dense(48, activation="gelu")(inner)
    h = h + keras.layers.Dense(24)(inner)
    h = keras.layers.Flatten()(keras.layers.LayerNormalization()(h))
    return fit(keras.Model(images, keras.layers.Dense(CLASSES)(h)))


def moderate():
    """Hidden units of tanh, some of them near their ends."""
    return fit(hidden_network(lambda: Do(lambda u: ops.tanh(2.0 * u))))


def mixed():
    """A network in float16, except for its head."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layers = [
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(FEATURES),
            batch_norm(),
            kwp.RobustHead(CLASSES, s=1.0, alpha=1.0, dtype="float32"),
        ]
        return fit(sequential(*layers))
    finally:
        keras.config.set_dtype_policy(policy)


HEALTHY = {
    "dense": lambda: network("dense"),
    "cnn": lambda: network("cnn"),
    "dense, adversarial": lambda: network("dense", "adversarial"),
    "cnn, adversarial": lambda: network("cnn", "adversarial"),
    "ResNet-32": resnet,
    "LayerNormalization and GELU": normalized,
    "attention": attention,
    "tanh x2, hidden": moderate,
    "mixed_float16": mixed,
}
