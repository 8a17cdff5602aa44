import keras
import numpy as np
import pytest
from keras import ops
from networks import TINY
from processes import run_python

import keras_wp
from keras_wp.models import small_cnn

pytestmark = pytest.mark.once


def layer_sizes(model):
    convolutions = [
        layer.filters
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    dense = [
        layer.units
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
    ]
    return convolutions, dense


@pytest.mark.once
@pytest.mark.parametrize(
    "shape, convolutions, dense",
    [
        ((28, 28, 1), [32, 32, 64, 64], [200, 200]),
        ((32, 32, 1), [32, 32, 64, 64], [200, 200]),
        ((32, 32, 3), [64, 64, 128, 128], [256, 256]),
        ((28, 28, 3), [64, 64, 128, 128], [256, 256]),
    ],
)
def test_channels_decide_the_default_sizes(shape, convolutions, dense):
    model = small_cnn(shape, 10)
    assert layer_sizes(model) == (convolutions, dense)
    assert model.output_shape == (None, 10)
    assert model.get_layer("head").kernel.shape == (dense[-1], 10)


@pytest.mark.once
def test_sizes_can_be_chosen():
    model = small_cnn((16, 16, 3), 4, widths=(2, 3, 4, 5), dense=(6, 7))
    assert layer_sizes(model) == ([2, 3, 4, 5], [6, 7])


def test_mnist_form_has_as_many_weights_as_counted_by_hand():
    convolutions = 9 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    # 28 -> 26 -> 24 -> 12 -> 10 -> 8 -> 4 pixels a side.
    dense = 4 * 4 * 64 * 200 + 200 * 200 + 200 * 10
    batch_norms = 4 * (32 + 32 + 64 + 64 + 200 + 200)
    model = small_cnn((28, 28, 1), 10)
    assert model.count_params() == convolutions + dense + batch_norms


@pytest.mark.once
def test_batch_norms_have_the_authors_momentum():
    momenta = {
        layer.momentum
        for layer in small_cnn((16, 16, 1), 3, **TINY).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta == {0.9}


@pytest.mark.once
@pytest.mark.parametrize("head", ["robust", "plain"])
def test_head_is_batch_norm_activation_dense(head, rng):
    model = small_cnn((16, 16, 1), 3, head=head, activation="tanh", **TINY)
    norm = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ][-1]
    before = keras.Model(model.input, norm.output)
    x = rng.random((4, 16, 16, 1), dtype="float32")
    features = np.tanh(ops.convert_to_numpy(before(x)))
    expected = features @ ops.convert_to_numpy(model.get_layer("head").kernel)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)), expected, rtol=1e-4, atol=1e-5
    )


def test_robust_head_alone_is_penalized():
    assert len(small_cnn((16, 16, 1), 3, **TINY).losses) == 1
    assert small_cnn((16, 16, 1), 3, head="plain", **TINY).losses == []


def test_penalty_has_the_given_s_and_alpha():
    model = small_cnn((16, 16, 1), 3, s=0.5, alpha=7.0, **TINY)
    kernel = ops.convert_to_numpy(model.get_layer("head").kernel)
    gram = np.where(np.eye(3) == 1, 0.25, -0.125)
    expected = 7.0 * np.linalg.norm(kernel.T @ kernel - gram)
    assert float(model.losses[0]) == pytest.approx(expected, rel=1e-5)


def test_head_can_be_a_layer_that_gets_the_linear_features():
    head = keras.layers.Dense(3, name="mine")
    model = small_cnn((16, 16, 1), 3, head=head, **TINY)
    assert model.layers[-1] is head
    assert isinstance(model.layers[-2], keras.layers.BatchNormalization)


@pytest.mark.parametrize("head", ["robust", "plain"])
def test_activation_can_be_a_layer(head):
    activation = keras.layers.PReLU()
    model = small_cnn((16, 16, 1), 3, head=head, activation=activation, **TINY)
    alpha = [v for v in model.trainable_variables if v.path.endswith("alpha")]
    assert len(alpha) == 1


def test_normalization_is_inside_the_model(rng):
    x = rng.random((5, 16, 16, 3), dtype="float32")
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.1, 0.3]
    inside = small_cnn((16, 16, 3), 4, mean=mean, std=std, **TINY)
    outside = small_cnn((16, 16, 3), 4, **TINY)
    outside.set_weights(inside.get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(inside(x)),
        ops.convert_to_numpy(outside(((x - mean) / std).astype("float32"))),
        rtol=1e-4,
        atol=1e-5,
    )


def test_one_number_normalizes_every_channel(rng):
    x = rng.random((5, 16, 16, 3), dtype="float32")
    one = small_cnn((16, 16, 3), 4, mean=0.4, std=0.2, **TINY)
    three = small_cnn((16, 16, 3), 4, mean=[0.4] * 3, std=[0.2] * 3, **TINY)
    three.set_weights(one.get_weights())
    np.testing.assert_array_equal(
        ops.convert_to_numpy(one(x)), ops.convert_to_numpy(three(x))
    )


@pytest.mark.parametrize("head", ["robust", "plain"])
def test_logits_are_float32_under_a_mixed_policy(head):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small_cnn((16, 16, 1), 3, head=head, **TINY)
    assert model.output.dtype == "float32"
    assert model.layers[1].compute_dtype == "bfloat16"


@pytest.mark.parametrize("head", ["robust", "plain"])
def test_keras_file_loads_in_safe_mode(head, tmp_path, rng):
    model = small_cnn(
        (16, 16, 3), 4, head=head, mean=0.5, std=[1, 2, 3], **TINY
    )
    x = rng.random((5, 16, 16, 3), dtype="float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x))
    )


@pytest.mark.slow
def test_saved_model_serves_the_same_logits_without_this_package(tmp_path, rng):
    model = small_cnn((16, 16, 3), 4, mean=0.5, std=0.2, **TINY)
    x = rng.random((5, 16, 16, 3), dtype="float32")
    model.export(tmp_path / "saved", verbose=False)
    np.save(tmp_path / "x.npy", x)
    script = """
import sys
import numpy as np
import tensorflow as tf
sys.modules["keras_wp"] = None  # Cannot be imported.
folder = sys.argv[1]
served = tf.saved_model.load(folder + "/saved")
np.save(folder + "/logits.npy", served.serve(np.load(folder + "/x.npy")))
"""
    result = run_python("-c", script, tmp_path)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "logits.npy"),
        ops.convert_to_numpy(model(x)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.once
def test_training_separates_two_digits():
    (x, y), _ = keras_wp.datasets.load("mnist5k")
    chosen = np.flatnonzero(y < 2)[:256]
    x, y = x[chosen], y[chosen]
    model = small_cnn((28, 28, 1), 2, widths=(4, 4, 8, 8), dense=(16, 16))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=32, epochs=4, verbose=0)
    # In inference mode: batch statistics must have followed by now.
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.95


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"input_shape": (15, 28, 1)},
            "Invalid value for argument `input_shape`. Expected (height, "
            "width, channels) with height and width of at least 16. "
            "Received: input_shape=(15, 28, 1)",
        ),
        (
            {"input_shape": (28, 28)},
            "Invalid value for argument `input_shape`. Expected (height, "
            "width, channels) with height and width of at least 16. "
            "Received: input_shape=(28, 28)",
        ),
        (
            {"input_shape": (None, None, 3)},
            "Invalid value for argument `input_shape`. Expected (height, "
            "width, channels) with height and width of at least 16. "
            "Received: input_shape=(None, None, 3)",
        ),
        (
            {"num_classes": 1},
            "Invalid value for argument `num_classes`. Expected an integer of "
            "at least 2. Received: num_classes=1",
        ),
        (
            {"head": "sturdy"},
            "Invalid value for argument `head`. Expected 'robust', "
            "'plain', 'hypersphere', 'mmc' or a Keras layer. Received: "
            "head='sturdy'",
        ),
        (
            {"widths": (8, 8, 8)},
            "Invalid value for argument `widths`. Expected 4 integers above "
            "0. Received: widths=(8, 8, 8)",
        ),
        (
            {"dense": (8, 0)},
            "Invalid value for argument `dense`. Expected 2 integers above 0. "
            "Received: dense=(8, 0)",
        ),
        (
            {"mean": [0.5, 0.5]},
            "Invalid value for argument `mean`. Expected one number, or one "
            "for each of the 1 channels. Received: mean=[0.5, 0.5]",
        ),
        (
            {"std": 0},
            "Invalid value for argument `std`. Expected numbers above 0. "
            "Received: std=[0.0]",
        ),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    arguments = {"input_shape": (28, 28, 1), "num_classes": 3, **arguments}
    with pytest.raises(ValueError) as error:
        small_cnn(**arguments)
    assert str(error.value) == message
