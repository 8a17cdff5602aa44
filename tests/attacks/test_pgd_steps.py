"""Starts, restarts and steps of PGD."""

import json

import numpy as np
import pytest
from ascent import IMAGES, length, problem_of, random_linear
from helpers import (
    linear_logits,
    linear_model,
    predictions,
    random_images,
    tiny_cnn,
    to_numpy,
    uniformity,
)
from keras import ops

from keras_wp import _backend
from keras_wp.attacks import FGSM, PGD


@pytest.mark.parametrize("times", [1, 3, 60])
def test_steps_are_repeated_looped_or_unrolled(times):
    zeros = {"steps": ops.zeros((2,), "int32")}
    state = _backend.repeat(times, lambda s: {"steps": s["steps"] + 1}, zeros)
    np.testing.assert_array_equal(to_numpy(state["steps"]), [times, times])


def test_perturb_passes_no_gradient_on():
    model, x = tiny_cnn(), random_images(3)
    attack = PGD(eps=0.1, steps=2, random_start=False)
    y = np.zeros(3, np.int32)

    def total(x):
        problem = problem_of(model, random_images(3), y)
        problem.x = x
        return ops.sum(attack.perturb(problem), axis=(1, 2, 3))

    values, pullback = _backend.vjp(total, ops.convert_to_tensor(x))
    gradient = to_numpy(pullback(ops.ones_like(values)))
    np.testing.assert_array_equal(gradient, 0)


def starts(
    norm,
    count=1500,
    run=0,
    seed=0,
    bounds=(-9.0, 9.0),
    shape=(3,),
    eps=0.5,
    random_start=True,
):
    x = random_images(count, shape)
    model = linear_model(np.ones((*shape, 2), np.float32))
    problem = problem_of(model, x, np.zeros(count), seed=seed, bounds=bounds)
    attack = PGD(
        eps=eps, steps=3, norm=norm, bounds=bounds, random_start=random_start
    )
    runs = ops.convert_to_tensor(np.full(count, run, np.int32))
    return to_numpy(attack.init(problem, runs)["x_adv"]) - x


def test_random_starts_are_uniform_in_the_linf_ball():
    delta = starts("linf")
    assert uniformity(delta / 0.5, lambda u: (u + 1) / 2) < 1.95
    assert np.abs(delta).max() > 0.499


@pytest.mark.once
def test_random_starts_are_uniform_in_the_l2_ball():
    delta = starts("l2") / 0.5
    radius = np.linalg.norm(delta.astype(np.float64), axis=1)
    assert uniformity(radius**3) < 1.95
    direction = delta / radius[:, None]
    # A coordinate of a point of the sphere in 3 dimensions is uniform.
    for axis in range(3):
        assert uniformity(direction[:, axis], lambda u: (u + 1) / 2) < 1.95


@pytest.mark.once
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_differ_between_runs_and_seeds(norm):
    first = starts(norm, 400)
    np.testing.assert_array_equal(first, starts(norm, 400))
    for other in (starts(norm, 400, run=1), starts(norm, 400, seed=1)):
        correlation = np.corrcoef(first.ravel(), other.ravel())[0, 1]
        assert abs(correlation) * np.sqrt(first.size) < 4.5


def test_normal_starts_are_a_thousandth_of_the_range():
    delta = starts("linf", random_start="normal") / 0.018
    assert abs(delta.mean()) * np.sqrt(delta.size) < 4.5
    spread = (delta.astype(np.float64) ** 2).mean() - 1
    assert abs(spread) * np.sqrt(delta.size / 2) < 4.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_normal_starts_keep_to_the_ball(norm):
    delta = starts(norm, random_start="normal", eps=0.01)
    lengths = length(norm, delta)
    assert 0.009 < lengths.max() <= 0.01 + 1e-6


@pytest.mark.once
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_keep_to_the_bounds(norm):
    delta = starts(norm, 200, bounds=(0.0, 1.0))
    x_start = random_images(200, (3,)) + delta
    assert x_start.min() >= -1e-6 and x_start.max() <= 1 + 1e-6
    assert length(norm, delta).max() <= 0.5 + 1e-6


@pytest.mark.once
def test_restarts_help_where_one_start_is_not_enough():
    # The gradient is zero unless the start lies in one corner of the ball,
    # from where a step leads out of the class.
    def plateau(x):
        pixel = ops.reshape(x, (-1, 4))[:, :2]
        corner = ops.sum(ops.relu(pixel - 0.6), axis=-1, keepdims=True)
        other = 8.0 * corner - 0.9
        return ops.concatenate([ops.zeros_like(other), other], axis=-1)

    x = random_images(100, (2, 2, 1), low=0.45, high=0.55)
    y = np.zeros(100, int)
    fooled = []
    for restarts in (1, 2, 8):
        attack = PGD(eps=0.15, steps=4, restarts=restarts)
        x_adv = attack(plateau, x, y)
        logits = to_numpy(plateau(ops.convert_to_tensor(x_adv)))
        fooled.append(logits.argmax(-1) != y)
    one, two, eight = fooled
    assert not (one & ~two).any() and not (two & ~eight).any()
    assert 0 < one.sum() < two.sum() < eight.sum()


def test_an_attack_without_random_start_ignores_its_seed():
    model, x = tiny_cnn(), random_images(10)
    y = predictions(model, x)
    settings = {"eps": 0.05, "steps": 3, "random_start": False}
    np.testing.assert_array_equal(
        PGD(**settings, seed=1)(model, x, y),
        PGD(**settings, seed=2)(model, x, y),
    )


def test_divergence_is_that_from_the_clean_prediction():
    kernel, bias = random_linear(3)
    model = linear_model(kernel, bias)
    attack = PGD(
        eps=0.1, steps=1, step_size=0.01, loss="kl_divergence", norm="l2"
    )
    clean = linear_logits(kernel, bias, IMAGES)
    problem = problem_of(model, IMAGES, clean.argmax(-1))
    problem.clean_logits = ops.convert_to_tensor(clean.astype(np.float32))
    # From a start of our own, as the direction from there is to be seen.
    x = np.clip(IMAGES + 0.05, 0.2, 0.8)
    state, _ = attack.step(problem, {"x_adv": ops.convert_to_tensor(x)})
    moved = linear_logits(kernel, bias, x)
    p, q = (np.exp(z - z.max(-1, keepdims=True)) for z in (clean, moved))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    slope = (q - p) @ kernel.reshape(-1, 3).T
    slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
    expected = x + 0.01 * slope.reshape(x.shape)
    delta = expected - IMAGES
    size = length("l2", delta).reshape(-1, 1, 1, 1)
    expected = IMAGES + delta * np.minimum(1, 0.1 / size)
    np.testing.assert_allclose(
        to_numpy(state["x_adv"]), expected.clip(0, 1), atol=2e-5
    )


def test_seeds_change_random_starts():
    model, x = tiny_cnn(), random_images(10)
    y = predictions(model, x)
    one, two = (PGD(eps=0.05, steps=3, seed=s)(model, x, y) for s in (1, 2))
    assert (one != two).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    "attack, label",
    [
        (FGSM(eps=0.1), "FGSM"),
        (FGSM(eps=0.1, norm="l2"), "FGSM-l2"),
        (PGD(eps=0.1, steps=20), "PGD20"),
        (PGD(eps=0.1, steps=20, loss="margin"), "PGD20-margin"),
        (
            PGD(eps=0.1, steps=9, restarts=5, loss="dlr", norm="l2"),
            "PGD9x5-dlr-l2",
        ),
        (PGD(eps=0.1, steps=9, targeted=True), "PGD9-targeted"),
        (PGD(eps=0.1, steps=9, name="mine"), "mine"),
    ],
    ids=str,
)
def test_labels_tell_attacks_from_their_siblings(attack, label):
    assert attack.label == label


def test_configurations_are_plain():
    attack = PGD(
        eps=np.float32(0.25), steps=np.int64(3), seed=np.int32(5), bounds=[0, 1]
    )
    assert json.loads(json.dumps(attack.config())) == {
        "attack": "PGD",
        "norm": "linf",
        "bounds": [0.0, 1.0],
        "seed": 5,
        "name": None,
        "eps": 0.25,
        "loss": "cross_entropy",
        "targeted": False,
        "steps": 3,
        "step_size": None,
        "random_start": True,
        "restarts": 1,
    }
