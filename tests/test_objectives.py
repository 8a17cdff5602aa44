import keras
import numpy as np
import pytest
from exact import batch, evaluate, expected, value_and_gradient
from helpers import to_numpy
from keras import ops

from keras_wp import objectives

SCALES = (1e-4, 1.0, 1e4)

NAMES = [
    (loss, targeted)
    for loss in ("cross_entropy", "log_odds", "margin", "dlr")
    for targeted in (False, True)
]


def tolerance(loss, z):
    """Float32 rounding of the logits, carried through the definition."""
    z = np.asarray(z, np.float64)
    rounding = 4 * np.finfo(np.float32).eps * np.abs(z).max(-1)
    if loss != "dlr":
        return rounding + 1e-6
    ranked = -np.sort(-z)
    spread = ranked[:, 0] - ranked[:, 2]
    return 4 * rounding / spread * (1 + (ranked[:, 0] - z.min(-1)) / spread)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loss, targeted", NAMES)
def test_value_is_that_of_the_definition(loss, targeted, scale):
    z, y, target = batch(scale)
    values, _ = evaluate(loss, targeted, z, y, target)
    assert values.shape == (100,)
    error = np.abs(values - expected(loss, targeted, z, y, target))
    assert (error <= tolerance(loss, z)).all()


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_gradient_is_that_of_finite_differences(loss, targeted):
    z, y, target = batch(1.0, count=20)
    _, gradient = evaluate(loss, targeted, z, y, target)
    wide = z.astype(np.float64)
    numeric = np.zeros_like(wide)
    for k in range(z.shape[1]):
        step = np.zeros(z.shape[1])
        step[k] = 1e-6
        numeric[:, k] = (
            expected(loss, targeted, wide + step, y, target)
            - expected(loss, targeted, wide - step, y, target)
        ) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loss, targeted", NAMES)
def test_gradient_is_finite_and_knows_no_common_shift(loss, targeted, scale):
    z, y, target = batch(scale)
    # Ties of the largest, of the third with the fourth, and of all.
    z[0] = scale
    z[1] = 0.0
    z[2, :5] = 2 * scale
    z[3, :] = np.sort(z[3])
    z[3, 5:9] = z[3, 9]
    y[:4], target[:4] = 0, 1
    values, gradient = evaluate(loss, targeted, z, y, target)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    size = np.abs(gradient).max(-1)
    assert (np.abs(gradient.sum(-1)) <= 1e-6 * np.maximum(size, 1.0)).all()


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_equal_logits_have_the_value_of_a_tie(loss, targeted):
    z = np.full((2, 6), 3.0, np.float32)
    y, target = np.array([0, 5], np.int32), np.array([1, 2], np.int32)
    values, _ = evaluate(loss, targeted, z, y, target)
    tie = {"cross_entropy": np.log(6), "log_odds": np.log(5)}.get(loss, 0.0)
    np.testing.assert_allclose(values, -tie if targeted else tie, atol=1e-6)


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_every_objective_pushes_the_logits_the_right_way(loss, targeted):
    z, y, target = batch(1.0)
    y = z.argmax(-1).astype(np.int32)
    target = np.where(target == y, z.argmin(-1), target).astype(np.int32)
    _, gradient = evaluate(loss, targeted, z, y, target)
    rows = np.arange(len(z))
    if targeted:
        assert (gradient[rows, target] > 0).all()
    else:
        assert (gradient[rows, y] < 0).all()


@pytest.mark.parametrize("loss", ["margin", "dlr"])
@pytest.mark.parametrize("targeted", [False, True])
def test_margin_and_dlr_keep_a_gradient_at_large_logits(loss, targeted):
    z, y, target = batch(1e4)
    y = z.argmax(-1).astype(np.int32)
    target = z.argmin(-1).astype(np.int32)
    _, gradient = evaluate(loss, targeted, z, y, target)
    assert (np.abs(gradient).max(-1) > 0).all()


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("scale", [2.0**-14, 2.0**14])
def test_dlr_is_free_of_scale(targeted, scale):
    z, y, target = batch(1.0)
    values, gradient = evaluate("dlr", targeted, z, y, target)
    scaled, scaled_gradient = evaluate("dlr", targeted, scale * z, y, target)
    np.testing.assert_allclose(scaled, values, rtol=1e-6)
    np.testing.assert_allclose(
        scale * scaled_gradient, gradient, rtol=1e-5, atol=1e-6
    )


def test_margin_is_positive_exactly_where_misclassified():
    z, y, target = batch(1.0)
    y[:50] = z[:50].argmax(-1)
    values, _ = evaluate("margin", False, z, y, target)
    np.testing.assert_array_equal(values > 0, z.argmax(-1) != y)
    values, _ = evaluate("margin", True, z, y, y)
    np.testing.assert_array_equal(values > 0, z.argmax(-1) == y)


def test_two_classes_suffice_for_all_but_dlr():
    z, y, target = batch(1.0, classes=2)
    for loss in ("cross_entropy", "log_odds", "margin"):
        values, gradient = evaluate(loss, False, z, y, target)
        np.testing.assert_allclose(
            values, expected(loss, False, z, y, target), atol=1e-6
        )
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_no_image_depends_on_its_neighbours(loss, targeted):
    z, y, target = batch(1.0, count=6)
    whole = evaluate(loss, targeted, z, y, target)
    for i in range(6):
        part = slice(i, i + 1)
        alone = evaluate(loss, targeted, z[part], y[part], target[part])
        np.testing.assert_allclose(alone[0], whole[0][part], rtol=1e-6)
        np.testing.assert_allclose(
            alone[1], whole[1][part], rtol=1e-5, atol=1e-7
        )


def softmax(z):
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(z):
    z = np.asarray(z, np.float64)
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.mark.parametrize("scale", SCALES)
def test_kl_is_that_of_the_definition(scale):
    clean, other = batch(scale, seed=1)[0], batch(scale, seed=2)[0]
    values, gradient = value_and_gradient(
        lambda z: objectives.kl_divergence(clean, z), other
    )
    reference = softmax(clean) * (log_softmax(clean) - log_softmax(other))
    np.testing.assert_allclose(
        values, reference.sum(-1), rtol=1e-5, atol=1e-6 * max(1, scale)
    )
    np.testing.assert_allclose(
        gradient, softmax(other) - softmax(clean), rtol=1e-3, atol=1e-6
    )


def test_kl_of_equal_logits_is_zero_and_flat():
    z = batch(1.0)[0]
    values, gradient = value_and_gradient(
        lambda logits: objectives.kl_divergence(z, logits), z
    )
    np.testing.assert_allclose(values, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_kl_is_finite_where_probabilities_vanish():
    clean = np.array([[1e4, 0.0, -1e4]], np.float32)
    values, gradient = value_and_gradient(
        lambda z: objectives.kl_divergence(clean, z), -clean
    )
    np.testing.assert_allclose(values, [2e4], rtol=1e-6)
    assert np.isfinite(gradient).all()


def boosted(z, y):
    """MART's BCE by its definition, one image at a time, in float64."""
    p = np.exp(np.float64(z) - np.float64(z).max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    rows = np.arange(len(y))
    rivals = p.copy()
    rivals[rows, y] = 0
    return -np.log(p[rows, y]) - np.log(1 - rivals.max(-1))


@pytest.mark.parametrize("classes", [2, 10])
def test_boosted_cross_entropy_is_that_of_the_definition(classes):
    z, y, _ = batch(1.0, classes=classes)
    values, gradient = value_and_gradient(
        lambda logits: objectives.boosted_cross_entropy(logits, y), z
    )
    np.testing.assert_allclose(values, boosted(z, y), rtol=1e-5)
    numeric = np.zeros(z.shape)
    for k in range(classes):
        step = np.zeros(classes)
        step[k] = 1e-6
        numeric[:, k] = (boosted(z + step, y) - boosted(z - step, y)) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-5)


def test_boosted_cross_entropy_is_finite_where_a_probability_is_one():
    z = np.array([[0.0, 2e4, -1e4], [1e4, 0.0, 0.0]], np.float32)
    values, gradient = value_and_gradient(
        lambda logits: objectives.boosted_cross_entropy(logits, [0, 0]), z
    )
    np.testing.assert_allclose(values, [4e4, 0.0], rtol=1e-6)
    # Of the first: all the weight from class 1 to class 0, twice.
    np.testing.assert_allclose(gradient, [[-2, 2, 0], [0, 0, 0]], atol=1e-6)


def test_objectives_take_labels_of_any_integer_type():
    z, y, target = batch(1.0, count=5)
    for kind in ("uint8", "int64"):
        labels = keras.ops.convert_to_tensor(y.astype(kind))
        np.testing.assert_allclose(
            to_numpy(
                objectives.cross_entropy(ops.convert_to_tensor(z), labels)
            ),
            expected("cross_entropy", False, z, y, target),
            rtol=1e-5,
        )


@pytest.mark.parametrize("loss", ["kl", None, ["dlr"]])
def test_get_refuses_what_is_no_loss(loss):
    with pytest.raises(ValueError) as error:
        objectives.get(loss)
    assert str(error.value) == (
        "Invalid value for argument `loss`. Expected one of ['cross_entropy',"
        f" 'dlr', 'margin']. Received: loss={loss!r}"
    )
