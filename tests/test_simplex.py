import doctest
import math

import numpy as np
import pytest
from helpers import message_of
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_wp import simplex

NUM_CLASSES_SENTENCE = (
    "`num_classes`, the number of classes, must be an integer of at least 2. "
    "Received: num_classes={}"
)
S_SENTENCE = "`s` must be a finite number greater than 0. Received: s={}"


@st.composite
def simplex_arguments(draw):
    num_classes = draw(st.integers(2, 40))
    dim = draw(st.integers(num_classes - 1, 80))
    return num_classes, dim, draw(st.floats(1e-3, 1e3))


def test_gram_is_sigma_of_3_7():
    expected = [
        [0.04, -0.02, -0.02],
        [-0.02, 0.04, -0.02],
        [-0.02, -0.02, 0.04],
    ]
    np.testing.assert_allclose(simplex.gram(3, 0.2), expected, rtol=1e-15)


@given(simplex_arguments())
def test_vertices_have_the_gram_matrix(arguments):
    num_classes, dim, s = arguments
    weights = simplex.vertices(num_classes, dim, s)
    assert weights.shape == (num_classes, dim)
    assert weights.dtype == np.float64
    np.testing.assert_allclose(
        weights @ weights.T, simplex.gram(num_classes, s), atol=1e-14 * s**2
    )


@given(simplex_arguments())
def test_vertices_sum_to_zero(arguments):
    num_classes, dim, s = arguments
    total = simplex.vertices(num_classes, dim, s).sum(axis=0)
    np.testing.assert_allclose(total, np.zeros(dim), atol=1e-13 * s)


@given(simplex_arguments())
def test_min_angle_of_vertices_is_the_ideal_angle(arguments):
    angle = simplex.min_angle(simplex.vertices(*arguments).T)
    # The arc cosine loses half of the digits at pi, where K = 2 ends up.
    assert angle == pytest.approx(simplex.ideal_angle(arguments[0]), abs=1e-7)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(0, 12))
def test_no_kernel_has_a_larger_min_angle_than_the_ideal(seed, classes, more):
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((classes - 1 + more, classes))
    assert simplex.min_angle(kernel) <= simplex.ideal_angle(classes) + 1e-7


@pytest.mark.parametrize(
    ("num_classes", "degrees"), [(2, 180.0), (3, 120.0), (4, 109.4712206)]
)
def test_ideal_angle_of_familiar_simplices(num_classes, degrees):
    angle = math.degrees(simplex.ideal_angle(num_classes))
    assert angle == pytest.approx(degrees, abs=1e-6)


def test_min_angle_is_that_of_the_closest_pair_whatever_the_lengths():
    directions = np.radians([0.0, 170.0, 200.0])
    kernel = np.stack([np.cos(directions), np.sin(directions)])
    angle = simplex.min_angle(kernel * [0.1, 7.0, 300.0])
    assert angle == pytest.approx(math.radians(30.0), abs=1e-12)


def test_min_angle_of_a_tensor_of_the_backend(rng):
    kernel = rng.standard_normal((6, 4)).astype("float32")
    expected = simplex.min_angle(kernel)
    assert simplex.min_angle(ops.convert_to_tensor(kernel)) == expected


def test_min_angle_of_a_bfloat16_tensor_is_that_of_its_values(rng):
    kernel = ops.cast(rng.standard_normal((6, 4)), "bfloat16")
    expected = simplex.min_angle(ops.cast(kernel, "float32"))
    assert simplex.min_angle(kernel) == expected


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_min_angle_is_nan_when_a_class_weight_has_no_direction(value):
    kernel = np.eye(3)
    kernel[:, 1] = value
    assert math.isnan(simplex.min_angle(kernel))


def test_feature_angles_match_equation_3_3(rng):
    features = rng.standard_normal((20, 7))
    kernel = rng.standard_normal((7, 5))
    labels = rng.integers(0, 5, 20)
    angles = simplex.feature_angles(features, kernel, labels)
    assert angles.shape == (20, 5)
    for f, label, row in zip(features, labels, angles, strict=True):
        for other in range(5):
            if other == label:
                assert math.isnan(row[other])
                continue
            difference = kernel[:, label] - kernel[:, other]
            product = np.linalg.norm(difference) * np.linalg.norm(f)
            assert product * math.cos(row[other]) == pytest.approx(
                difference @ f, abs=1e-12
            )


def test_feature_angles_under_a_right_angle_mean_classified_as_the_label(rng):
    features = rng.standard_normal((200, 7))
    kernel = rng.standard_normal((7, 5))
    labels = rng.integers(0, 5, 200)
    angles = simplex.feature_angles(features, kernel, labels)
    classified = np.nanmax(angles, axis=1) < math.pi / 2
    np.testing.assert_array_equal(
        classified, (features @ kernel).argmax(axis=1) == labels
    )
    assert 0 < classified.sum() < 200


def test_feature_angles_at_the_center_of_a_class_leave_half_the_class_angle():
    kernel = simplex.vertices(10, 16, 0.1).T
    angles = simplex.feature_angles(kernel.T, kernel, np.arange(10))
    expected = np.full(10, math.pi / 2 - simplex.ideal_angle(10) / 2)
    np.testing.assert_allclose(np.nanmax(angles, axis=1), expected, atol=1e-12)


def test_feature_angles_that_do_not_exist_are_nan():
    kernel = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    features = np.array([[0.0, 0.0], [1.0, 0.0]])
    angles = simplex.feature_angles(features, kernel, np.array([0, 0]))
    expected = [[np.nan, np.nan, np.nan], [np.nan, np.nan, math.pi / 4]]
    np.testing.assert_allclose(angles, expected, atol=1e-12)


def test_feature_angles_of_no_examples_are_empty():
    angles = simplex.feature_angles(
        np.zeros((0, 2)), np.eye(2), np.zeros(0, "int32")
    )
    assert angles.shape == (0, 2)


@pytest.mark.parametrize("num_classes", [1, 0, -3, 2.0, "10", None])
@pytest.mark.parametrize(
    "function",
    [
        lambda k: simplex.gram(k, 0.1),
        lambda k: simplex.vertices(k, 4, 0.1),
        simplex.ideal_angle,
    ],
)
def test_wrong_number_of_classes_is_refused(function, num_classes):
    expected = NUM_CLASSES_SENTENCE.format(repr(num_classes))
    assert message_of(function, num_classes) == expected


@pytest.mark.parametrize("s", [0, -0.1, math.nan, math.inf, "0.1", None])
@pytest.mark.parametrize(
    "function",
    [lambda s: simplex.gram(3, s), lambda s: simplex.vertices(3, 4, s)],
)
def test_wrong_length_is_refused(function, s):
    assert message_of(function, s) == S_SENTENCE.format(repr(s))


@pytest.mark.parametrize("dim", [3, 0, 8.0])
def test_vertices_in_too_few_dimensions_are_refused(dim):
    assert message_of(simplex.vertices, 5, dim, 0.1) == (
        "`dim`, the number of features, must be an integer of at least "
        f"`num_classes - 1`. Received: num_classes=5, dim={dim}"
    )


@pytest.mark.parametrize("shape", [(), (4,), (3, 3, 8, 8)])
@pytest.mark.parametrize(
    "function",
    [simplex.min_angle, lambda k: simplex.feature_angles(np.eye(4), k, [0])],
)
def test_kernel_of_wrong_rank_is_refused(function, shape):
    assert message_of(function, np.ones(shape)) == (
        "A kernel must be of rank 2, with shape (features, classes). "
        f"Received: shape={shape}"
    )


def test_min_angle_of_a_single_class_is_refused():
    expected = NUM_CLASSES_SENTENCE.format(1)
    assert message_of(simplex.min_angle, np.ones((4, 1))) == expected


def test_features_that_do_not_fit_the_kernel_are_refused():
    args = np.ones((2, 3)), np.ones((4, 5)), np.array([0, 1])
    assert message_of(simplex.feature_angles, *args) == (
        "`features` must have shape (examples, 4) to fit `kernel`. "
        "Received: features.shape=(2, 3), kernel.shape=(4, 5)"
    )


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        (np.eye(2), "labels.shape=(2, 2), labels.dtype=float64"),
        (np.array([0.0, 1.0]), "labels.shape=(2,), labels.dtype=float64"),
        (np.array([0, 1, 1]), "labels.shape=(3,), labels.dtype=int64"),
    ],
)
def test_labels_that_are_not_integers_of_one_axis_are_refused(labels, received):
    args = np.ones((2, 4)), np.ones((4, 5)), labels
    assert message_of(simplex.feature_angles, *args) == (
        "`labels` must be integers of shape (2,) to fit `features`. "
        f"Received: {received}"
    )


@pytest.mark.parametrize("labels", [[0, 5], [-1, 4]])
def test_labels_that_are_no_classes_are_refused(labels):
    args = np.ones((2, 4)), np.ones((4, 5)), np.array(labels)
    assert message_of(simplex.feature_angles, *args) == (
        "`labels` must be classes from 0 to 4. "
        f"Received: labels from {labels[0]} to {labels[1]}"
    )


def test_examples_of_the_docstrings():
    results = doctest.testmod(simplex)
    assert results.attempted > 0
    assert results.failed == 0
