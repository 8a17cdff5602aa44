"""APGD: its schedule against the paper's, its optimum on linear models."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_wp.attacks import apgd
from keras_wp.attacks.apgd import APGD
from keras_wp.engine import stream
from keras_wp.engine.problem import Problem

EPS = 0.1


def linear_model(weights, bias=None):
    pixels, classes = weights.shape
    model = keras.Sequential(
        [keras.Input((pixels,)), keras.layers.Dense(classes)]
    )
    bias = np.zeros(classes) if bias is None else bias
    model.layers[-1].set_weights([weights, bias])
    return model


def problem_of(x, y, clean_logits, model=None, bounds=(0.0, 1.0)):
    keys = np.arange(2 * len(x), dtype=np.uint32).reshape(-1, 2)
    tensors = (x, np.int32(y), np.int32(y), keys, np.float32(clean_logits))
    return Problem(model, *map(ops.convert_to_tensor, tensors), bounds=bounds)


def images_of(x, y, logits):
    return [
        stream.Image(
            i, x[i], int(y[i]), int(y[i]), np.uint32([i, 7]), logits[i]
        )
        for i in range(len(x))
    ]


class Scripted(Problem):
    """A problem whose losses and gradients follow a script, not a model."""

    def value_and_grad(self, objective, x):
        losses, gradients = self.model
        now = self.zero_gradients
        self.zero_gradients = now + 1
        return (
            ops.convert_to_tensor(losses[now]),
            ops.convert_to_tensor(gradients[now]),
            self.clean_logits,
        )


def published_schedule(x, start, losses, gradients, norm, rho=0.75):
    """Algorithm 1 of the paper for one image, in float64 and plain loops.

    Returns the points that the steps led to, and the step sizes.
    """
    steps = len(losses)
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    reviews = [int(np.ceil(round(share * steps, 6))) for share in p]

    def project(z):
        delta = z - x
        if norm == "linf":
            delta = np.clip(delta, -EPS, EPS)
        else:
            delta = delta * min(1.0, EPS / np.linalg.norm(delta))
        return np.clip(x + delta, 0.0, 1.0)

    def direction(g):
        return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

    eta = 2 * EPS
    points, f, g = [start], list(losses), list(gradients)
    reached = [start]
    f = [value if np.isfinite(value) else -np.inf for value in f]
    top = 0
    history = {0: (eta, f[0])}
    last = 0
    etas = []
    for k in range(steps):
        if f[k] > f[top]:
            top = k
        if k in reviews and k > 0:
            f_top, x_top, g_top = f[top], points[top], g[top]
            rises = sum(f[i + 1] > f[i] for i in range(last, k))
            first = rises < rho * (k - last)
            second = history[last] == (eta, f_top)
            history[k] = (eta, f_top)
            last = k
            if first or second:
                eta = eta / 2
                points[k], f[k], g[k] = x_top, f_top, g_top
        etas.append(eta)
        z = project(points[k] + eta * direction(g[k]))
        if k == 0:
            following = z
        else:
            momentum = points[k] - points[k - 1]
            following = points[k] + 0.75 * (z - points[k]) + 0.25 * momentum
            following = project(following)
        points.append(following)
        reached.append(following)
    return np.stack(reached), np.asarray(etas)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_schedule_is_that_of_algorithm_1(norm, rng):
    steps, count, pixels = 100, 6, 12
    x = rng.uniform(0.2, 0.8, (count, pixels)).astype("float32")
    gradients = rng.normal(size=(steps, count, pixels)).astype("float32")
    # Runs that climb, that stall, that wander and that fall.
    drift = np.array([2.0, 0.8, 0.0, 0.5, -1.0, 0.6])
    losses = np.cumsum(rng.normal(size=(steps, count)) + drift, axis=0)
    losses[50:, 0] = losses[50, 0]
    losses[30, 3] = np.nan
    losses = losses.astype("float32")
    problem = Scripted(
        (losses, gradients),
        *(
            ops.convert_to_tensor(t)
            for t in (
                x,
                np.zeros(count, np.int32),
                np.zeros(count, np.int32),
                np.arange(2 * count, dtype=np.uint32).reshape(-1, 2),
                np.zeros((count, 4), np.float32),
            )
        ),
    )
    attack = APGD(eps=EPS, norm=norm, steps=steps)
    state = attack.init(problem, ops.zeros_like(problem.y))
    points, sizes = [np.asarray(state["x_adv"])], []
    for iteration in range(steps):
        state["iteration"] = ops.full((count,), iteration, dtype="int32")
        state, _ = attack.step(problem, state)
        points.append(np.asarray(state["x_adv"]))
        sizes.append(np.asarray(state["step_size"]))

    halved = set()
    for image in range(count):
        wanted, etas = published_schedule(
            x[image].astype("float64"),
            points[0][image],
            losses[:, image],
            gradients[:, image],
            norm,
        )
        np.testing.assert_allclose(
            [size[image] for size in sizes], etas, rtol=1e-6
        )
        moved = [point[image] for point in points]
        np.testing.assert_allclose(moved, wanted, atol=1e-5)
        halved.add(round(np.log2(2 * EPS / etas[-1])))
    # The script tells runs apart that climb from runs that do not.
    assert min(halved) <= 3
    assert max(halved) == 8


def test_checkpoints_are_those_of_the_paper():
    # Croce and Hein, ICML 2020, section 3.1: p_1 = 0.22, then each interval
    # is shorter by 0.03, and never under 0.06.
    assert apgd.checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 33, 1000])
def test_checkpoints_rise_within_any_number_of_steps(steps):
    found = apgd.checkpoints(steps)
    assert found == sorted(set(found))
    assert all(0 < w < steps for w in found)
    assert len(found) <= 8


def test_constants_are_those_of_the_paper():
    # Croce and Hein, ICML 2020, section 3.1 and table 7.
    attack = APGD(eps=EPS)
    assert (attack.steps, attack.rho, apgd.MOMENTUM) == (100, 0.75, 0.75)
    assert attack.restarts == 1
    x = np.zeros((2, 3), np.float32)
    problem = problem_of(x, [0, 0], np.zeros((2, 4)))
    state = attack.init(problem, ops.zeros_like(problem.y))
    np.testing.assert_allclose(state["step_size"], 2 * EPS)


@pytest.mark.parametrize("norm, order", [("linf", np.inf), ("l2", 2)])
def test_runs_start_on_the_surface_of_the_ball(norm, order, rng):
    x = rng.uniform(size=(5, 40)).astype("float32")
    problem = problem_of(x, np.zeros(5), np.zeros((5, 4)), bounds=(-9.0, 9.0))
    attack = APGD(eps=EPS, norm=norm, bounds=(-9.0, 9.0))
    first, second = (
        np.asarray(
            attack.init(problem, ops.full((5,), run, dtype="int32"))["x_adv"]
        )
        for run in (0, 1)
    )
    lengths = np.linalg.norm(first - x, ord=order, axis=1)
    np.testing.assert_allclose(lengths, EPS, rtol=1e-5)
    assert np.abs(first - second).max(axis=1).min() > EPS / 10


@pytest.mark.parametrize("norm, dual", [("linf", 1), ("l2", 2)])
def test_a_linear_model_is_pushed_as_far_as_it_can_be(norm, dual, rng):
    weights = rng.normal(size=(20, 2)).astype("float32")
    # Too far from the boundary to be fooled, so the last point comes back.
    model = linear_model(weights, np.array([20.0, 0.0]))
    x = rng.uniform(0.4, 0.6, (6, 20)).astype("float32")
    y = np.zeros(6, int)
    x_adv = APGD(eps=EPS, norm=norm, loss="margin")(model, x, y)
    gap = weights[:, 1] - weights[:, 0]
    gained = (x_adv - x) @ gap
    best = EPS * np.linalg.norm(gap, ord=dual)
    np.testing.assert_allclose(gained, best, rtol=1e-3)


@pytest.mark.parametrize(
    "norm, dual, scale", [("linf", 1, 1.0), ("l2", 2, 1e-3), ("l2", 2, 1e3)]
)
def test_targeted_dlr_fools_exactly_the_linear_cases_within_eps(
    norm, dual, scale, rng
):
    count, rows = 20, np.arange(20)
    weights = rng.normal(size=(20, 4)).astype("float32")
    x = rng.uniform(0.3, 0.7, (count, 20)).astype("float32")
    logits = x @ weights
    y = logits.argmax(1)
    gaps = logits[rows, y][:, None] - logits
    slopes = weights.T[y][:, :, None] - weights[None]
    slopes = np.linalg.norm(slopes, ord=dual, axis=1)
    gaps[rows, y], slopes[rows, y] = np.inf, 1.0
    distance = (gaps / slopes).min(axis=1)
    eps = float(np.median(distance))
    attack = APGD(
        eps=eps,
        norm=norm,
        steps=50,
        loss="dlr",
        targets=9,
        bounds=(-9.0, 9.0),
    )
    model = linear_model(scale * weights)
    fooled = np.zeros(count, bool)
    for outcome in stream.run(attack, model, images_of(x, y, scale * logits)):
        fooled[outcome.index] = outcome.success
    assert fooled[distance < 0.998 * eps].all()
    assert not fooled[distance > 1.0001 * eps].any()
    assert 5 < fooled.sum() < 15


def test_each_target_is_a_run_of_its_own_in_the_order_of_the_logits():
    logits = np.float32([[3.0, 9.0, 1.0, 7.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    x = np.zeros((2, 3), np.float32)
    problem = problem_of(x, [1, 0], logits)
    attack = APGD(eps=EPS, loss="dlr", targets=3, restarts=2)
    found = [
        np.asarray(
            attack.init(problem, ops.full((2,), run, dtype="int32"))["target"]
        )
        for run in range(attack.runs(5))
    ]
    np.testing.assert_array_equal(
        np.stack(found, axis=1), [[3, 3, 4, 4, 0, 0], [4, 4, 3, 3, 2, 2]]
    )


@pytest.mark.parametrize("classes, runs", [(4, 3), (10, 9), (100, 9)])
def test_no_more_targets_than_wrong_classes(classes, runs):
    assert APGD(eps=EPS, loss="dlr", targets=9).runs(classes) == runs


@pytest.mark.parametrize("targets, gradients", [(None, 12), (3, 38)])
def test_an_iteration_costs_one_gradient(targets, gradients, rng):
    weights = rng.normal(size=(6, 5)).astype("float32")
    bias = np.array([900.0, 0.0, 0.0, 0.0, 0.0])
    model = linear_model(weights, bias)
    x = rng.uniform(size=(2, 6)).astype("float32")
    logits = (x @ weights + bias).astype("float32")
    attack = APGD(eps=EPS, steps=12, loss="dlr", targets=targets)
    outcomes = list(stream.run(attack, model, images_of(x, [0, 0], logits)))
    # A further run ends with the gradient that examines the last point.
    assert [outcome.steps for outcome in outcomes] == [gradients] * 2
    assert not any(outcome.success for outcome in outcomes)


def test_an_image_leaves_at_its_first_success(rng):
    weights = rng.normal(size=(20, 4)).astype("float32")
    x = rng.uniform(0.4, 0.6, (8, 20)).astype("float32")
    logits = x @ weights
    y = logits.argmax(1)
    attack = APGD(eps=5.0, bounds=(-9.0, 9.0))
    model = linear_model(weights)
    outcomes = list(stream.run(attack, model, images_of(x, y, logits)))
    assert all(outcome.success for outcome in outcomes)
    assert max(outcome.steps for outcome in outcomes) <= 3


def test_labels_may_be_the_classes_to_aim_at(rng):
    weights = rng.normal(size=(20, 4)).astype("float32")
    x = rng.uniform(0.4, 0.6, (8, 20)).astype("float32")
    target = (x @ weights).argmin(1)
    attack = APGD(eps=5.0, loss="dlr", targeted=True, bounds=(-9.0, 9.0))
    x_adv = attack(linear_model(weights), x, target)
    np.testing.assert_array_equal((x_adv @ weights).argmax(1), target)


@pytest.mark.parametrize(
    "options, label",
    [
        ({}, "APGD-CE"),
        ({"loss": "dlr"}, "APGD-DLR"),
        ({"loss": "dlr", "targets": 9}, "APGD-T"),
        ({"loss": "margin", "targets": 9}, "APGD-margin-T"),
        ({"loss": "dlr", "targets": 9, "norm": "l2"}, "APGD-T-l2"),
        ({"steps": 50, "restarts": 5}, "APGD50x5-CE"),
        ({"targeted": True}, "APGD-CE-targeted"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_label_tells_the_kind(options, label):
    assert APGD(eps=EPS, **options).label == label


@pytest.mark.parametrize(
    "options, message",
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
            {"restarts": 0},
            "Argument `restarts` must be an integer of at least 1. "
            "Received: restarts=0",
        ),
        (
            {"targets": 0},
            "Argument `targets` must be an integer of at least 1. "
            "Received: targets=0",
        ),
        (
            {"rho": 1.0},
            "Argument `rho` must be a number between 0 and 1. "
            "Received: rho=1.0",
        ),
        (
            {"targets": 9, "targeted": True},
            "With `targeted=True` labels are the classes to aim at, so "
            "`targets` must be None. Received: targets=9",
        ),
        (
            {"loss": "hinge"},
            "Invalid value for argument `loss`. Expected one of "
            "['cross_entropy', 'dlr', 'margin']. Received: loss='hinge'",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError) as error:
        APGD(**{"eps": EPS, **options})
    assert str(error.value) == message
