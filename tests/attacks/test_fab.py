"""FAB: the optimum of linear models, one step by hand, targets and suites."""

import numpy as np
import pytest
from helpers import linear_logits, linear_model, random_images, to_numpy
from keras import ops
from test_boundary import shortest

from keras_wp.attacks import FAB
from keras_wp.engine import stream
from keras_wp.engine.problem import Problem
from keras_wp.inspection.classifier import Classifier

NORMS = ("linf", "l2")
SHAPE = (5, 5, 2)
ORDER = {"linf": np.inf, "l2": 2}


def lengths(delta, norm):
    flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
    return np.linalg.norm(flat, ORDER[norm], axis=1)


class Case:
    """A linear model and images of which many pixels are near a bound."""

    def __init__(self, rng, classes=6, count=24, low=0.0, high=1.0):
        self.kernel = rng.normal(size=(*SHAPE, classes)).astype(np.float32)
        self.bias = -self.kernel.sum((0, 1, 2)) / 2
        x = random_images(count, SHAPE, low=low - 0.02, high=high + 0.02)
        self.x = x.clip(0, 1)
        self.model = linear_model(self.kernel, self.bias)
        self.logits = self.predict(self.x)
        self.y = self.logits.argmax(1).astype(np.int32)

    def scale(self, factor):
        """Multiply the model's logits by this, and by nothing else."""
        weights = self.kernel.reshape(-1, len(self.bias)), self.bias
        self.model.set_weights([factor * w for w in weights])

    def predict(self, x):
        return linear_logits(self.kernel, self.bias, x)

    def distances(self, norm):
        """How far images are from each class within the box, `(N, K)`."""
        count, classes = self.logits.shape
        weights = self.kernel.reshape(-1, classes)
        flat = self.x.reshape(count, -1)
        result = np.full((count, classes), np.inf)
        for k in range(classes):
            gap = self.logits[:, k] - self.logits[np.arange(count), self.y]
            away = (weights[:, [k]] - weights[:, self.y]).T
            others = self.y != k
            result[others, k] = shortest(
                flat[others], gap[others], away[others], norm
            )
        return result

    def outcomes(self, attack):
        keys = np.arange(2 * len(self.x), dtype=np.uint32).reshape(-1, 2)
        logits = np.float32(self.logits)
        images = [
            stream.Image(i, self.x[i], int(self.y[i]), 0, keys[i], logits[i])
            for i in range(len(self.x))
        ]
        return sorted(stream.run(attack, self.model, images, batch_size=8))

    def problem(self):
        keys = np.arange(2 * len(self.x), dtype=np.uint32).reshape(-1, 2)
        logits = np.float32(self.logits)
        tensors = (self.x, self.y, self.y, keys, logits)
        return Problem(
            Classifier(self.model), *map(ops.convert_to_tensor, tensors)
        )


def test_constants_are_those_of_the_paper_and_of_autoattack():
    # Croce and Hein (ICML 2020, 2003.01690), section 5 and its code: FAB-T
    # with 100 iterations, alpha_max 0.1, eta 1.05, beta 0.9. The final search
    # of 3 steps: 1907.02044, section 2.4.
    attack = FAB()
    constants = (attack.steps, attack.alpha_max, attack.eta, attack.beta)
    assert constants == (100, 0.1, 1.05, 0.9)
    assert (attack.final_search, attack.restarts) == (3, 1)
    assert attack.label == "FAB"
    assert FAB(targets=9, norm="l2").label == "FAB-T-l2"


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targets", [None, 5])
def test_distance_is_that_of_the_nearest_linear_boundary(norm, targets, rng):
    # Which class is nearest is judged without regard to the bounds and from
    # where the run has got to, so only a run for each class is sure of it.
    low, high, most = (0.0, 1.0, 1.005) if targets else (0.3, 0.7, 1.02)
    case = Case(rng, low=low, high=high)
    attack = FAB(norm=norm, steps=25, targets=targets)
    for scale in (1e-3, 1.0, 1e3):
        case.scale(np.float32(scale))
        x_adv = attack(case.model, case.x, case.y)
        assert (case.predict(x_adv).argmax(1) != case.y).all()
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        ratio = lengths(x_adv - case.x, norm) / case.distances(norm).min(1)
        assert ratio.min() > 0.9999
        assert ratio.max() < most


@pytest.mark.once
@pytest.mark.parametrize("norm", NORMS)
def test_without_final_search_the_overshoot_shrinks_step_by_step(norm, rng):
    case = Case(rng, low=0.4, high=0.6)
    attack = FAB(norm=norm, steps=3, targets=1, final_search=0)
    runner_up = case.logits.argsort(1)[:, -2]
    least = case.distances(norm)[np.arange(len(case.x)), runner_up]
    ratio = np.array([o.distance for o in case.outcomes(attack)]) / least
    # By hand, as multiples of `least`: the first step goes to 1.05, which is
    # taken back to 0.945; from there the boundary is at 0.055, and the second
    # step mixes 0.945 + 1.05 * 0.055 with 1.05. The third goes farther.
    weight = 0.055 / 1.055
    expected = (1 - weight) * (0.945 + 1.05 * 0.055) + weight * 1.05
    # Near a boundary rounding shows in the gap.
    clear = least > np.median(least) / 2
    assert clear.sum() > 12
    np.testing.assert_allclose(ratio[clear], expected, rtol=1e-4)


@pytest.mark.once
@pytest.mark.parametrize("norm", NORMS)
def test_a_step_mixes_both_projections(norm, rng):
    case = Case(rng, low=0.4, high=0.6)
    attack = FAB(norm=norm, targets=1)
    problem = case.problem()
    state = attack.init(problem, ops.zeros_like(problem.y))
    x = case.x + np.float32(rng.normal(size=case.x.shape) * 0.003)
    state, (examined, logits) = attack.step(
        problem, {**state, "x_adv": ops.convert_to_tensor(x)}
    )
    np.testing.assert_array_equal(to_numpy(examined), x)
    np.testing.assert_allclose(to_numpy(logits), case.predict(x), atol=1e-4)

    rows = np.arange(len(x))
    target = case.logits.argsort(1)[:, -2]
    weights = case.kernel.astype(np.float64).reshape(-1, 6)
    away = (weights[:, target] - weights[:, case.y]).T.reshape(x.shape)
    axes = (1, 2, 3)

    def overshot(z):
        logits = case.predict(z)
        gap = logits[rows, case.y] - logits[rows, target]
        dual = np.abs(away).sum(axes)
        toward = np.sign(away)
        if norm == "l2":
            dual = (away**2).sum(axes)
            toward = away
        step = (gap / dual).reshape(-1, 1, 1, 1) * toward
        return z + 1.05 * step, lengths(step, norm).reshape(-1, 1, 1, 1)

    fooled = case.predict(x).argmax(1) != case.y
    assert fooled.any() and not fooled.all()
    back = np.where(fooled.reshape(-1, 1, 1, 1), 0.9, 1.0)
    near, way = overshot(case.x + back * (x - case.x))
    biased, clean_way = overshot(case.x)
    alpha = np.minimum(way / (way + clean_way), 0.1)
    np.testing.assert_allclose(
        to_numpy(state["x_adv"]),
        ((1 - alpha) * near + alpha * biased).clip(0, 1),
        atol=2e-6,
    )


def test_each_run_aims_at_the_next_class_by_clean_logit(rng):
    case = Case(rng)
    attack = FAB(targets=9, restarts=2, eps=0.1)
    assert attack.runs(6) == 2 * 5
    assert FAB(targets=3).runs(6) == 3
    assert FAB().runs(6) == 1
    problem = case.problem()
    order = case.logits.argsort(1)[:, ::-1]
    for run in range(10):
        runs = ops.convert_to_tensor(np.full(len(case.x), run, np.int32))
        target = to_numpy(attack.init(problem, runs)["target"])
        np.testing.assert_array_equal(target, order[:, 1 + run // 2])


@pytest.mark.parametrize("norm", NORMS)
def test_restarts_begin_in_the_ball_of_half_the_radius(norm, rng):
    case = Case(rng)
    problem = case.problem()
    attack = FAB(restarts=3, eps=0.1, norm=norm, targets=2)

    def start(run):
        runs = ops.convert_to_tensor(np.full(len(case.x), run, np.int32))
        return to_numpy(attack.init(problem, runs)["x_adv"])

    np.testing.assert_array_equal(start(0), case.x)
    np.testing.assert_array_equal(start(3), case.x)
    for run in (1, 2, 4):
        way = lengths(start(run) - case.x, norm)
        assert way.min() > 0.02 and way.max() <= 0.05 + 1e-6
        assert start(run).min() >= 0 and start(run).max() <= 1
    assert not np.array_equal(start(1), start(2))
    assert not np.array_equal(start(1), start(4))


@pytest.mark.once
def test_restarts_keep_the_nearest_point_of_all_runs(rng):
    case = Case(rng)
    attack = FAB(restarts=2, eps=0.1, steps=25)
    found = case.outcomes(attack)
    nearest = case.distances("linf").min(1)
    # Each iteration takes one gradient, of which a step may need several.
    assert min(o.steps for o in found) > 50
    # As with one run, see above.
    np.testing.assert_allclose([o.distance for o in found], nearest, rtol=0.02)


@pytest.mark.once
def test_a_step_costs_one_forward_and_one_backward_pass(rng):
    case = Case(rng)
    calls = {"forward": 0, "backward": 0}

    class Counted(Problem):
        def linearize(self, x):
            calls["forward"] += 1
            logits, pullback = super().linearize(x)

            def counted(cotangent):
                calls["backward"] += 1
                return pullback(cotangent)

            return logits, counted

        def logits(self, x):
            calls["forward"] += 1
            return super().logits(x)

    problem = Counted(**vars(case.problem()))
    for attack in (FAB(), FAB(targets=2)):
        calls.update(forward=0, backward=0)
        state = attack.init(problem, ops.zeros_like(problem.y))
        assert calls == {"forward": 0, "backward": 0}
        attack.step(problem, state)
        assert calls == {"forward": 1, "backward": 1}


@pytest.mark.once
def test_a_run_makes_its_steps_however_many_gradients_they_need(rng):
    case = Case(rng)
    attack = FAB(steps=3, final_search=0)
    problem = case.problem()
    state = attack.init(problem, ops.zeros_like(problem.y))
    moves = np.zeros(len(case.x), int)
    converged = moves > 0
    for _ in range(attack.updates):
        before = np.asarray(state["x_adv"])
        state, _ = attack.step(problem, state)
        moved = (np.asarray(state["x_adv"]) != before).any(axis=(1, 2, 3))
        assert not (moved & converged).any()
        moves += moved
        converged = np.asarray(state["converged"])
    assert converged.all()
    np.testing.assert_array_equal(moves, 3)


def test_the_last_point_counts_when_it_ends_early(rng):
    case = Case(rng)
    eps = 2 * float(case.distances("linf").min(1).max())
    # One step, and what it leads to.
    attack = FAB(targets=1, steps=1, eps=eps, early_stop=True)
    x_adv = attack(case.model, case.x, case.y)
    success = np.array([o.success for o in case.outcomes(attack)])
    assert success.any()
    np.testing.assert_array_equal(
        case.predict(x_adv).argmax(1) != case.y, success
    )


def test_early_stop_ends_on_the_first_success_within_eps(rng):
    case = Case(rng)
    nearest = case.distances("linf").min(1)
    eps = float(np.median(nearest)) * 1.02
    attack = FAB(targets=5, steps=20, eps=eps, early_stop=True, final_search=0)
    assert not attack.minimum_norm
    assert FAB(targets=5, eps=eps).minimum_norm
    found = case.outcomes(attack)
    success = np.array([o.success for o in found])
    np.testing.assert_array_equal(success, nearest < eps / 1.01)
    for outcome in found:
        if outcome.success:
            assert outcome.distance <= eps
            assert outcome.steps < 21
        else:
            assert outcome.steps == 4 * 21 + 20
    x_adv = attack(case.model, case.x, case.y)
    np.testing.assert_array_equal(x_adv[~success], case.x[~success])
    np.testing.assert_array_equal(
        case.predict(x_adv).argmax(1) != case.y, success
    )


@pytest.mark.once
def test_a_model_without_gradients_leaves_images_where_they_are(rng):
    case = Case(rng)
    case.model.layers[-1].set_weights(
        [np.zeros((50, 6), np.float32), np.float32([1, 0, 0, 0, 0, 0])]
    )
    case.logits = np.tile(np.float32([1, 0, 0, 0, 0, 0]), (len(case.x), 1))
    case.y[:] = 0
    for attack in (FAB(steps=8), FAB(steps=8, targets=2)):
        for outcome, image in zip(case.outcomes(attack), case.x, strict=True):
            assert not outcome.success
            assert outcome.zero_gradients == outcome.steps
            np.testing.assert_array_equal(outcome.x_adv, image)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"targets": 0},
            "Argument `targets` must be an integer of at least 1. "
            "Received: targets=0",
        ),
        (
            {"restarts": 2},
            "Restarts and `early_stop` need `eps`. Received: eps=None, "
            "restarts=2, early_stop=False",
        ),
        (
            {"early_stop": True},
            "Restarts and `early_stop` need `eps`. Received: eps=None, "
            "restarts=1, early_stop=True",
        ),
        (
            {"alpha_max": 1.5},
            "Argument `alpha_max` must be a number from 0 to 1. "
            "Received: alpha_max=1.5",
        ),
        (
            {"eta": 0.5},
            "Argument `eta` must be a number from 1 to 2. Received: eta=0.5",
        ),
        (
            {"beta": -0.1},
            "Argument `beta` must be a number from 0 to 1. Received: beta=-0.1",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        FAB(**arguments)
    assert str(error.value) == message
