"""Where a model ends: activations found, and the model put together again."""

import keras
import numpy as np
import pytest
from helpers import random_images, randomize, tiny_cnn, to_numpy

from keras_wp import links
from keras_wp.layers import RobustHead

IMAGE = (6, 6, 1)


def sequential(*layers):
    parts = [keras.Input(IMAGE), keras.layers.Flatten(), *layers]
    return randomize(keras.Sequential(parts))


def functional(*layers):
    inputs = keras.Input(IMAGE)
    # Two paths before the end, which is taken for one part.
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Add()([x, keras.layers.Rescaling(2.0)(x)])
    for layer in layers:
        x = layer(x)
    return randomize(keras.Model(inputs, x))


def nested(*layers):
    inner = sequential(*layers)
    return keras.Sequential(
        [keras.Input(IMAGE), keras.layers.Rescaling(0.5), inner]
    )


def heads():
    dense = keras.layers.Dense
    return {
        "robust": [dense(7), RobustHead(3)],
        "activation": [
            dense(7),
            keras.layers.Activation("tanh"),
            keras.layers.Dropout(0.5),
            dense(3),
        ],
        "dense": [dense(7, activation="sigmoid"), dense(3)],
        "scaled": [
            dense(7, activation="softsign"),
            dense(3, use_bias=False),
            keras.layers.Rescaling(100.0),
        ],
        "last": [dense(3, activation="softmax")],
        "relu6": [dense(7), keras.layers.ReLU(max_value=6.0), dense(3)],
    }


@pytest.mark.parametrize("build", [sequential, functional, nested])
@pytest.mark.parametrize("kind", heads())
def test_the_three_parts_make_the_model(build, kind):
    model, x = build(*heads()[kind]), random_images(4)
    head = links.head(model)
    assert head.saturates()
    found = head.after(head.activation(head.before(x)))
    np.testing.assert_allclose(
        to_numpy(found), to_numpy(model(x, training=False)), rtol=1e-5
    )


def test_names_are_those_of_the_activations():
    names = [links.head(sequential(*part)).name for part in heads().values()]
    expected = ["tanh", "tanh", "sigmoid", "softsign", "softmax", "relu"]
    assert names == expected


def test_the_last_activation_is_found_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, x = tiny_cnn(), random_images(4)
    head = links.head(model)
    assert head.name == "tanh"
    logits = head.after(head.activation(head.before(x)))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(
        to_numpy(logits), to_numpy(model(x, training=False)), rtol=0.05
    )


@pytest.mark.parametrize("activation", ["relu", "gelu", "elu", "leaky_relu"])
def test_an_activation_that_grows_does_not_saturate(activation):
    dense = keras.layers.Dense
    model = sequential(dense(7, activation=activation), dense(3))
    assert not links.head(model).saturates()


def test_a_layer_that_is_not_linear_hides_what_is_before_it():
    model = sequential(
        keras.layers.Dense(7, activation="tanh"),
        keras.layers.LayerNormalization(),
        keras.layers.Dense(3),
    )
    assert links.head(model) is None


def test_models_of_other_kinds_have_no_head():
    class Other(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = sequential(keras.layers.Dense(3))

        def call(self, x):
            return self.inner(x)

    model = Other()
    model(random_images(1))
    assert links.head(model) is None
    assert links.head(sequential(keras.layers.Dense(3))) is None


def test_a_sequential_model_that_calls_in_its_own_way_is_left_whole():
    class Twice(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training)

    model = Twice(
        [keras.Input(IMAGE), keras.layers.Flatten(), *heads()["dense"]]
    )
    assert links.head(model) is None
