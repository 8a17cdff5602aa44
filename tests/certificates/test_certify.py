"""The promise: no perturbation below the radius changes the prediction."""

import doctest

import keras
import numpy as np
import pytest
from certified import SHAPE, labels_of, logits_of, small_network
from helpers import linear_model, message_of, random_images, to_numpy
from slopes import lengths

import keras_wp as kwp
from keras_wp import lipschitz
from keras_wp.lipschitz import norms
from keras_wp.reports import certificate


def linear(classes=5, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(*SHAPE, classes)) * scale
    return linear_model(
        kernel.astype(np.float32), rng.normal(size=classes) * scale
    )


def nearest_boundary(model, x, share):
    """Images moved to the nearest boundary of a linear classifier.

    Args:
        model: The model.
        x: The images.
        share: How far, as a share of the distance.
    """
    kernel, bias = model.layers[-1].get_weights()
    kernel, flat = kernel.astype(float), x.reshape(len(x), -1).astype(float)
    logits = flat @ kernel + bias
    rows, own = np.arange(len(x)), logits.argmax(-1)
    apart = kernel.T[own][:, None] - kernel.T
    distance = np.linalg.norm(apart, axis=-1)
    margin = logits[rows, own][:, None] - logits
    with np.errstate(invalid="ignore"):
        radii = margin / distance
    radii[rows, own] = np.inf
    other = radii.argmin(-1)
    way = apart[rows, other] / distance[rows, other][:, None]
    moved = flat - way * (share * radii[rows, other])[:, None]
    return moved.reshape(x.shape).astype(np.float32), radii[rows, other]


def towards_each_class(kernel, x, y, lengths):
    """Images moved so far towards each class, the shortest way."""
    for weights in kernel.T:
        apart = kernel.T[y] - weights
        length = np.linalg.norm(apart, axis=-1, keepdims=True)
        way = np.divide(apart, length, where=length > 0, out=0 * apart)
        step = way * lengths[:, None]
        yield (x - step.reshape(x.shape)).astype(np.float32)


def test_radius_of_a_linear_classifier_is_the_distance_to_the_boundary():
    model, x = linear(), random_images(50, SHAPE)
    _, distance = nearest_boundary(model, x, 1.0)
    found = kwp.certify(model, (x, labels_of(model, x)))
    assert found.constant == 1.0
    assert (found.radius <= distance).all()
    np.testing.assert_allclose(found.radius, distance, atol=1e-4)
    # What was subtracted is what lies between.
    np.testing.assert_allclose(
        found.radius + found.rounding, distance, atol=1e-5
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_no_image_of_a_linear_classifier_flips_below_its_radius(scale):
    model, x = linear(scale=scale), random_images(10_000, SHAPE)
    y = labels_of(model, x)
    found = kwp.certify(model, (x, y))
    kernel = model.layers[-1].get_weights()[0].astype(float)
    for x_adv in towards_each_class(kernel, x, y, 0.999999 * found.radius):
        # What float32 makes of a pixel may lie beyond.
        moved = lengths(x_adv.astype(float) - x)
        inside = moved < found.radius
        assert inside.sum() > 9000
        assert (labels_of(model, x_adv) == y)[inside].all()
    # The sharpness of it: the radius that knows no rounding is broken.
    x_adv, naive = nearest_boundary(model, x, 1 - 1e-7)
    assert (labels_of(model, x_adv) != y).sum() > 100
    assert (naive > found.radius).all()
    assert (found.rounding < 1e-3 * np.median(found.radius)).all()


def test_radii_are_those_of_the_definition():
    model, x = small_network(), random_images(30, SHAPE)
    found = kwp.certify(model, (x, np.zeros(30, int)), batch_size=7)
    weights = norms.float64(model.layers[-1].kernel).T
    constant = np.prod(
        [
            layer.lipschitz_constant()
            for layer in model.layers[:-1]
            if hasattr(layer, "lipschitz_constant")
        ]
    )
    assert found.constant == pytest.approx(constant, rel=1e-12)
    for z, radius, off in zip(
        logits_of(model, x).astype(float),
        found.radius,
        found.rounding,
        strict=True,
    ):
        y = z.argmax()
        others = [
            (z[y] - z[j]) / np.linalg.norm(weights[y] - weights[j]) / constant
            for j in range(4)
            if j != y
        ]
        assert radius + off == pytest.approx(min(others), abs=1e-5)
        assert 0 < off < 2e-3


def test_attacks_below_the_radius_break_no_image():
    model, x = small_network(), random_images(40, SHAPE, low=-1)
    y = labels_of(model, x)
    found = kwp.certify(model, (x, y))
    assert found.correct.all()
    assert found.radius.min() < 0.05 < found.radius.max()
    for i in range(0, 40, 4):
        attack = kwp.attacks.PGD(
            eps=float(found.radius[i]) * 0.999999,
            norm="l2",
            steps=20,
            loss="margin",
            bounds=(-9.0, 9.0),
        )
        x_adv = attack(model, x[i : i + 1], y[i : i + 1])
        assert labels_of(model, x_adv) == y[i]


def test_a_constant_wrong_by_a_percent_would_be_caught():
    model, x = linear(), random_images(200, SHAPE)
    y = labels_of(model, x)
    honest = kwp.certify(model, (x, y))

    class Stretched(lipschitz.MaxMin):
        def call(self, inputs):
            return 1.01 * inputs

        def lipschitz_constant(self):
            return 1.0

    inputs = keras.Input(SHAPE)
    wrong = keras.Model(inputs, model(Stretched()(inputs)))
    found = kwp.certify(wrong, (x / 1.01, y))
    kernel = model.layers[-1].get_weights()[0].astype(float)
    tried = towards_each_class(kernel, x / 1.01, y, 0.999999 * found.radius)
    assert sum((labels_of(wrong, x_adv) != y).sum() for x_adv in tried) > 100
    assert (found.radius > honest.radius / 1.01).all()


def test_equal_class_weights_and_flat_models_are_no_trouble():
    model = linear(classes=3)
    kernel, bias = model.layers[-1].get_weights()
    kernel[:, 2] = kernel[:, 0]
    model.layers[-1].set_weights([kernel, np.array([0.5, 0.0, -0.5])])
    x = random_images(20, SHAPE)
    found = kwp.certify(model, (x, labels_of(model, x)))
    assert (found.radius >= 0).all() and np.isfinite(found.radius).all()
    model.layers[-1].set_weights([np.zeros_like(kernel), np.arange(3.0)])
    flat = kwp.certify(model, (x, labels_of(model, x)))
    # Nothing is known to need an infinite radius; it promises none.
    assert (flat.radius == 0).all()


def test_accuracy_counts_the_right_ones_beyond_eps():
    found = kwp.Certificate(
        radius=np.array([0.5, 1.0, 2.0, 3.0]),
        prediction=np.array([0, 1, 2, 3]),
        correct=np.array([True, True, False, True]),
        constant=1.0,
        rounding=np.full(4, 1e-3),
        pixels=4,
    )
    assert found.clean_accuracy == 0.75
    assert [found.accuracy(eps) for eps in (0.4, 0.5, 1.5)] == [0.75, 0.5, 0.25]
    # An l2 ball holds the l1 ball of its radius, and a smaller one of linf.
    assert found.accuracy(0.4, "linf") == 0.5
    assert found.accuracy(0.4, "l1") == 0.75
    np.testing.assert_array_equal(found.certified(1.5), [False] * 3 + [True])
    assert str(found) == (
        "4 images; clean 75.0 % (30.1-95.4); median radius of those in l2 1; "
        "Lipschitz constant 1; at most 0.001 subtracted for float32"
    )
    assert message_of(found.accuracy, -1.0) == (
        "Argument `eps` must be a number of at least 0. Received: eps=-1.0"
    )
    assert message_of(found.accuracy, 1.0, "l0") == (
        "Invalid value for argument `norm`. Expected one of ['l1', 'l2', "
        "'linf']. Received: norm='l0'"
    )


def test_radii_do_not_depend_on_the_batch_and_fit_into_data_sets():
    model, x = small_network(), random_images(30, SHAPE)
    y = labels_of(model, x)
    whole = kwp.certify(model, (x, y))
    batches = [(x[:7], y[:7]), (x[7:9], y[7:9]), (x[9:], y[9:])]
    parts = kwp.certify(model, batches, batch_size=3)
    np.testing.assert_allclose(parts.radius, whole.radius, atol=1e-5)
    np.testing.assert_array_equal(parts.prediction, y)
    assert message_of(kwp.certify, model, []) == (
        "`data` must hold at least one image. Received: none"
    )


def test_model_from_a_file_has_the_same_radii(tmp_path):
    model, x = small_network(), random_images(30, SHAPE)
    y = labels_of(model, x)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        kwp.certify(loaded, (x, y)).radius, kwp.certify(model, (x, y)).radius
    )


def test_weights_that_change_are_seen():
    model, x = small_network(), random_images(30, SHAPE)
    y = labels_of(model, x)
    before = kwp.certify(model, (x, y))
    layer = model.layers[-3]
    layer.kernel.assign(2 * to_numpy(layer.kernel))
    after = kwp.certify(model, (x, y))
    assert after.constant == pytest.approx(2 * before.constant)


def test_examples_of_the_docstrings():
    results = doctest.testmod(certificate)
    assert results.failed == 0
