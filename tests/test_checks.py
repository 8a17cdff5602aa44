import warnings

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, tiny_cnn, to_numpy
from keras import ops

from keras_wp import _checks
from keras_wp.attacks import FGSM, PGD

pytestmark = pytest.mark.once


ATTACKS = [
    FGSM(eps=0.1),
    PGD(eps=0.1, steps=2),
    PGD(eps=0.1, steps=2, targeted=True),
]


@pytest.fixture
def x():
    return random_images(4)


@pytest.fixture
def y():
    return np.array([0, 1, 2, 3])


def test_images_come_back_as_float32_within_the_bounds(x):
    np.testing.assert_array_equal(_checks.images(x, (0.0, 1.0)), x)
    wide = _checks.images(x.astype(np.float64), (0.0, 1.0))
    assert wide.dtype == np.float32


def test_images_of_any_size_that_the_model_takes():
    layers = [
        keras.layers.Conv2D(4, 3),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5),
    ]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    _checks.image_shape(model, (12, 12, 3))
    assert message_of(_checks.image_shape, model, (12, 12, 1)) == (
        "The model takes images of the shape (8, 8, 3). Received: images of "
        "the shape (12, 12, 1)"
    )
    flexible = keras.Input((None, None, 3))
    functional = keras.Model(flexible, keras.Sequential(layers)(flexible))
    told = message_of(_checks.image_shape, model, (8, 3))
    assert told.endswith("images of the shape (8, 3) (in batches?)")
    _checks.image_shape(functional, (9, 7, 3))
    _checks.image_shape(lambda x: x, (3,))
    grey = tiny_cnn()
    _checks.image_shape(grey, grey.input_shape[1:-1])


def test_pixels_may_miss_the_bounds_by_rounding(x):
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 1 + 9e-7, -9e-7
    checked = _checks.images(x, (0.0, 1.0))
    assert checked[0, 0, 0, 0] == 1.0
    assert checked[1, 0, 0, 0] == 0.0


def test_bfloat16_counts_as_floating_point(x):
    coarse = to_numpy(ops.cast(ops.convert_to_tensor(x), "bfloat16"))
    checked = _checks.images(coarse, (0.0, 1.0))
    np.testing.assert_array_equal(checked, coarse.astype(np.float32))


@pytest.mark.once
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda x: x > 0.5,
            "Images must be floating-point numbers within the bounds (0.0, "
            "1.0). Received: dtype bool with values from False to True",
        ),
        (
            lambda x: np.where(x == x[2], np.nan, x),
            "Images must be finite. Received: NaN or infinity in 1 of 4 images",
        ),
        (
            lambda x: np.where(x == x[1, 0], np.inf, x),
            "Images must be finite. Received: NaN or infinity in 1 of 4 images",
        ),
        (
            lambda x: x * 0 + np.linspace(0, 255, 36).reshape(6, 6, 1),
            "Images must lie within the bounds (0.0, 1.0). Received: values "
            "from 0 to 255 (up to 255? then inputs=keras_wp.Inputs(bounds=(0, "
            "255)))",
        ),
        (
            lambda x: x * 0 - 2e-6,
            "Images must lie within the bounds (0.0, 1.0). Received: values "
            "from -2e-06 to -2e-06",
        ),
        (
            lambda x: x[:0],
            "Images must have the shape (N, ...) with N at least 1. Received: "
            "shape (0, 6, 6, 1)",
        ),
        (
            lambda x: x[:, 0, 0, 0],
            "Images must have the shape (N, ...) with N at least 1. Received: "
            "shape (4,)",
        ),
    ],
    ids=["truth values", "nan", "infinity", "0-255", "below", "none", "flat"],
)
def test_bad_images_are_refused(x, y, attack, spoil, message):
    assert message_of(attack, tiny_cnn(), spoil(x), y) == message


def test_bounds_are_the_attacks_own(x, y):
    attack = FGSM(eps=0.1, bounds=(-0.5, 0.5))
    assert message_of(attack, tiny_cnn(), x * 0 + 0.75, y) == (
        "Images must lie within the bounds (-0.5, 0.5). Received: values from "
        "0.75 to 0.75"
    )


@pytest.mark.once
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "labels, message",
    [
        (
            0.9 * np.eye(5)[:4] + 0.02,
            "Labels must be integers of the shape (4,). Received: shape (4, "
            "5) (probabilities? take their argmax)",
        ),
        (
            np.array([0, 1, 2]),
            "Labels must be integers of the shape (4,). Received: shape (3,)",
        ),
        (
            np.array([0, 1, 2, 5]),
            "Labels must lie in [0, 5), as the model has 5 classes. Received: "
            "labels from 0 to 5",
        ),
        (
            np.array([-1, 1, 2, 4]),
            "Labels must lie in [0, 5), as the model has 5 classes. Received: "
            "labels from -1 to 4",
        ),
        (
            np.array([0.0, 0.5, 1.0, 2.0]),
            "Labels must be integers. Received: dtype float64",
        ),
        (
            np.array([0.0, 1.0, 2.0, np.inf]),
            "Labels must be integers. Received: dtype float64",
        ),
        (
            np.array([0.0, 1.0, 2.0, np.nan]),
            "Labels must be integers. Received: dtype float64",
        ),
        (
            np.array([True, False, True, True]),
            "Labels must be integers. Received: dtype bool",
        ),
    ],
    ids=["soft", "short", "above", "below", "halves", "inf", "nan", "bool"],
)
def test_bad_labels_are_refused(x, attack, labels, message):
    assert message_of(attack, tiny_cnn(), x, labels) == message


@pytest.mark.parametrize(
    "labels, received",
    [
        (None, "none"),
        (np.array(3), "shape ()"),
        (np.eye(3), "shape (3, 3) (one-hot labels? take their argmax)"),
        (np.zeros((3, 1, 1)), "shape (3, 1, 1)"),
    ],
    ids=["none", "one", "one-hot", "three axes"],
)
def test_a_batch_needs_a_label_for_each_image(labels, received):
    assert message_of(_checks.batch_labels, labels) == (
        f"Labels must be integers of the shape (N,). Received: {received}"
    )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of graphs of TensorFlow"
)
@pytest.mark.parametrize("shape", [None, (None,), (None, None), (None, 1)])
def test_shapes_that_a_graph_does_not_know_are_taken(shape):
    import tensorflow as tf

    labels = tf.function(
        _checks.batch_labels, input_signature=[tf.TensorSpec(shape, tf.int64)]
    )
    given = np.array([2, 0]).reshape([2, 1] if shape == (None, 1) else [2])
    if shape == (None, None):
        one_hot = np.eye(3, dtype=int)[given]
        np.testing.assert_array_equal(labels(one_hot), [2, 0])
        given = given[:, None]
    np.testing.assert_array_equal(labels(given), [2, 0])


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 3],
        np.array([0, 1, 2, 3], np.uint8),
        np.array([0.0, 1.0, 2.0, 3.0]),
        np.array([[0], [1], [2], [3]]),
        np.eye(5)[:4],
        np.eye(5, dtype=bool)[:4],
    ],
    ids=["list", "uint8", "whole floats", "column", "one-hot", "bits"],
)
def test_whole_numbers_are_labels_in_any_form(labels):
    checked = _checks.labels(labels, 4, 5)
    assert checked.dtype == np.int32
    np.testing.assert_array_equal(checked, [0, 1, 2, 3])


@pytest.mark.parametrize("attack", ATTACKS)
def test_weights_that_are_not_finite_are_named(x, y, attack):
    model = tiny_cnn()
    kernel = model.layers[-1].kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    expected = (
        "The model's weights must be finite. Received: NaN or infinity in "
        f"{kernel.path!r}"
    )
    assert message_of(attack, model, x, y) == expected
    bias = model.layers[-1].bias
    bias.assign(np.full(bias.shape, np.inf))
    assert message_of(attack, model, x, y) == expected + " and 1 more"


@pytest.mark.parametrize("attack", ATTACKS[1:])
def test_logits_that_are_not_finite_are_counted(x, y, attack):
    model = tiny_cnn()
    x[1:3, 0, 0, 0] = 0.0

    def broken(x):
        # NaN for an image whose first pixel is black.
        return model(x) + 0 * ops.log(x[:, 0, 0, :])

    assert message_of(attack, broken, x, y) == (
        "The model's logits must be finite. Received: NaN or infinity for 2 "
        "of 4 clean images"
    )


@pytest.mark.parametrize("attack", ATTACKS[:2])
def test_gradients_that_are_not_finite_are_warned_of(x, attack):
    model = tiny_cnn()

    def broken(x):
        # The root's slope at 0 is infinite. One logit has it: in the sum of
        # all, the loss's derivatives cancel.
        first = x[:, 0, 0, :]
        root = ops.sqrt(first - ops.stop_gradient(first))
        return model(x) + root * ops.one_hot(0, model.output_shape[-1])

    y = to_numpy(broken(ops.convert_to_tensor(x))).argmax(-1)
    with pytest.warns(UserWarning) as caught:
        attack(broken, x, y)
    assert [str(w.message) for w in caught] == [
        f"{attack.label} met gradients that are not finite on 4 of 4 images "
        "and took them for zero: it may miss adversarial images."
    ]


def test_sound_input_meets_no_warning(x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for attack in ATTACKS:
            assert attack(tiny_cnn(), x, y).shape == x.shape
