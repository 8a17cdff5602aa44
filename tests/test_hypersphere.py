"""The head of angles and its loss, against their definitions in NumPy."""

import doctest

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, to_numpy
from keras import ops
from trained import SHIFT

import keras_wp
from keras_wp import _backend, attacks, objectives
from keras_wp.defenses import AdversarialTraining
from keras_wp.inspection import features
from keras_wp.inspection.classifier import Classifier
from keras_wp.layers import HypersphereHead, hypersphere
from keras_wp.losses import HypersphereMargin

UNITS, FEATURES, SCALE = 4, 6, 15.0


@pytest.fixture
def kernel(rng):
    return rng.normal(size=(FEATURES, UNITS))


def head_of(kernel, **arguments):
    head = HypersphereHead(kernel.shape[1], **arguments)
    head.build((None, kernel.shape[0]))
    head.set_weights([kernel])
    return head


def cosines(x, kernel):
    """In float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    lengths = np.linalg.norm(x, axis=-1)[..., None]
    return x @ kernel / lengths / np.linalg.norm(kernel, axis=0)


def slope(head, x, direction):
    """Gradient of `sum(direction * logits)` in the features."""
    x = ops.convert_to_tensor(x)
    direction = ops.cast(ops.convert_to_tensor(direction), x.dtype)
    value, pull = _backend.vjp(
        lambda u: ops.sum(head(u) * direction, axis=-1), x
    )
    return to_numpy(pull(ops.ones_like(value)))


def test_logits_are_cosines_times_the_scale(rng, kernel):
    x = 10.0 ** rng.uniform(-4, 6, (9, 1)) * rng.normal(size=(9, FEATURES))
    x = x.astype("float32")
    for scale in (SCALE, 3.0):
        found = to_numpy(head_of(kernel, scale=scale)(x))
        expected = scale * cosines(x, kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_gradient_is_that_of_the_definition(rng, kernel):
    x = rng.normal(size=(5, FEATURES))
    x[0] = 2 * kernel[:, 0]  # A cosine of 1.
    x[1] = -3 * kernel[:, 1]  # A cosine of -1.
    direction = rng.normal(size=(5, UNITS))
    length = np.linalg.norm(x, axis=1, keepdims=True)
    pull = SCALE * direction @ (kernel / np.linalg.norm(kernel, axis=0)).T
    along = (pull * x).sum(1, keepdims=True) * x / length**2
    found = slope(head_of(kernel), x.astype("float32"), direction)
    expected = (pull - along) / length
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "dtype", ["float32", "mixed_bfloat16", "mixed_float16"]
)
def test_zeros_have_no_angle_and_a_finite_gradient(dtype, kernel):
    head = head_of(kernel, dtype=dtype)
    kind = dtype.removeprefix("mixed_")
    x = ops.zeros((2, FEATURES), kind)
    logits = head(x)
    assert keras.backend.standardize_dtype(logits.dtype) == kind
    np.testing.assert_array_equal(to_numpy(logits), 0)
    found = slope(head, x, np.eye(UNITS)[:2]).astype("float64")
    assert np.isfinite(found).all()
    # It leads where the class weight points.
    own = (found * kernel.T[:2]).sum(1)
    sizes = np.linalg.norm(found, axis=1) * np.linalg.norm(kernel.T[:2], axis=1)
    assert (own > 0.99 * sizes).all()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_long_features_do_not_overflow(dtype, rng, kernel):
    kind = dtype.removeprefix("mixed_")
    x = ops.cast(1e4 * rng.normal(size=(5, FEATURES)), kind)
    found = to_numpy(head_of(kernel, dtype=dtype)(x)).astype("float64")
    expected = SCALE * cosines(to_numpy(ops.cast(x, "float32")), kernel)
    np.testing.assert_allclose(found, expected, atol=0.3)


def test_class_weights_of_zeros_make_no_nan(kernel):
    kernel[:, 0] = 0
    logits = to_numpy(head_of(kernel)(np.ones((2, FEATURES), "float32")))
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(logits[:, 0], 0)


def margin_loss(logits, y, margin, scale):
    shifted = np.array(logits, np.float64)
    shifted[np.arange(len(y)), y] -= margin * scale
    gaps = shifted - shifted[np.arange(len(y)), y][:, None]
    gaps[np.arange(len(y)), y] = -np.inf
    return np.log1p(np.exp(gaps).sum(1))


@pytest.mark.parametrize("margin, scale", [(0.2, 15.0), (0.3, 20.0), (0, 15)])
def test_loss_takes_the_margin_from_the_right_cosine(margin, scale, rng):
    cosine = rng.uniform(-1, 1, (6, UNITS))
    cosine[:2] = [[1, -1, -1, -1], [-1, 1, 1, 1]]
    y = np.array([0, 0, 1, 2, 3, 3])
    logits = (scale * cosine).astype("float32")
    loss = HypersphereMargin(margin=margin, scale=scale, reduction="none")
    expected = margin_loss(logits, y, margin, scale)
    for labels in (y, y[:, None]):
        found = to_numpy(loss(labels, logits))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    mean = HypersphereMargin(margin, scale)(y, logits)
    assert float(mean) == pytest.approx(expected.mean(), rel=1e-5)


def network(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((3, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(FEATURES),
            HypersphereHead(UNITS, name="head"),
        ]
    )


def test_a_defense_trains_with_the_margin_and_attacks_without(rng):
    x, y = random_images(8, (3, 2, 1)), np.arange(8) % UNITS
    model = network()
    # Its first step goes where the cross-entropy of the logits rises.
    attack = attacks.PGD(eps=0.1, steps=1, step_size=0.1, random_start=False)
    loss, pull = _backend.vjp(
        lambda images: objectives.cross_entropy(model(images), y),
        ops.convert_to_tensor(x),
    )
    x_adv = np.clip(
        x + 0.1 * np.sign(to_numpy(pull(ops.ones_like(loss)))), 0, 1
    )
    defense = AdversarialTraining(model, attack)
    defense.compile(keras.optimizers.SGD(0.0), HypersphereMargin())
    expected = margin_loss(to_numpy(model(x_adv)), y, 0.2, SCALE).mean()
    found = defense.train_on_batch(x, y)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_training_turns_features_towards_class_weights():
    x, y = random_images(8, (3, 2, 1)), np.arange(8) % UNITS
    defense = AdversarialTraining(network(), SHIFT)
    defense.compile(keras.optimizers.Adam(0.03), HypersphereMargin())
    history = defense.fit(x, y, epochs=30, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    lengths = np.linalg.norm(to_numpy(defense.model.layers[-1].kernel), axis=0)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)


@pytest.mark.once
def test_it_is_cut_on_the_sphere_and_masks_nothing():
    model, x = network(), random_images(5, (3, 2, 1))
    cut = features.cut(model)
    values = to_numpy(cut.features(x))
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), SCALE, rtol=1e-5)
    np.testing.assert_allclose(
        to_numpy(cut.classify(values)), to_numpy(model(x)), atol=1e-5
    )
    weights, given = cut.centers(scaled=False)
    assert given
    np.testing.assert_allclose(
        to_numpy(weights).T, to_numpy(model.layers[-1].kernel), rtol=1e-6
    )
    opened = Classifier(model).open(x)
    assert opened.anatomy is not None
    assert opened.masks == ()


def test_geometry_is_of_the_directions():
    model = network()
    before = keras_wp.head_geometry(model)
    head = model.get_layer("head")
    head.set_weights([7 * w for w in head.get_weights()])
    after = keras_wp.head_geometry(model)
    np.testing.assert_allclose(after.angles, before.angles, atol=1e-3)
    np.testing.assert_allclose(after.lengths, 1.0, rtol=1e-5)
    angle = np.degrees(head.min_angle())
    assert after.pairs.min() == pytest.approx(angle, abs=1e-3)


def test_model_with_head_and_loss_is_saved(tmp_path):
    model, x = network(), random_images(5, (3, 2, 1))
    model.compile("sgd", HypersphereMargin(margin=0.3, scale=20.0))
    model.fit(x, np.arange(5) % UNITS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))
    assert isinstance(loaded.loss, HypersphereMargin)
    assert (loaded.loss.margin, loaded.loss.scale) == (0.3, 20.0)
    registered = keras.saving.get_registered_name(HypersphereHead)
    assert registered == "keras_wp>HypersphereHead"
    model.save_weights(tmp_path / "model.weights.h5")
    other = network(seed=1)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(to_numpy(other(x)), to_numpy(model(x)))


@pytest.mark.once
def test_examples_of_the_docstring():
    results = doctest.testmod(hypersphere, extraglobs={"np": np})
    assert results == doctest.TestResults(failed=0, attempted=5)


@pytest.mark.once
def test_config_makes_an_equal_head():
    head = HypersphereHead(
        4, scale=3.0, kernel_initializer="ones", name="h", dtype="float32"
    )
    again = HypersphereHead.from_config(head.get_config())
    assert again.get_config() == head.get_config()
    assert (again.units, again.scale, again.name) == (4, 3.0, "h")


@pytest.mark.once
def test_wrong_arguments_are_refused():
    assert message_of(HypersphereHead, 1) == (
        "`units`, the number of classes, must be an integer of at least 2. "
        "Received: units=1"
    )
    assert message_of(HypersphereHead, 3, scale=0) == (
        "Argument `scale` must be a finite number greater than 0. Received: "
        "scale=0"
    )
    assert message_of(HypersphereHead(3).build, (None, None)) == (
        "`HypersphereHead` must know the number of features, the last axis "
        "of its input. Received: input_shape=(None, None)"
    )
    assert message_of(HypersphereMargin, margin=2.5) == (
        "Argument `margin` must be below 2, as two cosines differ by no more. "
        "Received: margin=2.5"
    )
    assert message_of(HypersphereMargin, margin=-1) == (
        "Argument `margin` must be a finite number of at least 0. Received: "
        "margin=-1"
    )


@pytest.mark.once
def test_it_takes_the_place_of_another_networks_dense_layer():
    inputs = keras.Input((4,))
    features = keras.layers.Dense(5, activation="relu")(inputs)
    outputs = keras.layers.Dense(3, activation="softmax")(features)
    old, head = keras.Model(inputs, outputs), HypersphereHead(3)
    new = keras_wp.convert.to_head(old, head)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    seen = np.maximum(to_numpy(ops.matmul(x, old.layers[1].kernel)), 0)
    seen = seen[seen.any(1)]
    expected = SCALE * cosines(seen, to_numpy(head.kernel))
    found = to_numpy(new(x))
    np.testing.assert_allclose(found[found.any(1)], expected, atol=1e-4)
    assert message_of(keras_wp.convert.to_head, old, "hypersphere") == (
        "Argument `head` must be a Keras layer from features to logits. "
        "Received: head='hypersphere'"
    )
