import dataclasses

import keras
import numpy as np
import pytest
from helpers import (
    CenterHead,
    linear_logits,
    linear_model,
    predictions,
    random_images,
    tiny_cnn,
)
from keras import ops

from keras_wp import _noise
from keras_wp.attacks import MultiTarget
from keras_wp.attacks.base import Attack
from keras_wp.engine import stream

pytestmark = pytest.mark.once


def center_model(centers):
    inputs = keras.Input((len(centers[0]),))
    return keras.Model(inputs, CenterHead(centers)(inputs))


def outcomes(attack, model, x, y, examine_last=True):
    logits = ops.convert_to_numpy(model(ops.convert_to_tensor(x)))
    keys = _noise.seeded(_noise.image_digests(x), 0, attack.seed)
    images = [
        stream.Image(i, x[i], int(y[i]), int(y[i]), keys[i], logits[i])
        for i in range(len(x))
    ]
    found = stream.run(
        attack, model, images, batch_size=len(x), examine_last=examine_last
    )
    return sorted(found)


def test_center_ends_at_the_nearest_point_of_the_ball():
    # The distance to a center within a cube is least where each coordinate is.
    centers = [[0.0] * 4, [1.0, 1.0, 0.05, -1.0], [9.0] * 4]
    model = center_model(centers)
    x = np.full((1, 4), 0.1, np.float32)
    attack = MultiTarget(eps=0.1, steps=40, step_size=0.005, targets=1)
    found = attack(model, x, np.zeros(1, np.int32))
    expected = np.clip(centers[1], 0.0, 0.2)
    np.testing.assert_allclose(found[0], expected, atol=0.006)


def test_class_mean_ends_at_the_nearest_point_of_the_ball(rng):
    kernel = 1e-3 * rng.normal(size=(4, 2)).astype(np.float32)
    model = linear_model(kernel, np.array([5.0, 0.0], np.float32))
    means = [[0.0] * 4, [0.9, 0.58, 0.5, 0.1]]
    attack = MultiTarget(
        eps=0.1,
        steps=40,
        step_size=0.005,
        loss="class_mean",
        class_means=means,
    )
    x = np.full((1, 4), 0.5, np.float32)
    found = attack(model, x, np.zeros(1, np.int32))
    expected = [0.6, 0.58, 0.5, 0.4]
    np.testing.assert_allclose(found[0], expected, atol=0.006)


@pytest.mark.parametrize("loss", ["center", "margin"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_decides_as_the_closed_form_for_two_classes(rng, loss, norm):
    kernel = rng.normal(size=(40, 2)).astype(np.float32)
    # The mean of class weights takes no part in a decision.
    kernel -= kernel.mean(1, keepdims=True)
    x = rng.uniform(0.4, 0.6, (32, 40)).astype(np.float32)
    bias = -x.mean(0) @ kernel
    logits = linear_logits(kernel, bias, x)
    y = logits.argmax(-1)
    gap = np.abs(logits[:, 0] - logits[:, 1])
    dual = np.linalg.norm(
        kernel[:, 0] - kernel[:, 1], ord=1 if norm == "linf" else 2
    )
    eps = float(np.median(gap) / dual)
    attack = MultiTarget(eps=eps, steps=40, loss=loss, norm=norm)
    found = attack(linear_model(kernel, bias), x, y)
    fooled = predictions(linear_model(kernel, bias), found) != y
    if loss == "margin":
        np.testing.assert_array_equal(fooled, gap < eps * dual)
    else:
        # Angles are lowered also by shortening the features, which moves
        # nothing towards the boundary.
        assert not (fooled & (gap > eps * dual)).any()
        assert fooled.any()


def test_every_class_is_aimed_at(rng):
    # Only the class that is the least likely on the image can be reached.
    kernel = np.zeros((6, 4), np.float32)
    kernel[:, 3] = 5.0
    bias = np.array([3.0, 2.9, 2.8, -13.0], np.float32)
    model = linear_model(kernel, bias)
    x = np.full((2, 6), 0.5, np.float32)
    y = np.zeros(2, np.int32)
    attack = MultiTarget(eps=0.1, steps=10, loss="margin")
    few = MultiTarget(eps=0.1, steps=10, loss="margin", targets=2)
    assert (predictions(model, attack(model, x, y)) == 3).all()
    assert (predictions(model, few(model, x, y)) == 0).all()


def test_targets_come_in_the_order_of_the_clean_logits():
    centers = [[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]
    model = center_model(centers)
    x, y = np.full((1, 2), 0.2, np.float32), np.zeros(1, np.int32)
    first = MultiTarget(eps=0.1, steps=20, targets=1)(model, x, y)
    both = MultiTarget(eps=0.1, steps=20)(model, x, y)
    np.testing.assert_allclose(first[0], [0.3, 0.1], atol=0.02)
    # The last try is the one for the class of the lowest logit.
    np.testing.assert_allclose(both[0], [0.1, 0.3], atol=0.02)


def test_restarts_follow_when_every_target_has_been_tried():
    model = tiny_cnn(num_classes=5)
    attack = MultiTarget(
        eps=1e-6, steps=3, targets=2, restarts=3, random_start=True
    )
    x = np.random.default_rng(0).uniform(size=(4, 6, 6, 1))
    x = x.astype(np.float32)
    found = outcomes(attack, model, x, predictions(model, x))
    assert attack.runs(5) == 6
    # An earlier run has its last point examined by one step more.
    assert [outcome.steps for outcome in found] == [6 * 3 + 5] * 4


def test_an_image_is_done_at_its_first_success(rng):
    kernel = rng.normal(size=(10, 2)).astype(np.float32)
    model = linear_model(kernel)
    x = rng.uniform(size=(8, 10)).astype(np.float32)
    y = predictions(model, x)
    attack = MultiTarget(eps=1.0, steps=20, step_size=1.0, loss="margin")
    assert {outcome.steps for outcome in outcomes(attack, model, x, y)} == {2}


# Between the centers 0 and 10, moving away from the third at -1 leads to 10.
LINE = [[0.0], [10.0], [-1.0]]


# Wherever in these bounds a run starts, the target at -1 is to the left.
BOUNDS = (-0.4, 20.0)


def published(**arguments):
    return MultiTarget(
        eps=4.5,
        step_size=9.0,
        bounds=BOUNDS,
        published_sign=True,
        **arguments,
    )


def test_the_published_sign_moves_away_from_the_target():
    x, y = np.full((1, 1), 0.4, np.float32), np.zeros(1, np.int32)
    model = center_model(LINE)
    away = published(steps=1, targets=1)
    (outcome,) = outcomes(away, model, x, y)
    np.testing.assert_allclose(outcome.x_adv, [4.9], atol=1e-6)
    toward = MultiTarget(
        eps=4.5, step_size=9.0, bounds=BOUNDS, steps=1, targets=1
    )
    (outcome,) = outcomes(toward, model, x, y)
    np.testing.assert_allclose(outcome.x_adv, [-0.4], atol=1e-6)


def test_the_published_sign_takes_features_and_weights_as_they_are(rng):
    # The features are the pixels, so that a step of length eps or more ends at
    # the corner of the ball that is farthest from the weights of the target.
    kernel = rng.normal(0.5, 0.3, (6, 4)).astype(np.float32)
    model = linear_model(kernel)
    x = random_images(30, (6,), low=0.3, high=0.7)
    clean = linear_logits(kernel, 0, x)
    y = clean.argmax(1).astype(np.int32)
    eps, steps = 0.01, 1
    attack = MultiTarget(
        eps=eps, steps=steps, step_size=1.0, targets=1, published_sign=True
    )
    found = sorted(outcomes(attack, model, x, y))
    assert not all(outcome.success for outcome in found)
    target = clean.argsort(1)[:, -2]
    delta = x - kernel[:, target].T
    # Where the sign is the same at each point where a run may start.
    clear = np.abs(delta) > eps
    assert clear.mean() > 0.8
    x_adv = np.array([outcome.x_adv for outcome in found])
    resisted = np.array([not outcome.success for outcome in found])
    corner = x + eps * np.sign(delta)
    where = clear & resisted[:, None]
    np.testing.assert_allclose(x_adv[where], corner[where], atol=1e-6)


def test_the_published_sign_starts_at_random():
    attack = published(steps=1)
    assert not attack.starts_at_x
    assert published(steps=1, restarts=2).runs(3) == 4


def test_the_published_sign_leaves_the_last_point_unexamined():
    x, y = np.full((1, 1), 0.4, np.float32), np.zeros(1, np.int32)
    model = center_model(LINE)
    attack = dataclasses.replace(published(steps=1, targets=1), eps=5.0)
    (short,) = outcomes(attack, model, x, y)
    assert predictions(model, short.x_adv[None]) == [1]
    assert not short.success
    (longer,) = outcomes(dataclasses.replace(attack, steps=2), model, x, y)
    assert longer.success


def test_class_means_compare_and_hash_by_value(rng):
    means = rng.normal(size=(3, 4)).astype(np.float32)
    arguments = {"eps": 0.1, "steps": 2, "loss": "class_mean"}
    one = MultiTarget(class_means=means, **arguments)
    same = MultiTarget(class_means=means.tolist(), **arguments)
    other = MultiTarget(class_means=means + 1, **arguments)
    assert one == same and hash(one) == hash(same)
    assert one != other
    assert one.config() == same.config()
    assert one.config()["class_means"]["shape"] == [3, 4]
    assert one.config() != other.config()


def test_table_1_is_within_reach_of_the_arguments():
    # MTA of Table 1: 100 steps of 0.0031, 200 steps of 0.01.
    cifar = MultiTarget(eps=8 / 255, steps=100, step_size=0.0031)
    mnist = MultiTarget(eps=0.3, steps=200, step_size=0.01)
    assert isinstance(cifar, Attack)
    assert cifar.runs(10) == mnist.runs(10) == 9
    assert cifar.starts_at_x
    assert (cifar.norm, cifar.loss) == ("linf", "center")


def test_names_tell_attacks_apart():
    assert MultiTarget(eps=1.0, steps=100).label == "MTA100"
    margin = MultiTarget(eps=1.0, steps=9, loss="margin", norm="l2")
    assert margin.label == "MTA9-margin-l2"
    assert published(steps=3).label == "MTA3-published:step_size=9"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"eps": 0.0},
            "Argument `eps` must be a finite number greater than 0. "
            "Received: eps=0.0",
        ),
        (
            {"steps": 0},
            "Argument `steps` must be an integer of at least 1. "
            "Received: steps=0",
        ),
        (
            {"step_size": -0.1},
            "Argument `step_size` must be a finite number greater than 0. "
            "Received: step_size=-0.1",
        ),
        (
            {"targets": 0},
            "Argument `targets` must be an integer of at least 1. "
            "Received: targets=0",
        ),
        (
            {"loss": "centre"},
            "Invalid value for argument `loss`. Expected one of ['center', "
            "'class_mean', 'margin']. Received: loss='centre'",
        ),
        (
            {"restarts": 2},
            "Restarts need `random_start=True`, or each repeats the first. "
            "Received: restarts=2, random_start=False",
        ),
        (
            {"published_sign": True, "loss": "margin"},
            "`published_sign` is for losses of the features. Received: "
            "published_sign=True, loss='margin'",
        ),
        (
            {"loss": "class_mean"},
            "`class_means` must be given for loss='class_mean', and only "
            "then. Received: class_means None, loss='class_mean'",
        ),
        (
            {"class_means": [[0.0]]},
            "`class_means` must be given for loss='class_mean', and only "
            "then. Received: class_means given, loss='center'",
        ),
        (
            {"loss": "class_mean", "class_means": [0.0]},
            "`class_means` must be finite numbers of the shape (K, P). "
            "Received: shape (1,)",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        MultiTarget(**{"eps": 0.1, "steps": 5, **arguments})
    assert str(error.value) == message


@pytest.mark.parametrize(
    "shape, message",
    [
        (
            (3, 8),
            "`class_means` must have a row for each class of the model, "
            "which has 5. Received: 3 rows",
        ),
        (
            (5, 3),
            "The centers must have a column for each of the 8 features of "
            "the model. Received: 3 columns",
        ),
    ],
)
def test_class_means_must_fit_the_model(shape, message):
    model = tiny_cnn()
    x = np.full((1, 6, 6, 1), 0.5, np.float32)
    attack = MultiTarget(
        eps=0.1, steps=2, loss="class_mean", class_means=np.zeros(shape)
    )
    with pytest.raises(ValueError) as error:
        attack(model, x, predictions(model, x))
    assert str(error.value) == message


def test_losses_of_features_need_a_model_with_features(rng):
    kernel = ops.convert_to_tensor(rng.normal(size=(4, 2)).astype("float32"))
    x = rng.uniform(size=(1, 4)).astype(np.float32)

    def model(images):
        if isinstance(images, keras.KerasTensor):
            raise TypeError("no symbols, please")
        return ops.matmul(images, kernel)

    y = np.argmax(x @ ops.convert_to_numpy(kernel), -1)
    with pytest.raises(ValueError) as error:
        MultiTarget(eps=0.1, steps=2)(model, x, y)
    assert str(error.value) == (
        "Features are known for models that can be opened only. Received: a "
        "model of type function (model: no symbols, please)"
    )
    margin = MultiTarget(eps=0.1, steps=2, loss="margin")
    assert margin(model, x, y).shape == x.shape
