"""What layers refuse, and how they are saved."""

import doctest

import keras
import numpy as np
import pytest
from helpers import message_of
from keras import ops

import keras_wp
from keras_wp import RobustHead, layers, simplex
from keras_wp.layers import MaxMahalanobisHead

pytestmark = pytest.mark.once


@pytest.mark.parametrize("units", [1, 0, 10.0, "10"])
def test_wrong_number_of_classes_is_refused(units):
    assert message_of(RobustHead, units) == (
        "`units`, the number of classes, must be an integer of at least 2. "
        f"Received: units={units!r}"
    )


def test_wrong_length_is_refused():
    assert message_of(RobustHead, 10, s=0) == (
        "`s` must be a finite number greater than 0. Received: s=0"
    )


def test_wrong_weight_is_refused():
    assert message_of(RobustHead, 10, alpha=-1) == (
        "`alpha` must be a finite number of at least 0. Received: alpha=-1"
    )


def test_too_few_features_are_refused():
    assert message_of(RobustHead(10).build, (None, 8)) == (
        "`dim`, the number of features, must be an integer of at least "
        "`num_classes - 1`. Received: num_classes=10, dim=8"
    )


def test_unknown_number_of_features_is_refused():
    assert message_of(RobustHead(10).build, (None, None)) == (
        "`RobustHead` must know the number of features, the last axis of its "
        "input. Received: input_shape=(None, None)"
    )


def test_examples_of_the_docstrings():
    results = doctest.testmod(layers, extraglobs={"np": np})
    assert results.attempted > 0
    assert results.failed == 0


def original_centers(units, features):
    """Unit centers as the authors' `craft_MMcenters.m` builds them."""
    mu = np.zeros((units, features))
    mu[0, 0] = 1
    for k in range(1, units):
        for j in range(k):
            mu[k, j] = -(1 / (units - 1) + mu[k] @ mu[j]) / mu[j, j]
        if k < features:
            mu[k, k] = np.sqrt(np.abs(1 - np.linalg.norm(mu[k]) ** 2))
    return mu


@pytest.mark.parametrize("units, features", [(10, 64), (4, 3), (2, 1)])
def test_centers_are_a_simplex(units, features):
    head = MaxMahalanobisHead(units)
    head.build((None, features))
    assert head.centers.shape == (units, features)
    np.testing.assert_allclose(
        head.centers.astype("float64") @ head.centers.T,
        simplex.gram(units, 10.0),
        atol=1e-4,
    )


def test_logits_and_loss_are_the_authors(rng):
    units, features = 10, 64
    head = MaxMahalanobisHead(units)
    z = rng.standard_normal((20, features)).astype("float32") * 5
    logits = np.asarray(ops.convert_to_numpy(head(z)))
    # The authors' centers are ours in other coordinates.
    theirs = 10 * original_centers(units, features)
    u, _, v = np.linalg.svd(head.centers.astype("float64").T @ theirs)
    turned = z.astype("float64") @ (u @ v)
    expected = -((turned[:, None] - theirs) ** 2).sum(-1)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    np.testing.assert_array_equal(logits.argmax(-1), expected.argmax(-1))
    y = rng.integers(0, units, 20)
    one_hot = np.eye(units)[y]
    loss = keras_wp.losses.MaxMahalanobisCenter()(y, logits)
    dot_loss = -(expected * one_hot).sum(-1).mean()
    np.testing.assert_allclose(float(loss), dot_loss, rtol=1e-5)


def test_logits_are_exact_at_a_center():
    head = MaxMahalanobisHead(5)
    head.build((None, 8))
    logits = np.asarray(ops.convert_to_numpy(head(head.centers)))
    np.testing.assert_array_equal(np.diag(logits), 0)
    assert logits[~np.eye(5, dtype=bool)].max() < -200


def test_multi_target_attack_finds_the_centers():
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
            MaxMahalanobisHead(3, scale=1.0),
        ]
    )
    halves = keras_wp.inspection.features.cut(model)
    centers, given = halves.centers()
    assert given
    np.testing.assert_allclose(
        np.asarray(ops.convert_to_numpy(centers)),
        simplex.vertices(3, 6, 1.0),
        atol=1e-6,
    )
    x = np.full((2, 2, 2, 1), 0.5, "float32")
    y = np.asarray(ops.convert_to_numpy(model(x))).argmax(-1)
    attack = keras_wp.attacks.MultiTarget(eps=0.5, steps=3)
    assert attack(model, x, y).shape == x.shape


def test_center_head_has_no_weights_and_a_known_shape():
    head = MaxMahalanobisHead(3)
    assert head.compute_output_shape((None, 8)) == (None, 3)
    head.build((None, 8))
    assert head.weights == []


@pytest.mark.parametrize(
    "policy, dtype", [("mixed_bfloat16", "bfloat16"), ("float32", "float32")]
)
def test_center_head_follows_the_dtype_policy(policy, dtype):
    head = MaxMahalanobisHead(3, dtype=policy)
    logits = head(np.zeros((2, 4), "float32"))
    assert keras.backend.standardize_dtype(logits.dtype) == dtype


def test_config_makes_an_equal_center_head():
    head = MaxMahalanobisHead(4, scale=3.0, name="mmc", dtype="float32")
    again = MaxMahalanobisHead.from_config(head.get_config())
    assert again.get_config() == head.get_config()
    assert (again.units, again.scale, again.name) == (4, 3.0, "mmc")


def test_wrong_arguments_of_a_center_head_are_refused():
    assert message_of(MaxMahalanobisHead, 1) == (
        "`units`, the number of classes, must be an integer of at least 2. "
        "Received: units=1"
    )
    assert message_of(MaxMahalanobisHead, 3, scale=0) == (
        "`scale` must be a finite number greater than 0. Received: scale=0"
    )
    assert message_of(MaxMahalanobisHead(10).build, (None, 8)) == (
        "`dim`, the number of features, must be an integer of at least "
        "`num_classes - 1`. Received: num_classes=10, dim=8"
    )
    assert message_of(MaxMahalanobisHead(3).build, (None, None)) == (
        "`MaxMahalanobisHead` must know the number of features, the last axis "
        "of its input. Received: input_shape=(None, None)"
    )
