import doctest

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, to_numpy
from keras import ops
from slopes import lengths, sampled, steepest

from keras_wp import lipschitz, simplex
from keras_wp.lipschitz import conv, dense, head, kernels, norms, units

SHAPE = (6, 6, 4)
RANDOM = {"kernel_initializer": "glorot_normal"}
# Each with the shape of its input, and whether its constant is reached.
LAYERS = {
    "orthogonal": (lipschitz.OrthogonalDense(5), (8,), True),
    "orthogonal-wide": (lipschitz.OrthogonalDense(9), (4,), True),
    "orthogonal-axes": (lipschitz.OrthogonalDense(5), (3, 8), True),
    "aol": (lipschitz.AOLDense(5, **RANDOM), (8,), False),
    "aol-wide": (lipschitz.AOLDense(9, **RANDOM), (4,), False),
    "aol-start": (lipschitz.AOLDense(5), (8,), True),
    "conv": (lipschitz.AOLConv2D(6, **RANDOM), SHAPE, False),
    "conv-narrow": (lipschitz.AOLConv2D(2, **RANDOM), SHAPE, False),
    "conv-valid": (
        lipschitz.AOLConv2D(4, 2, padding="valid", **RANDOM),
        SHAPE,
        False,
    ),
    "conv-circular": (
        lipschitz.AOLConv2D(6, 5, padding="circular", **RANDOM),
        SHAPE,
        False,
    ),
    "conv-start": (lipschitz.AOLConv2D(6), SHAPE, True),
    "head": (lipschitz.LipschitzHead(4), (7,), True),
    "max-min": (lipschitz.MaxMin(), SHAPE, True),
    "space-to-depth": (lipschitz.SpaceToDepth(3), SHAPE, True),
    "l2-pooling": (lipschitz.L2Pooling(2), SHAPE, True),
}


def of_layer(name):
    """A model of one layer, with weights and biases from NumPy."""
    layer, shape, tight = LAYERS[name]
    layer = type(layer).from_config(layer.get_config())
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    if getattr(layer, "bias", None) is not None:
        layer.bias.assign(np.linspace(-1, 1, layer.units))
    return model, layer, tight


@pytest.mark.once
@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_is_steeper_than_its_constant(name, backend):
    model, layer, tight = of_layer(name)
    x = random_images(64, model.input_shape[1:], low=-1)
    constant, found = layer.lipschitz_constant(), steepest(model, x)
    assert found <= constant * (1 + 1e-6)
    assert constant <= 1
    # A constant that is off by 1 % would be seen.
    assert not tight or found > constant * 0.999


@pytest.mark.parametrize("name", LAYERS)
def test_no_pair_beats_the_constant(name, rng):
    model, layer, _ = of_layer(name)
    x = random_images(64, model.input_shape[1:], low=-1)
    assert sampled(model, x, rng).max() <= layer.lipschitz_constant() + 2e-6


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_within_its_bound(name):
    model, layer, _ = of_layer(name)
    x = random_images(64, model.input_shape[1:], low=-3, high=3)
    found = to_numpy(layer(ops.convert_to_tensor(x)))
    exact = exactly(layer, x.astype(np.float64))
    assert found.shape == exact.shape
    assert found.shape[1:] == layer.compute_output_shape(model.input_shape)[1:]
    zeros = exactly(layer, np.zeros((1, *x.shape[1:])))
    bound = layer.rounding_error(lengths(x), lengths(zeros)[0])
    assert (lengths(found - exact) <= bound).all()
    if isinstance(layer, (lipschitz.MaxMin, lipschitz.SpaceToDepth)):
        np.testing.assert_array_equal(found, exact)


def exactly(layer, x):
    """What a layer means, in NumPy and float64."""
    if isinstance(layer, lipschitz.MaxMin):
        first, second = np.split(x, 2, axis=-1)
        pair = np.maximum(first, second), np.minimum(first, second)
        return np.concatenate(pair, axis=-1)
    if isinstance(layer, lipschitz.SpaceToDepth):
        n, size = layer.size, x.shape[1] // layer.size
        rows = x.reshape(len(x), size, n, size, n, -1)
        return rows.swapaxes(2, 3).reshape(len(x), size, size, -1)
    if isinstance(layer, lipschitz.L2Pooling):
        n, size = layer.size, x.shape[1] // layer.size
        rows = x.reshape(len(x), size, n, size, n, -1)
        return np.sqrt((rows**2).sum((2, 4)))
    kernel = norms.float64(layer.kernel)
    bias = 0.0 if layer.bias is None else norms.float64(layer.bias)
    if kernel.ndim == 2:
        return x @ kernel + bias
    side = len(kernel) // 2
    if layer.padding != "valid":
        mode = "wrap" if layer.padding == "circular" else "constant"
        x = np.pad(x, ((0, 0), (side, side), (side, side), (0, 0)), mode)
    height, width = (n - len(kernel) + 1 for n in x.shape[1:3])
    return bias + sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(len(kernel))
        for j in range(len(kernel))
    )


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6), (7, 1)])
def test_cayley_transform_is_orthogonal_and_that_of_its_formula(rng, shape):
    free = rng.normal(size=shape).astype(np.float32)
    found = to_numpy(kernels.orthogonal(ops.convert_to_tensor(free)))
    free = free.astype(float) if shape[0] >= shape[1] else free.T.astype(float)
    upper, lower = np.split(free, [free.shape[1]])
    skew = upper - upper.T + lower.T @ lower
    eye = np.eye(len(skew))
    inverse = np.linalg.inv(eye + skew)
    expected = np.concatenate([inverse @ (eye - skew), -2 * lower @ inverse])
    np.testing.assert_allclose(expected.T @ expected, eye, atol=1e-12)
    if shape[0] < shape[1]:
        expected = expected.T
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_head_is_the_simplex_with_distances_of_one(rng):
    layer = lipschitz.LipschitzHead(5)
    layer.build((None, 9))
    kernel = norms.float64(layer.kernel)
    assert simplex.min_angle(kernel) == pytest.approx(simplex.ideal_angle(5))
    np.testing.assert_allclose(kernel.sum(1), 0, atol=1e-6)
    apart = np.linalg.norm(kernel[:, :, None] - kernel[:, None], axis=0)
    np.testing.assert_allclose(
        apart[~np.eye(5, dtype=bool)], kernels.SHRINK, atol=1e-6
    )


def test_convolution_bound_holds_for_any_kernel(rng):
    for padding in ("same", "valid"):
        kernel = rng.normal(size=(3, 3, 4, 2))
        x = np.eye(6 * 6 * 4).reshape(-1, 6, 6, 4)
        layer = lipschitz.AOLConv2D(2, 3, padding=padding, use_bias=False)
        layer.build((None, *SHAPE))
        layer.kernel.assign(kernel)
        matrix = exactly(layer, x).reshape(len(x), -1)
        true = np.linalg.norm(matrix, 2)
        assert true <= norms.convolution_norm(layer.kernel)
        # It is not so loose that it would be of no use.
        assert norms.convolution_norm(layer.kernel) < 2.5 * true


def test_blocks_of_products_are_added_apart():
    """As the bound of rounding takes for granted, in compiled graphs too."""
    count = 2 * kernels.BLOCK
    inputs = keras.Input((count,))
    layer = lipschitz.OrthogonalDense(1)
    model = keras.Model(inputs, layer(inputs))
    x = np.ones((3, count), np.float32)
    x[:, : kernels.BLOCK] = 0.0
    # One after another, none of these would change what is there already.
    x[:, 0] = 2.0**24
    layer.kernel.assign(np.ones((count, 1)))
    expected = np.full((3, 1), 2.0**24 + kernels.BLOCK)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    layer = lipschitz.AOLConv2D(1, 3, "valid")
    inputs = keras.Input((3, 3, 16))
    model = keras.Model(inputs, layer(inputs))
    x = np.ones((3, 3, 3, 16), np.float32)
    x[..., :8] = 0.0
    x[:, 0, 0, 0] = 2.0**24
    layer.kernel.assign(np.ones((3, 3, 16, 1)))
    np.testing.assert_array_equal(
        model.predict(x, verbose=0)[:, 0, 0], expected
    )


def test_training_moves_the_kernel_and_inference_keeps_it():
    inputs = keras.Input((6,))
    layer = lipschitz.OrthogonalDense(4)
    model = keras.Model(inputs, lipschitz.LipschitzHead(3)(layer(inputs)))
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = random_images(12, (6,)), np.arange(12) % 3
    before = to_numpy(layer.kernel)
    model.predict(x, verbose=0)
    model.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(to_numpy(layer.kernel), before)
    free = to_numpy(layer.free)
    model.fit(x, y, batch_size=6, epochs=1, shuffle=False, verbose=0)
    assert np.abs(to_numpy(layer.kernel) - before).max() > 1e-4
    assert np.abs(to_numpy(layer.free) - free).max() > 1e-4
    gram = norms.float64(layer.kernel)
    np.testing.assert_allclose(gram.T @ gram, np.eye(4), atol=2e-4)
    layer.trainable = False
    model.compile("sgd", model.loss)
    frozen = to_numpy(layer.kernel)
    model.fit(x, y, batch_size=6, epochs=1, verbose=0)
    np.testing.assert_array_equal(to_numpy(layer.kernel), frozen)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_come_back_from_a_file(name, tmp_path):
    model, layer, _ = of_layer(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = ops.convert_to_tensor(random_images(3, model.input_shape[1:]))
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))
    assert loaded.layers[-1].get_config() == layer.get_config()


REFUSED = {
    "Argument `units` must be an integer of at least 1. Received: units=0": (
        lambda: lipschitz.OrthogonalDense(0)
    ),
    "Argument `filters` must be an integer of at least 1. Received: "
    "filters=0": lambda: lipschitz.AOLConv2D(0),
    "Argument `kernel_size` must be odd, unless the padding is 'valid'. "
    "Received: kernel_size=2, padding='same'": (
        lambda: lipschitz.AOLConv2D(4, 2)
    ),
    "Invalid value for argument `padding`. Expected one of ['circular', "
    "'same', 'valid']. Received: padding='reflect'": (
        lambda: lipschitz.AOLConv2D(4, padding="reflect")
    ),
    "`OrthogonalDense` must know the last axis of its input. Received: "
    "input_shape=(None, None)": (
        lambda: lipschitz.OrthogonalDense(3).build((None, None))
    ),
    "`LipschitzHead` needs at least as many features as classes. Received: 3 "
    "features for 4 classes": (
        lambda: lipschitz.LipschitzHead(4).build((None, 3))
    ),
    "`MaxMin` needs an even number of channels. Received: 3": (
        lambda: lipschitz.MaxMin().build((None, 3))
    ),
    "`SpaceToDepth` needs a height and width that are multiples of 2. "
    "Received: 5": lambda: lipschitz.SpaceToDepth(2).build((None, 4, 5, 1)),
    "Argument `pool_size` must be an integer of at least 1. Received: "
    "pool_size=0": lambda: lipschitz.L2Pooling(0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_arguments_are_refused(message):
    assert message_of(REFUSED[message]) == message


@pytest.mark.parametrize("module", [conv, dense, head, units])
def test_examples_of_the_docstrings(module):
    names = {"np": np, **vars(lipschitz)}
    assert doctest.testmod(module, extraglobs=names).failed == 0
