import keras
import numpy as np
import pytest
from helpers import randomize, to_numpy
from keras import ops
from processes import run_python

import keras_wp
from keras_wp.models import heads, resnet32, small_cnn, wide_resnet

TINY = {"widths": (2, 2, 3, 3), "dense": (8, 8)}


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
            "'plain', 'mmc' or a Keras layer. Received: head='sturdy'",
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


def test_networks_are_public():
    assert keras_wp.models.small_cnn is small_cnn
    assert keras_wp.models.resnet32 is resnet32
    assert keras_wp.models.wide_resnet is wide_resnet


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def batch_norms(count, *widths):
    return 2 * count * sum(widths)


@pytest.fixture
def zeros(monkeypatch):
    """Convolutions start as zeros, which are quicker to draw."""
    start = keras.initializers.Zeros()
    monkeypatch.setattr(
        keras.initializers, "VarianceScaling", lambda *_, **__: start
    )


def test_wrn_34_10_has_46_16_million_weights(zeros):
    model = wide_resnet(depth=34, width=10, num_classes=10)
    convolutions = 9 * (3 * 16 + 16 * 160 + 160 * 320 + 320 * 640)
    convolutions += 9 * 9 * (160**2 + 320**2 + 640**2)
    shortcuts = 16 * 160 + 160 * 320 + 320 * 640
    norms = batch_norms(9, 160, 320, 640) + batch_norms(1, 16, 160, 320, 640)
    # In front of the ten convolutions of a stage, of which the first is as
    # wide as the stage before; and after the pooling.
    assert trainable(model) == convolutions + shortcuts + norms + 640 * 10
    assert round(trainable(model) / 1e6, 2) == 46.16


# Networks that take images of 8 by 8 pixels.
NETWORKS = {
    "resnet32": resnet32,
    "wide_resnet": lambda *args, **kwargs: wide_resnet(10, 2, *args, **kwargs),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]


class Reference:
    """The networks in NumPy, with the weights of a Keras model.

    Layers of a kind are used in the order in which they were made, which the
    numbers in their names tell.
    """

    def __init__(self, model):
        def made(kind):
            layers = [x for x in model.layers if isinstance(x, kind)]
            # The first of its kind in a process has no number.
            last = [x.name.rpartition("_")[2] for x in layers]
            number = [int(n) if n.isdecimal() else 0 for n in last]
            return iter([layers[i] for i in np.argsort(number)])

        self.kernels = made(keras.layers.Conv2D)
        self.norms = made(keras.layers.BatchNormalization)

    def conv(self, x, stride=1):
        kernel = to_numpy(next(self.kernels).kernel)
        size = len(kernel)
        around = ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0))
        x = np.pad(x, around)
        rows, columns = x.shape[1] - size + 1, x.shape[2] - size + 1
        y = sum(
            x[:, i : i + rows, j : j + columns] @ kernel[i, j]
            for i in range(size)
            for j in range(size)
        )
        return y[:, ::stride, ::stride]

    def norm(self, x):
        layer = next(self.norms)
        gamma, beta, mean, variance = map(to_numpy, layer.weights)
        return gamma * (x - mean) / np.sqrt(variance + layer.epsilon) + beta

    def relu(self, x):
        return np.maximum(x, 0)

    def strides(self, blocks):
        for stage in range(3):
            for block in range(blocks):
                yield stage, block, 2 if stage and not block else 1

    def wide_resnet(self, x):
        x = self.conv(x)
        for _, block, stride in self.strides(1):
            active = self.relu(self.norm(x))
            shortcut = self.conv(active, stride) if block == 0 else x
            y = self.relu(self.norm(self.conv(active, stride)))
            x = shortcut + self.conv(y)
        return self.norm(x.mean((1, 2)))

    def resnet32(self, x):
        x = self.norm(self.conv(x))
        for stage, block, stride in self.strides(5):
            x = self.relu(x)
            shortcut = x
            if stage and not block:
                shortcut = self.norm(self.conv(x, stride))
            y = self.relu(self.norm(self.conv(x, stride)))
            x = shortcut + self.norm(self.conv(y))
        return self.norm(x.mean((1, 2)))


def small_wrn_weights(num_classes):
    """Trainable weights of WRN-10-2, counted by hand."""
    convolutions = 9 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 128)
    convolutions += 9 * (32**2 + 64**2 + 128**2)
    shortcuts = 16 * 32 + 32 * 64 + 64 * 128
    norms = batch_norms(1, 16, 32, 32, 64, 64, 128, 128)
    return convolutions + shortcuts + norms + 128 * num_classes


def resnet32_weights(num_classes):
    convolutions = 9 * (3 * 16 + 16 * 32 + 32 * 64)
    convolutions += 9 * (10 * 16**2 + 9 * 32**2 + 9 * 64**2)
    shortcuts = 16 * 32 + 32 * 64
    # After each convolution, those of shortcuts too, and after the pooling.
    norms = batch_norms(11, 16, 32, 64) + batch_norms(1, 64)
    return convolutions + shortcuts + norms + 64 * num_classes


# Trainable weights for a number of classes.
WEIGHTS = {"resnet32": resnet32_weights, "wide_resnet": small_wrn_weights}


@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_its_definition_in_numpy(name, rng, zeros):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.1, 0.3]
    model = NETWORKS[name]((8, 10, 3), 4, alpha=7.0, mean=mean, std=std)
    assert trainable(model) == WEIGHTS[name](4)
    assert len(model.losses) == 1
    randomize(model)
    x = rng.random((3, 8, 10, 3))
    before = getattr(Reference(model), name)((x - mean) / std)
    expected = np.tanh(before) @ to_numpy(model.get_layer("head").kernel)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-4
    )


def test_residual_networks_check_their_arguments(network):
    with pytest.raises(ValueError) as error:
        network((7, 32, 3), 10)
    assert str(error.value) == (
        "Invalid value for argument `input_shape`. Expected (height, width, "
        "channels) with height and width of at least 8. "
        "Received: input_shape=(7, 32, 3)"
    )


@pytest.mark.parametrize("depth", [4, 30, 16.0])
def test_depth_must_fit_the_blocks(depth):
    with pytest.raises(ValueError) as error:
        wide_resnet(depth=depth)
    assert str(error.value) == (
        "Invalid value for argument `depth`. Expected 4 more than a multiple "
        f"of 6, at least 10. Received: {depth=}"
    )


def test_width_must_be_positive():
    with pytest.raises(ValueError) as error:
        wide_resnet(width=0)
    assert str(error.value) == (
        "Invalid value for argument `width`. Expected an integer of at least "
        "1. Received: width=0"
    )


@pytest.mark.once
def test_wide_resnet_with_an_ordinary_head_ends_as_it_was_published():
    def ends(head, activation):
        model = wide_resnet(10, 1, (8, 8, 1), 3, head, activation)
        return [type(layer).__name__ for layer in model.layers[-4:]]

    pool, norm = "GlobalAveragePooling2D", "BatchNormalization"
    assert ends("plain", "relu") == [norm, "Activation", pool, "Dense"]
    assert ends("plain", "prelu") == [norm, "PReLU", pool, "Dense"]
    assert ends("robust", "tanh")[1:] == [pool, norm, "RobustHead"]
    assert ends("mmc", "tanh")[1:] == [pool, norm, "MaxMahalanobisHead"]


@pytest.mark.once
def test_prelu_has_one_slope():
    for network, head in ((small_cnn, "robust"), (wide_resnet, "plain")):
        sizes = TINY if network is small_cnn else {"depth": 10, "width": 1}
        model = network(
            input_shape=(16, 16, 1),
            num_classes=3,
            head=head,
            activation="prelu",
            **sizes,
        )
        (slope,) = [v for v in model.variables if v.path.endswith("alpha")]
        assert np.prod(slope.shape) == 1


@pytest.mark.once
def test_names_tell_depth_and_width():
    assert wide_resnet(10, 2, (8, 8, 1), 3).name == "wide_resnet_10_2"
    assert wide_resnet(10, 2, (8, 8, 1), 3, name="mine").name == "mine"


def test_mmc_head_classifies_linear_features(rng):
    model = small_cnn((16, 16, 1), 3, head="mmc", **TINY)
    assert isinstance(model.layers[-2], keras.layers.BatchNormalization)
    head = model.get_layer("head")
    features = keras.Model(model.input, model.layers[-2].output)
    x = rng.random((4, 16, 16, 1), dtype="float32")
    delta = to_numpy(features(x))[:, None] - to_numpy(head.centers)
    np.testing.assert_allclose(
        to_numpy(model(x)), -(delta**2).sum(-1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "activation, expected",
    [
        ("relu", [0.0, 2.0]),
        ("prelu", [-0.25, 2.0]),
        ("leaky_relu", [-0.2, 2.0]),
        ("tanh", np.tanh([-1.0, 2.0])),
    ],
)
@pytest.mark.parametrize("head", ["robust", "plain"])
def test_last_activations_of_the_paper(head, activation, expected):
    features = keras.Input((2,))
    model = keras.Model(
        features, heads.classify(features, 2, head, activation, 0.1, 1.0)
    )
    model.get_layer("head").kernel.assign(np.eye(2))
    logits = model(np.array([[-1.0, 2.0]], "float32"))
    np.testing.assert_allclose(to_numpy(logits)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("activation", ["prelu", "leaky_relu"])
def test_model_with_such_an_activation_loads(activation, tmp_path, rng):
    model = small_cnn((16, 16, 1), 3, activation=activation, **TINY)
    x = rng.random((4, 16, 16, 1), dtype="float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))
