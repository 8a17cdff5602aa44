"""Surrogates: values of the model, gradients of another, fooled for real."""

import dataclasses
import gc
import weakref

import keras
import numpy as np
import pytest
from helpers import (
    compiled_functions,
    linear_model,
    plainly,
    predictions,
    random_images,
    randomize,
    snapshot,
    tiny_cnn,
    to_numpy,
)
from keras import ops

import keras_wp as kwp
from keras_wp import objectives
from keras_wp.engine import problem
from keras_wp.inspection.classifier import Classifier

PGD = kwp.attacks.PGD(eps=0.1, steps=10, loss="margin")

OF_HEAD = {
    "linear": kwp.Surrogate(activation="linear"),
    "other": kwp.Surrogate(activation="softsign", rescale="image"),
    "image": kwp.Surrogate(rescale="image"),
    "unit": kwp.Surrogate(rescale="unit"),
}


def head_model(factor=1.0, seed=0):
    """A tanh head whose pre-activations are multiplied."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8),
            keras.layers.Rescaling(factor),
            kwp.RobustHead(5),
        ]
    )
    return randomize(model, seed)


def seen(model, x, y, surrogate):
    y = np.asarray(y, np.int32)
    keys = np.zeros((len(x), 2), np.uint32)
    zeros = np.zeros((len(x), 5), np.float32)
    plain = problem.Problem(Classifier(model), x, y, y, keys, zeros)
    return surrogate.adapt(plain)


def gradient(model, x, y, surrogate, objective="margin"):
    objective = objectives.get(objective)
    view = seen(model, x, y, surrogate)
    _, found, logits = view.value_and_grad(objective, ops.convert_to_tensor(x))
    return to_numpy(found), to_numpy(logits)


@pytest.mark.once
@pytest.mark.parametrize("surrogate", OF_HEAD.values(), ids=OF_HEAD)
@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_values_are_those_of_the_model(surrogate, factor):
    model, x = head_model(factor), random_images(6)
    _, logits = gradient(model, x, predictions(model, x), surrogate)
    np.testing.assert_allclose(logits, to_numpy(model(x)), rtol=1e-5)


def by_hand(model, x, y, slope):
    """The margin's gradient with `slope(u)` in the place of act'(u)."""
    dense, head = model.layers[1], model.layers[-1]
    kernel, bias = (to_numpy(w).astype(np.float64) for w in dense.weights)
    factor = model.layers[2].scale
    u = factor * (x.reshape(len(x), -1) @ kernel + bias)
    logits = to_numpy(model(x))
    others = logits.copy()
    np.put_along_axis(others, y[:, None], -np.inf, axis=1)
    weights = to_numpy(head.kernel).astype(np.float64).T
    toward = weights[others.argmax(-1)] - weights[y]
    return (toward * slope(u) * factor @ kernel.T).reshape(x.shape)


def test_straight_through_passes_the_gradient_on_unchanged():
    model, x = head_model(30.0), random_images(6)
    y = predictions(model, x)
    found, _ = gradient(model, x, y, OF_HEAD["linear"])
    expected = by_hand(model, x, y, np.ones_like)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


def test_rescaling_for_the_image_takes_the_slope_near_zero():
    model, x = head_model(30.0), random_images(6)
    y = predictions(model, x)
    found, _ = gradient(model, x, y, OF_HEAD["image"])

    def slope(u):
        scale = np.sqrt((u**2).mean(-1, keepdims=True))
        return (1 - np.tanh(u / scale) ** 2) / scale

    expected = by_hand(model, x, y, slope)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


def test_rescaling_for_the_unit_weighs_by_the_distance_from_zero():
    model, x = head_model(30.0), random_images(6)
    y = predictions(model, x)
    found, _ = gradient(model, x, y, OF_HEAD["unit"])

    def slope(u):
        least = 0.1 * np.sqrt((u**2).mean(-1, keepdims=True))
        scale = np.maximum(np.abs(u), least)
        return (1 - np.tanh(u / scale) ** 2) / scale

    expected = by_hand(model, x, y, slope)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4, 1e30])
def test_the_loss_sees_standardized_logits(scale):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 7)).astype(np.float32)
    expected = (z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True)
    found = objectives.standardized(ops.convert_to_tensor(z * scale))
    np.testing.assert_allclose(to_numpy(found), expected, rtol=2e-5, atol=1e-5)


def test_equal_logits_are_standardized_to_zeros():
    found = objectives.standardized(ops.full((2, 3), 5.0))
    np.testing.assert_array_equal(to_numpy(found), 0.0)


@pytest.mark.once
def test_standardized_logits_have_a_gradient_at_any_scale():
    kernel = np.random.default_rng(0).normal(size=(6, 6, 1, 5)) * 1e4
    model, x = linear_model(kernel.astype(np.float32)), random_images(6)
    y = predictions(model, x)
    standardize = kwp.Surrogate(standardize=True)
    found, _ = gradient(model, x, y, standardize, "cross_entropy")
    assert (np.abs(found).max(axis=(1, 2, 3)) > 0).all()
    attack = kwp.attacks.PGD(eps=0.1, steps=10)
    sighted = dataclasses.replace(attack, surrogate=standardize)
    report = plainly(model, (x, y), [attack, sighted])
    assert report.results[0].vanished_gradients == 0.0
    assert report.results[1].vanished_gradients == 0.0
    assert report.robust_accuracy < 1.0


@pytest.mark.parametrize("surrogate", OF_HEAD.values(), ids=OF_HEAD)
def test_a_saturated_head_falls_in_spite_of_its_gradient(surrogate):
    x, model = random_images(24), head_model(1e4)
    y = predictions(model, x)
    attack = dataclasses.replace(PGD, eps=0.3)
    blind = plainly(model, (x, y), [attack]).results[0]
    assert blind.vanished_gradients == 1.0
    attack = dataclasses.replace(attack, surrogate=surrogate)
    x_adv = attack(model, x, y)
    fooled = predictions(model, x_adv) != y
    assert fooled.mean() > 1 - blind.robust_accuracy + 0.3
    assert np.abs(x_adv - x).max() <= 0.3 + 1e-6


def test_transfer_takes_the_gradient_of_the_other_model():
    x = random_images(6)
    model, other = head_model(seed=0), head_model(seed=1)
    y = predictions(model, x)
    transfer = kwp.Surrogate(model=other)
    found, logits = gradient(model, x, y, transfer)
    np.testing.assert_allclose(logits, to_numpy(model(x)), rtol=1e-5)
    weights = to_numpy(model(x))
    np.put_along_axis(weights, y[:, None], -np.inf, axis=1)
    rival = weights.argmax(-1)

    def margin(z, labels):
        labels = np.asarray(labels)
        rows = ops.one_hot(rival, 5) - ops.one_hot(labels, 5)
        return ops.sum(z * rows, axis=-1)

    view = problem.Problem(
        Classifier(other), x, y, y, np.zeros((6, 2), np.uint32), None
    )
    _, expected, _ = view.value_and_grad(
        lambda z, labels, _: margin(z, labels), ops.convert_to_tensor(x)
    )
    np.testing.assert_allclose(found, to_numpy(expected), rtol=1e-5, atol=1e-7)


def test_a_transfer_attack_sees_fresh_weights_of_both_and_traces_once():
    x, model, other = random_images(8), tiny_cnn(), tiny_cnn(seed=1)
    y = predictions(model, x)
    attack = dataclasses.replace(PGD, surrogate=kwp.Surrogate(model=other))
    before = snapshot(model), snapshot(other)
    first = attack(model, x, y)
    again = attack(model, x, y)
    np.testing.assert_array_equal(first, again)
    other.layers[-1].kernel.assign(-other.layers[-1].kernel)
    changed = attack(model, x, y)
    assert not np.array_equal(first, changed)
    advance = [
        fn
        for key, fn in compiled_functions(model).items()
        if key[0] == "advance"
    ]
    assert [fn.traces for fn in advance] == [1]
    for old, new in zip(before[0], snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.once
def test_attacks_with_other_surrogates_are_compiled_by_themselves():
    x, model = random_images(4), head_model(30.0)
    y = predictions(model, x)
    for surrogate in (None, *OF_HEAD.values()):
        dataclasses.replace(PGD, surrogate=surrogate)(model, x, y)
    names = [key[0] for key in compiled_functions(model)]
    assert names.count("advance") == 5


def test_a_model_is_not_kept_alive_by_attacks_that_borrowed_from_it():
    x, model, other = random_images(4), tiny_cnn(), tiny_cnn(seed=1)
    y = predictions(model, x)
    attack = dataclasses.replace(PGD, surrogate=kwp.Surrogate(model=other))
    attack(model, x, y)
    freed = weakref.ref(other)
    del other, attack
    gc.collect()
    assert freed() is None
    PGD(model, x, y)


@pytest.mark.once
def test_outcomes_do_not_depend_on_the_batch():
    x, model = random_images(20), head_model(30.0)
    y = predictions(model, x)
    attack = dataclasses.replace(PGD, surrogate=OF_HEAD["unit"])
    whole = plainly(model, (x, y), [attack]).results[0]
    alone = plainly(model, (x, y), [attack], batch_size=1).results[0]
    np.testing.assert_array_equal(whole.robust, alone.robust)
    np.testing.assert_array_equal(whole.steps, alone.steps)


@pytest.mark.once
def test_resume_tells_surrogates_apart(tmp_path):
    x, model = random_images(12), head_model(30.0)
    data = x, predictions(model, x)
    attacks = [
        dataclasses.replace(PGD, surrogate=surrogate)
        for surrogate in (OF_HEAD["unit"], kwp.Surrogate(model=head_model()))
    ]
    plain = plainly(model, data, attacks)
    for _ in range(2):
        resumed = plainly(model, data, attacks, resume_dir=tmp_path)
        for a, b in zip(plain.results, resumed.results, strict=True):
            np.testing.assert_array_equal(a.steps, b.steps)
    assert len(list(tmp_path.glob("PGD10*.jsonl"))) == 2
    found = [result.attack["surrogate"] for result in plain.results]
    assert found[0] == {
        "activation": None,
        "rescale": "unit",
        "standardize": False,
    }
    assert set(found[1]["model"]) == {"name", "digest"}
    assert plain.results[0].name == "PGD10-margin via rescale-unit"


@pytest.mark.once
def test_multi_target_follows_the_surrogate_of_the_features():
    x, model = random_images(12), head_model(1e3)
    y = predictions(model, x)
    attack = kwp.attacks.MultiTarget(eps=0.1, steps=5)
    blind = plainly(model, (x, y), [attack]).results[0]
    assert blind.vanished_gradients == 1.0
    sighted = dataclasses.replace(attack, surrogate=OF_HEAD["image"])
    result = plainly(model, (x, y), [sighted]).results[0]
    assert result.vanished_gradients == 0.0
    assert result.robust_accuracy < blind.robust_accuracy


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {},
            "A surrogate must have at least one of `activation`, `rescale`, "
            "`standardize`, `noise`, `draws` and `model`. Received: none",
        ),
        (
            {"activation": "wavy"},
            "Argument `activation` must be the name of a Keras activation. "
            "Received: activation='wavy'",
        ),
        (
            {"rescale": "batch"},
            "Invalid value for argument `rescale`. Expected one of "
            "['image', 'unit']. Received: rescale='batch'",
        ),
        (
            {"model": 3},
            "Argument `model` must be a Keras model. Received: model=3",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        kwp.Surrogate(**arguments)
    assert str(error.value) == message


def test_a_model_and_an_activation_are_not_combined():
    with pytest.raises(ValueError) as error:
        kwp.Surrogate(model=tiny_cnn(), rescale="unit")
    assert str(error.value) == (
        "`model` must not be combined with `activation` or `rescale`. "
        "Received: activation=None, rescale='unit'"
    )


def test_an_attack_takes_surrogates_only():
    with pytest.raises(ValueError) as error:
        dataclasses.replace(PGD, surrogate="linear")
    assert str(error.value) == (
        "Argument `surrogate` must be a `keras_wp.Surrogate` or None. "
        "Received: surrogate='linear'"
    )


def test_a_model_without_such_an_end_is_refused():
    model = linear_model(np.ones((6, 6, 1, 3), np.float32))
    attack = dataclasses.replace(PGD, surrogate=OF_HEAD["unit"])
    with pytest.raises(ValueError) as error:
        attack(model, random_images(2), np.zeros(2, int))
    assert str(error.value) == (
        "The model must have an activation, for a surrogate of it. Received: a "
        "model of type Functional where none was found"
    )


def test_a_stand_in_with_other_classes_is_refused():
    model = linear_model(np.ones((6, 6, 1, 3), np.float32))
    attack = dataclasses.replace(PGD, surrogate=kwp.Surrogate(model=tiny_cnn()))
    with pytest.raises(ValueError) as error:
        attack(model, random_images(2), np.zeros(2, int))
    assert str(error.value) == (
        "The surrogate's model must have the classes of the model attacked, "
        "which has 3. Received: 5 classes"
    )


@pytest.mark.once
def test_attacks_in_turn_are_as_strong_as_the_best_of_them():
    x, model = random_images(24), head_model(1e3)
    y = predictions(model, x)
    members = [
        dataclasses.replace(PGD, surrogate=surrogate)
        for surrogate in (None, OF_HEAD["unit"], OF_HEAD["image"])
    ]
    turn = kwp.attacks.InTurn(members=members, name="all")
    report = plainly(model, (x, y), [*members, turn])
    each = np.stack([result.robust for result in report.results])
    np.testing.assert_array_equal(each[3], each[:3].all(axis=0))
    assert report["all"].attack["parts"][1]["surrogate"]["rescale"] == "unit"
    x_adv = turn(model, x, y)
    np.testing.assert_array_equal(predictions(model, x_adv) == y, each[3])


def test_attacks_in_turn_share_a_budget():
    members = [PGD, dataclasses.replace(PGD, eps=0.2)]
    with pytest.raises(ValueError) as error:
        kwp.attacks.InTurn(members=members)
    assert str(error.value) == (
        "`members` must be at least one attack, and have one norm, bounds and "
        "eps. Received: 2 attacks with 1 pairs of norm and bounds, and 2 "
        "budgets"
    )
    both = kwp.attacks.InTurn(members=members, eps=0.3)
    assert [part.eps for part in both.parts] == [0.3, 0.3]
