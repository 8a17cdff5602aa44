"""DeepFool: the optimum of linear models, and the published algorithm."""

import keras
import numpy as np
import pytest
from helpers import linear_logits, linear_model, plainly, random_images

from keras_wp.attacks import DeepFool
from keras_wp.engine import stream

NORMS = ("linf", "l2")
SHAPE = (5, 5, 2)
ORDER = {"linf": np.inf, "l2": 2}
DUAL = {"linf": 1, "l2": 2}


def lengths(delta, norm):
    flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
    return np.linalg.norm(flat, ORDER[norm], axis=1)


def linear_case(rng, classes=10, count=40):
    kernel = rng.normal(size=(*SHAPE, classes)).astype(np.float32)
    bias = rng.normal(size=classes).astype(np.float32)
    x = random_images(count, SHAPE, low=0.4, high=0.6)
    y = linear_logits(kernel, bias, x).argmax(1).astype(np.int32)
    return linear_model(kernel, bias), kernel, bias, x, y


def linear_distances(kernel, bias, x, y, norm):
    """How far images are from another class of a linear model."""
    logits = linear_logits(kernel, bias, x)
    weights = kernel.astype(np.float64).reshape(-1, kernel.shape[-1])
    nearest = []
    for row, label in zip(logits, y, strict=True):
        away = weights - weights[:, [label]]
        dual = np.linalg.norm(away, DUAL[norm], axis=0)
        dual[label] = 1
        gaps = row[label] - row
        gaps[label] = np.inf
        nearest.append((gaps / dual).min())
    return np.array(nearest)


class Network:
    """A small network of smooth units, in Keras and in NumPy."""

    def __init__(self, rng, pixels=12, hidden=16, classes=6):
        self.first = rng.normal(size=(pixels, hidden)).astype(np.float32)
        self.second = rng.normal(size=(hidden, classes)).astype(np.float32)
        self.model = keras.Sequential(
            [
                keras.Input((pixels,)),
                keras.layers.Dense(hidden, "tanh", use_bias=False),
                keras.layers.Dense(classes, use_bias=False),
            ]
        )
        self.model.set_weights([self.first, self.second])

    def logits(self, x):
        return np.tanh(x @ np.float64(self.first)) @ np.float64(self.second)

    def jacobian(self, x):
        slopes = 1 - np.tanh(x @ np.float64(self.first)) ** 2
        return np.float64(self.first) * slopes @ np.float64(self.second)


def published(network, x0, y, norm, steps=50, overshoot=0.02):
    """Algorithm 2 of Moosavi-Dezfooli et al. with every gradient it takes."""
    x, total, moves = np.float64(x0), np.zeros_like(x0, np.float64), 0
    while network.logits(x).argmax() == y and moves < steps:
        gaps = network.logits(x)[y] - network.logits(x)
        away = network.jacobian(x)
        away = away - away[:, [y]]
        dual = np.linalg.norm(away, DUAL[norm], axis=0)
        dual[y], gaps[y] = 1, np.inf
        k = (gaps / dual).argmin()
        toward = away[:, k] / dual[k] if norm == "l2" else np.sign(away[:, k])
        total += gaps[k] / dual[k] * toward
        x = np.clip(x0 + (1 + overshoot) * total, 0, 1)
        moves += 1
    return x, moves


def test_constants_are_those_of_the_paper_and_of_foolbox():
    # Xu et al., Table 1: 50 steps, overshoot 0.02. Foolbox 3.3.4,
    # LinfDeepFoolAttack: candidates=10.
    attack = DeepFool()
    assert (attack.steps, attack.overshoot, attack.candidates) == (50, 0.02, 10)
    assert (attack.norm, attack.label) == ("linf", "DeepFool50")
    assert DeepFool(norm="l2").label == "DeepFool50-l2"


@pytest.mark.parametrize("norm", NORMS)
def test_distance_is_that_of_the_nearest_linear_boundary(norm, rng):
    model, kernel, bias, x, y = linear_case(rng)
    nearest = linear_distances(kernel, bias, x, y, norm)
    weights = model.get_weights()
    for scale in (1e-3, 1.0, 1e3):
        model.set_weights([np.float32(scale) * w for w in weights])
        x_adv = DeepFool(norm=norm)(model, x, y)
        assert (linear_logits(kernel, bias, x_adv).argmax(1) != y).all()
        ratio = lengths(x_adv - x, norm) / nearest
        assert ratio.min() > 0.9999
        assert ratio.max() < 1.003


@pytest.mark.parametrize("norm", NORMS)
def test_without_final_search_the_overshoot_is_left(norm, rng):
    model, kernel, bias, x, y = linear_case(rng)
    attack = DeepFool(norm=norm, overshoot=0.1, final_search=0)
    ratio = lengths(attack(model, x, y) - x, norm)
    ratio /= linear_distances(kernel, bias, x, y, norm)
    np.testing.assert_allclose(ratio, 1.1, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_ends_where_the_published_algorithm_does(norm, rng):
    network = Network(rng)
    x = random_images(40, (12,), low=0.3, high=0.7)
    y = network.logits(x).argmax(1)
    x_adv = DeepFool(norm=norm, final_search=0)(network.model, x, y)
    expected, moves = zip(
        *(published(network, a, b, norm) for a, b in zip(x, y, strict=True)),
        strict=True,
    )
    assert max(moves) > 1
    expected = np.array(expected)
    same = np.abs(x_adv - expected).max(1) < 2e-5
    # The rest meet a bound, or a class that a look has missed.
    assert same.mean() > 0.9
    ratio = lengths(x_adv - x, norm) / lengths(expected - x, norm)
    assert ratio.mean() < 1.005


def outcomes(attack, model, x, y, logits):
    images = [
        stream.Image(
            i, x[i], int(y[i]), 0, np.zeros(2, np.uint32), np.float32(logits[i])
        )
        for i in range(len(x))
    ]
    return sorted(stream.run(attack, model, images, batch_size=16))


def test_takes_few_of_the_gradients_that_the_published_algorithm_does(rng):
    model, kernel, bias, x, y = linear_case(rng)
    logits = linear_logits(kernel, bias, x)
    steps = [o.steps for o in outcomes(DeepFool(), model, x, y, logits)]
    # One move takes 9 looks there, and one more point is examined.
    assert np.mean(steps) < 7
    assert max(steps) <= 10


def test_steps_limit_the_moves_of_an_image(rng):
    network = Network(rng)
    x = random_images(40, (12,), low=0.3, high=0.7)
    y = network.logits(x).argmax(1)
    attack = DeepFool(steps=1, final_search=0)
    x_adv = attack(network.model, x, y)
    expected = [
        published(network, a, b, "linf", steps=1)[0]
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(x_adv, expected, atol=2e-5)


def test_only_candidates_are_aimed_at(rng):
    # The boundary of class 2 is the nearest, its logit the third.
    kernel = rng.normal(size=(*SHAPE, 3)) * [0, 0.5, 5]
    bias = [0.2, 0.1, 0] - kernel.sum((0, 1, 2)) / 2
    kernel, bias = np.float32(kernel), np.float32(bias)
    x = np.full((4, *SHAPE), 0.5, np.float32)
    x += np.float32(rng.normal(size=x.shape) * 1e-4)

    def reached(candidates):
        attack = DeepFool(candidates=candidates, norm="l2")
        x_adv = attack(linear_model(kernel, bias), x, np.zeros(4, np.int32))
        return set(linear_logits(kernel, bias, x_adv).argmax(1))

    assert reached(3) == {2}
    assert reached(2) == {1}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_tied_logits_are_parted(norm, scale, rng):
    kernel = rng.normal(size=(*SHAPE, 4)).astype(np.float32)
    kernel[..., 0] = kernel[..., 1]
    kernel[0, 0, 0, 0] += 1
    x = random_images(8, SHAPE, low=0.4, high=0.6)
    x[:, 0, 0, 0] = 0.5
    bias = np.float32([99.5, 100.0, 0, 0])
    model = linear_model(scale * kernel, scale * bias)
    x_adv = DeepFool(norm=norm)(model, x, np.zeros(8, np.int32))
    assert (linear_logits(kernel, bias, x_adv).argmax(1) == 1).all()
    assert lengths(x_adv - x, norm).max() < 1e-2


def test_pixels_at_their_bounds_do_not_mislead():
    kernel = np.zeros((4, 4, 1, 2), np.float32)
    kernel[..., 1] = -1
    kernel[0, 0, 0, 1] = 1
    bias = np.float32([0.25, 0])
    x = np.zeros((1, 4, 4, 1), np.float32)
    # Fifteen pixels of sixteen ought to go below 0, and cannot.
    logits = linear_logits(kernel, bias, x)
    (outcome,) = outcomes(
        DeepFool(), linear_model(kernel, bias), x, [0], logits
    )
    assert outcome.success
    assert outcome.steps == 2
    np.testing.assert_allclose(outcome.distance, 0.25, rtol=3e-3)


def test_a_model_without_gradients_ends_the_search_at_once():
    kernel = np.zeros((*SHAPE, 4), np.float32)
    bias = np.float32([1, 0, 0, 0])
    x = random_images(3, SHAPE)
    logits = linear_logits(kernel, bias, x)
    found = outcomes(
        DeepFool(), linear_model(kernel, bias), x, [0, 0, 0], logits
    )
    for outcome, image in zip(found, x, strict=True):
        assert not outcome.success
        assert outcome.steps == outcome.zero_gradients == 3
        np.testing.assert_array_equal(outcome.x_adv, image)


def test_eps_says_only_what_counts(rng):
    model, kernel, bias, x, y = linear_case(rng)
    eps = float(np.median(linear_distances(kernel, bias, x, y, "linf")))
    np.testing.assert_array_equal(
        DeepFool(eps=eps)(model, x, y), DeepFool()(model, x, y)
    )
    report = plainly(
        model, (x, y), attacks=[DeepFool(eps=eps * 1.01)], progress=False
    )
    assert 0.4 < report.robust_accuracy < 0.6
    np.testing.assert_allclose(
        report["DeepFool50"].median_distance, eps, rtol=0.01
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"steps": 0},
            "Argument `steps` must be an integer of at least 1. "
            "Received: steps=0",
        ),
        (
            {"candidates": 1},
            "Argument `candidates` must be an integer of at least 2. "
            "Received: candidates=1",
        ),
        (
            {"overshoot": 0.0},
            "Argument `overshoot` must be a finite number greater than 0. "
            "Received: overshoot=0.0",
        ),
        (
            {"final_search": -1},
            "Argument `final_search` must be an integer of at least 0. "
            "Received: final_search=-1",
        ),
        (
            {"eps": -1},
            "Argument `eps` must be a finite number greater than 0. "
            "Received: eps=-1",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        DeepFool(**arguments)
    assert str(error.value) == message
