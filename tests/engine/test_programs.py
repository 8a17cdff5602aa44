"""Programs are traced once, and freed with their model."""

import collections
import dataclasses

import numpy as np
import pytest
from helpers import (
    compiled_functions,
    linear_model,
    mixed_labels,
    random_images,
    tiny_cnn,
)
from keras import ops
from walks import THRESHOLD, WALK, images_of, walkers

from keras_wp import _backend
from keras_wp.attacks import PGD, Attack
from keras_wp.engine import programs, stream
from keras_wp.inspection import classifier


def test_one_trace_serves_a_whole_evaluation(backend, monkeypatch):
    monkeypatch.setattr(_backend, "preferred_slots", lambda size: size)
    monkeypatch.setattr(_backend, "steps_at_once", lambda: 2)
    monkeypatch.setattr(programs, "_LONGEST_CALL", np.inf)
    model, x = tiny_cnn(), random_images(61)
    y = mixed_labels(model, x)
    attack = PGD(eps=0.05, steps=4, restarts=2)

    def evaluate(slots, eps=0.05, seed=0):
        other = dataclasses.replace(attack, eps=eps, seed=seed)
        images = images_of(x, y, model, other)
        list(stream.run(other, model, images, batch_size=slots))
        return {
            key[0]: fn.traces for key, fn in compiled_functions(model).items()
        }

    names = ("forward", "start", "refill", "advance", "several")
    once = dict.fromkeys(names, 1)
    assert evaluate(8) == once
    # Neither weights, seeds, names nor budgets need another.
    model.set_weights([1.1 * w for w in model.get_weights()])
    assert evaluate(8, eps=0.01, seed=3) == once
    other_shape = 2 if backend == "jax" else 1
    assert evaluate(5) == dict.fromkeys(once, other_shape)


def test_another_attack_is_another_program(monkeypatch):
    model, x = tiny_cnn(), random_images(4)
    y = mixed_labels(model, x)
    for attack in (WALK, dataclasses.replace(WALK, steps=3)):
        list(stream.run(attack, model, images_of(x, y, model)))
    names = collections.Counter(key[0] for key in compiled_functions(model))
    assert names.pop("forward") == 1
    assert set(names.values()) == {2}


@pytest.mark.parametrize("slots", [1, 7, 128])
def test_outcomes_do_not_depend_on_order_or_batch(slots, monkeypatch):
    monkeypatch.setattr(_backend, "preferred_slots", lambda size: size)
    model, x = tiny_cnn(), random_images(40)
    y = mixed_labels(model, x)
    attack = PGD(eps=0.03, steps=4, restarts=2)

    def outcomes(order, slots):
        images = images_of(x[order], y[order], model, attack)
        found = stream.run(attack, model, images, batch_size=slots)
        return sorted(o._replace(index=int(order[o.index])) for o in found)

    straight = outcomes(np.arange(40), 16)
    shuffled = outcomes(np.random.default_rng(5).permutation(40), slots)
    for a, b in zip(straight, shuffled, strict=True):
        assert a.index == b.index
        assert a.success == b.success
        assert a.steps == b.steps
        np.testing.assert_allclose(a.x_adv, b.x_adv, atol=1e-6)
        np.testing.assert_allclose(a.distance, b.distance, atol=1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan(Attack):
    """Runs that start at given offsets and move by a stride: all is known."""

    offsets: tuple
    stride: float
    moves: int = 3

    @property
    def default_name(self):
        return "Scan"

    @property
    def updates(self):
        return self.moves

    def runs(self, num_classes):
        return len(self.offsets)

    def init(self, problem, run):
        offsets = ops.convert_to_tensor(np.array(self.offsets, np.float32))
        return {"x_adv": problem.x + ops.take(offsets, run)[:, None]}

    def step(self, problem, state):
        x = state["x_adv"]
        moved = {**state, "x_adv": x + self.stride}
        if self.examines_before_moving:
            return moved, (x, problem.logits(x))
        return moved, (moved["x_adv"], problem.logits(moved["x_adv"]))


class MinimumScan(Scan):
    minimum_norm = True


class LateScan(Scan):
    examines_before_moving = False


class LateMinimumScan(MinimumScan):
    examines_before_moving = False


def simulate(attack, start):
    """What the engine should do, for one image, spelt out."""
    best, steps, found = start, 0, False
    for run, offset in enumerate(attack.offsets):
        last_run = run == len(attack.offsets) - 1
        points = start + offset + attack.stride * np.arange(attack.moves + 1)
        if not attack.examines_before_moving:
            points = points[1:]
        for i, point in enumerate(points):
            # The point that remains of the last run costs no step.
            steps += not (last_run and i == attack.moves)
            if point <= 0.5:
                continue
            if not found or abs(point - start) < abs(best - start):
                best, found = point, True
            if not attack.minimum_norm:
                return found, best, steps
    return found, best, steps


@pytest.mark.parametrize("kind", [Scan, MinimumScan, LateScan, LateMinimumScan])
@pytest.mark.parametrize(
    "offsets, stride",
    [
        ((0.25,), -1 / 16),
        ((0.0, 0.125, 0.0625), 1 / 64),
        ((0.375, 0.0, 0.25, -0.25), -1 / 32),
        ((-0.25, 0.0), 1 / 8),
    ],
    ids=["one run", "forward", "backward", "far"],
)
def test_runs_follow_one_another_until_an_image_is_done(
    kind, offsets, stride, monkeypatch
):
    monkeypatch.setattr(_backend, "preferred_slots", lambda size: size)
    attack = kind(offsets=offsets, stride=stride)
    # Off the multiples of the strides, so that no point lies on the border.
    x = ((np.arange(20) / 32) + 1 / 256).astype(np.float32)[:, None]
    y = np.zeros(20, int)
    images = images_of(x, y, THRESHOLD)
    outcomes = sorted(stream.run(attack, THRESHOLD, images, batch_size=6))
    for start, outcome in zip(x[:, 0], outcomes, strict=True):
        found, best, steps = simulate(attack, start)
        assert outcome.success == found
        assert outcome.steps == steps
        if found:
            assert outcome.x_adv[0] == best
            assert outcome.distance == abs(best - start)
        else:
            assert outcome.distance == np.inf


def test_a_radius_bounds_what_counts():
    class Bounded(MinimumScan):
        radius = 0.125

    x = np.array([[0.40625], [0.34375], [0.25]], np.float32)
    attack = Bounded(offsets=(0.0,), stride=1 / 8, moves=3)
    images = images_of(x, np.zeros(3, int), THRESHOLD)
    outcomes = sorted(stream.run(attack, THRESHOLD, images))
    assert [o.success for o in outcomes] == [True, False, False]
    assert outcomes[0].distance == 0.125


def test_reach_target_accepts_the_target_only():
    # Classes 0, 1 and 2 lie beside each other on a line.
    model = linear_model(
        np.array([[0.0, 8.0, 16.0]], np.float32),
        np.array([0.0, -2.0, -8.0], np.float32),
    )
    x, y = np.zeros((3, 1), np.float32), np.zeros(3, int)
    attack = Scan(offsets=(0.0,), stride=1 / 16, moves=15)

    def positions(target, **options):
        images = images_of(x, y, model, attack, np.full(3, target))
        found = stream.run(attack, model, images, **options)
        return [(o.success, float(o.x_adv[0])) for o in found]

    assert positions(2) == [(True, 5 / 16)] * 3
    assert positions(1, reach_target=True) == [(True, 5 / 16)] * 3
    assert positions(2, reach_target=True) == [(True, 13 / 16)] * 3


def test_logits_that_are_not_finite_fool_nobody():
    def broken(x):
        return THRESHOLD(x) + 0 * ops.sqrt(0.4 - x)

    images = images_of(walkers([5]), np.zeros(1, int), THRESHOLD)
    (outcome,) = stream.run(WALK, broken, images)
    assert not outcome.success
    assert outcome.steps == 8
    assert outcome.bad_gradients > 0


def test_gradients_that_are_zero_are_counted():
    def flat(x):
        return ops.stop_gradient(THRESHOLD(x))

    x = walkers([5, 3])
    images = images_of(x, np.zeros(2, int), THRESHOLD)
    for outcome in stream.run(WALK, flat, images):
        assert not outcome.success
        assert (outcome.steps, outcome.zero_gradients) == (8, 8)
        assert outcome.bad_gradients == 0
        np.testing.assert_array_equal(outcome.x_adv, x[outcome.index])


def test_one_bad_gradient_spoils_no_other_image():
    def broken(x):
        # The slope at 0.125 is an infinity times zero.
        distance = ops.sqrt(ops.square(x - 0.125))
        return THRESHOLD(x) + distance * np.array([[1.0, 0.0]], np.float32)

    x = np.array([[0.125], [0.46875], [0.46875]], np.float32)
    images = images_of(x, np.zeros(3, int), THRESHOLD)
    outcomes = sorted(stream.run(WALK, broken, images))
    assert outcomes[0].bad_gradients == 8
    assert not outcomes[0].success
    for outcome in outcomes[1:]:
        assert outcome.bad_gradients == 0
        assert outcome.success


def test_a_classifier_serves_in_place_of_a_model():
    known = classifier.Classifier(THRESHOLD)
    images = images_of(walkers([2]), np.zeros(1, int), THRESHOLD)
    (outcome,) = stream.run(WALK, known, images)
    assert outcome.steps == 3
