"""Networks against their definitions."""

import keras
import numpy as np
import pytest
from helpers import randomize, to_numpy
from networks import TINY, batch_norms

import keras_wp
from keras_wp.models import (
    heads,
    preact_resnet,
    preact_resnet18,
    resnet32,
    small_cnn,
    wide_resnet,
)

pytestmark = pytest.mark.once


def test_networks_are_public():
    assert keras_wp.models.small_cnn is small_cnn
    assert keras_wp.models.preact_resnet18 is preact_resnet18
    assert keras_wp.models.resnet32 is resnet32
    assert keras_wp.models.wide_resnet is wide_resnet


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


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


@pytest.mark.parametrize("head, count", [("plain", 5130), ("robust", 5120)])
def test_preact_resnet18_has_11_17_million_weights(head, count, zeros):
    model = preact_resnet18(head=head)
    convolutions = 9 * (3 * 64 + 4 * 64**2)
    for narrow, wide in ((64, 128), (128, 256), (256, 512)):
        convolutions += 9 * (narrow * wide + 3 * wide**2) + narrow * wide
    # In front of the convolutions of the blocks, of which the first of a stage
    # is as wide as the stage before; and in the end.
    norms = batch_norms(4, 64, 128, 256, 512) + batch_norms(1, 64)
    assert trainable(model) == convolutions + norms + count
    if head == "plain":  # As published.
        assert trainable(model) == 11_172_170


NARROW = (2, 3, 4, 5)


# Networks that take images of 8 by 8 pixels.
def narrow_preact_resnet18(*args, **kwargs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preact_resnet, "STAGES", NARROW)
        return preact_resnet18(*args, **kwargs)


NETWORKS = {
    "preact_resnet18": narrow_preact_resnet18,
    "resnet32": resnet32,
    "wide_resnet": lambda *args, **kwargs: wide_resnet(10, 2, *args, **kwargs),
}


@pytest.fixture(params=list(NETWORKS))
def network(request):
    return NETWORKS[request.param]


class Reference:
    """The networks in NumPy, with the weights of a Keras model.

    Layers of a kind are used in the order in which they were made, which the
    numbers in their names tell.
    """

    def __init__(self, model, hidden="relu"):
        self.hidden = hidden

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
        """The activation of hidden layers."""
        if self.hidden == "silu":
            return x / (1 + np.exp(-x))
        return np.maximum(x, 0)

    def strides(self, blocks, stages=3):
        for stage in range(stages):
            for block in range(blocks):
                yield stage, block, 2 if stage and not block else 1

    def wide_resnet(self, x):
        return self.preactivated(x, 1, 3, widened=True)

    def preact_resnet18(self, x):
        return self.preactivated(x, 2, 4, widened=False)

    def preactivated(self, x, blocks, stages, widened):
        x = self.conv(x)
        for stage, block, stride in self.strides(blocks, stages):
            active = self.relu(self.norm(x))
            reshaped = block == 0 and (stage > 0 or widened)
            shortcut = self.conv(active, stride) if reshaped else x
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


def narrow_preact_weights(num_classes):
    pairs = list(zip((2, *NARROW), NARROW, strict=False))
    convolutions = 9 * 3 * 2
    for before, filters in pairs:
        convolutions += 9 * (before * filters + 3 * filters**2)
    shortcuts = sum(before * filters for before, filters in pairs[1:])
    norms = batch_norms(4, *NARROW) + batch_norms(1, 2)
    return convolutions + shortcuts + norms + 5 * num_classes


# Trainable weights for a number of classes.
WEIGHTS = {
    "preact_resnet18": narrow_preact_weights,
    "resnet32": resnet32_weights,
    "wide_resnet": small_wrn_weights,
}


@pytest.mark.parametrize(
    "name, hidden",
    [*((name, "relu") for name in NETWORKS), ("preact_resnet18", "silu")],
)
def test_network_equals_its_definition_in_numpy(name, hidden, rng, zeros):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.1, 0.3]
    given = {"alpha": 7.0, "mean": mean, "std": std}
    model = NETWORKS[name]((8, 10, 3), 4, hidden_activation=hidden, **given)
    assert trainable(model) == WEIGHTS[name](4)
    assert len(model.losses) == 1
    randomize(model)
    x = rng.random((3, 8, 10, 3))
    reference = Reference(model, hidden)
    before = getattr(reference, name)((x - mean) / std)
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
@pytest.mark.parametrize("name", ["small_cnn", "wide_resnet", "resnet32"])
def test_hidden_activations_can_be_chosen(name):
    def network(**given):
        if name == "small_cnn":
            return small_cnn((16, 16, 1), 3, **TINY, **given)
        return NETWORKS[name]((8, 8, 1), 3, **given)

    def kinds(model):
        found = [type(layer).__name__ for layer in model.layers]
        return [kind for kind in found if kind != "Activation"], [
            layer.activation
            for layer in model.layers
            if isinstance(layer, keras.layers.Activation)
        ]

    others, activations = kinds(network(hidden_activation="silu"))
    usual, none = kinds(network())
    assert others == [kind for kind in usual if kind != "ReLU"]
    assert none == []
    hidden = usual.count("ReLU")
    assert activations == [keras.activations.silu] * hidden
    with pytest.raises(ValueError) as error:
        network(hidden_activation="bent")
    assert str(error.value) == (
        "Invalid value for argument `hidden_activation`. Expected a name of "
        "keras.activations, such as 'relu' or 'silu', or a function. "
        "Received: hidden_activation='bent'"
    )


@pytest.mark.once
def test_wide_resnet_with_an_ordinary_head_ends_as_it_was_published():
    def ends(head, activation):
        model = wide_resnet(10, 1, (8, 8, 1), 3, head, activation)
        return [type(layer).__name__ for layer in model.layers[-4:]]

    pool, norm = "GlobalAveragePooling2D", "BatchNormalization"
    assert ends("plain", "relu") == [norm, "Activation", pool, "Dense"]
    assert ends("plain", "prelu") == [norm, "PReLU", pool, "Dense"]
    hypersphere = [norm, "Activation", pool, "HypersphereHead"]
    assert ends("hypersphere", "relu") == hypersphere
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
        features,
        heads.classify(
            features, 2, head, activation=activation, s=0.1, alpha=1.0
        ),
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
