import collections
import dataclasses
import gc

import numpy as np
import pytest
from helpers import (
    Alive,
    compiled_functions,
    linear_model,
    mixed_labels,
    random_images,
    tiny_cnn,
    to_numpy,
)
from keras import ops

from keras_wp import _backend, _noise
from keras_wp.attacks import FAB, PGD, Attack, DeepFool
from keras_wp.engine import programs, stream
from keras_wp.inspection import classifier

# Steps that float32 adds without rounding.
STEP = 1 / 32
# With this model the class of an image is 1 where its one pixel exceeds 0.5.
THRESHOLD = linear_model(
    np.array([[0.0, 8.0]], np.float32), np.array([0.0, -4.0], np.float32)
)
WALK = PGD(eps=1.0, steps=8, step_size=STEP, random_start=False, loss="margin")


def images_of(x, y, model, attack=WALK, target=None):
    """What the engine is fed with, lazily."""
    logits = to_numpy(model(ops.convert_to_tensor(x)))
    keys = _noise.seeded(_noise.image_digests(x), attack.seed)
    target = y if target is None else target
    return (
        stream.Image(i, x[i], int(y[i]), int(target[i]), keys[i], logits[i])
        for i in range(len(x))
    )


def walkers(needed):
    """Images of class 0 that reach class 1 after so many steps of `WALK`."""
    start = 0.5 - (np.asarray(needed) - 0.5) * STEP
    return start.astype(np.float32).reshape(-1, 1)


def walk(needed, slots, monkeypatch, **options):
    monkeypatch.setattr(_backend, "preferred_slots", lambda size: size)
    x = walkers(needed)
    images = images_of(x, np.zeros(len(x), int), THRESHOLD)
    return stream.run(WALK, THRESHOLD, images, batch_size=slots, **options)


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the batches that are advanced, in order."""
    sizes = []
    advance = programs.Programs.advance

    def recorded(self, inputs, state, calm):
        sizes.append(int(inputs["y"].shape[0]))
        return advance(self, inputs, state, calm)

    monkeypatch.setattr(programs.Programs, "advance", recorded)
    monkeypatch.setattr(_backend, "steps_at_once", lambda: 1)
    return sizes


@pytest.mark.parametrize("slots", [1, 3, 8, 64])
def test_each_image_takes_the_steps_it_needs(slots, monkeypatch, rng):
    needed = rng.integers(0, 12, 40)
    outcomes = sorted(walk(needed, slots, monkeypatch))
    assert [o.index for o in outcomes] == list(range(40))
    for k, outcome in zip(needed, outcomes, strict=True):
        # Eight steps are allowed; the point after the eighth is examined in
        # a forward pass of its own.
        assert outcome.success == (k <= 8)
        assert outcome.steps == min(k + 1, 8)
        assert outcome.zero_gradients == outcome.bad_gradients == 0
        moved = walkers(k)[0] + min(k, 8) * STEP
        np.testing.assert_array_equal(outcome.x_adv, moved)
        assert outcome.distance == (k * STEP if k <= 8 else np.inf)


def test_without_the_last_point_the_last_step_is_not_examined(monkeypatch):
    outcomes = sorted(walk([7, 8, 9], 2, monkeypatch, examine_last=False))
    assert [o.success for o in outcomes] == [True, False, False]
    # What the last step did is handed out all the same.
    np.testing.assert_array_equal(outcomes[1].x_adv, walkers(8)[0] + 8 * STEP)


@pytest.mark.parametrize(
    "attack",
    [
        DeepFool(final_search=0),
        DeepFool(),
        DeepFool(steps=1),
        FAB(steps=3, targets=2),
        PGD(eps=0.3, steps=3, restarts=2),
        PGD(eps=1.0, steps=9, targeted=True),
    ],
    ids=lambda attack: f"{attack.label}-{attack.final_search}",
)
def test_logits_are_those_of_the_adversarial_image(attack):
    model, x = tiny_cnn(), random_images(10)
    y = mixed_labels(model, x, wrong=100)
    target = (y + 1) % 3
    outcomes = list(
        stream.run(
            attack,
            model,
            images_of(x, y, model, attack, target),
            reach_target=getattr(attack, "targeted", False),
        )
    )
    assert any(outcome.success for outcome in outcomes)
    for outcome in outcomes:
        if outcome.success:
            wanted = to_numpy(model(outcome.x_adv[None]))[0]
            np.testing.assert_allclose(outcome.logits, wanted, atol=1e-5)


def test_no_work_is_spent_on_decided_images(batches, backend, monkeypatch, rng):
    needed = rng.integers(0, 12, 200)
    outcomes = list(walk(needed, 8, monkeypatch))
    steps = sum(o.steps for o in outcomes)
    if backend == "tensorflow":
        assert sum(batches) == steps
    # While there are images to take, all eight slots work; from then on an
    # image takes at most eight steps more.
    assert steps <= sum(batches) <= steps + 7 * 8
    assert len(batches) <= steps / 8 + 8


def test_idle_slots_are_given_up_when_no_image_is_left(
    batches, backend, monkeypatch
):
    # Two images of each length of life.
    list(walk(np.repeat([1, 2, 3, 5], 2), 8, monkeypatch))
    if backend == "jax":
        # Another shape would be traced again.
        assert batches == [8] * 6
    else:
        assert batches == [8, 8, 6, 4, 2, 2]


def test_a_call_ends_when_an_image_is_done(batches, backend, monkeypatch):
    monkeypatch.setattr(_backend, "steps_at_once", lambda: 4)
    monkeypatch.setattr(programs, "_LONGEST_CALL", np.inf)
    # The first call is of one iteration, to see how long it takes.
    outcomes = sorted(walk([3, 9, 9], 3, monkeypatch))
    assert [o.steps for o in outcomes] == [4, 8, 8]
    # On TensorFlow, another of one after that in which an image was done.
    assert len(batches) == (3 if backend == "jax" else 4)
    batches.clear()
    monkeypatch.setattr(programs, "_LONGEST_CALL", 0)
    list(walk([3, 9, 9], 3, monkeypatch))
    assert len(batches) == 8


def test_calls_grow_where_images_resist(batches, backend, monkeypatch):
    monkeypatch.setattr(_backend, "steps_at_once", lambda: 8)
    monkeypatch.setattr(programs, "_LONGEST_CALL", np.inf)
    # An image is done after each of three iterations; then none for five.
    list(walk([0, 1, 2, 9], 4, monkeypatch))
    assert len(batches) == (3 + 1 if backend == "jax" else 3 + 1 + 1)


@pytest.mark.parametrize("longest", [0, np.inf])
def test_the_program_of_an_iteration_does_not_depend_on_the_clock(
    longest, backend, monkeypatch
):
    monkeypatch.setattr(_backend, "steps_at_once", lambda: 8)
    monkeypatch.setattr(programs, "_LONGEST_CALL", longest)
    ran = []
    make = programs.Programs.__init__

    def recorded(name, program):
        def call(eps, inputs, state, *most):
            after = program(eps, inputs, state, *most)
            ran.extend([name] * to_numpy(after["steps"] - state["steps"]).max())
            return after

        return call

    def made(self, *args):
        make(self, *args)
        for name in ("_advance", "_several"):
            setattr(self, name, recorded(name, getattr(self, name)))

    monkeypatch.setattr(programs.Programs, "__init__", made)
    list(walk([0, 1, 2, 9], 4, monkeypatch))
    alone = ["_several" if backend == "jax" else "_advance"]
    assert ran == 4 * alone + 4 * ["_several"]


@pytest.mark.parametrize(
    "attack",
    [
        PGD(eps=0.02, steps=4, restarts=2),
        FAB(steps=4, targets=2),
    ],
    ids=lambda attack: attack.label,
)
def test_iterations_of_one_call_are_those_of_many(attack, monkeypatch):
    model, x = tiny_cnn(), random_images(10)
    y = mixed_labels(model, x, wrong=100)

    def outcomes(most):
        monkeypatch.setattr(_backend, "steps_at_once", lambda: most)
        monkeypatch.setattr(programs, "_LONGEST_CALL", np.inf)
        images = images_of(x, y, model, attack)
        return sorted(stream.run(attack, model, images, batch_size=4))

    single, looped = outcomes(1), outcomes(5)
    traces = {k[0]: f.traces for k, f in compiled_functions(model).items()}
    assert traces["several"] == 1
    for one, several in zip(single, looped, strict=True):
        for name in ("success", "steps", "zero_gradients", "bad_gradients"):
            assert getattr(several, name) == getattr(one, name)
        np.testing.assert_allclose(several.x_adv, one.x_adv, atol=1e-6)
        assert several.distance == pytest.approx(one.distance, abs=1e-6)


def test_there_are_no_more_slots_than_images(batches, backend, monkeypatch):
    list(walk([2, 2, 2], 64, monkeypatch))
    assert set(batches) == ({64} if backend == "jax" else {3})


def test_nothing_comes_of_nothing(monkeypatch):
    x = walkers([1])[:0]
    assert list(stream.run(WALK, THRESHOLD, iter(()))) == []
    assert x.shape == (0, 1)


def test_outcomes_stream_while_images_are_read(monkeypatch, rng):
    monkeypatch.setattr(_backend, "preferred_slots", lambda size: size)
    x = walkers(rng.integers(0, 12, 200))
    read = 0

    def counted():
        nonlocal read
        for image in images_of(x, np.zeros(200, int), THRESHOLD):
            read += 1
            yield image

    behind = []
    outcomes = stream.run(WALK, THRESHOLD, counted(), batch_size=8)
    for count, _ in enumerate(outcomes, start=1):
        behind.append(read - count)
    # Read ahead, in slots, or waiting for their last points, or for the
    # model's verdict, to fill a batch.
    assert max(behind) < (stream._AHEAD + 3) * 8
    assert read == 200


def test_closing_the_stream_stops_the_reading(monkeypatch):
    closed = []

    def source():
        try:
            yield from images_of(
                walkers([1] * 50), np.zeros(50, int), THRESHOLD
            )
        finally:
            closed.append(True)

    outcomes = stream.run(WALK, THRESHOLD, source(), batch_size=4)
    next(outcomes)
    outcomes.close()
    gc.collect()
    assert closed == [True]


def device_bytes(backend):
    """Bytes of all the arrays that live on the device."""
    if backend == "jax":
        import jax

        return sum(array.nbytes for array in jax.live_arrays())
    import tensorflow as tf

    tensors = (o for o in gc.get_objects() if isinstance(o, tf.Tensor))
    return sum(
        t.shape.num_elements() * t.dtype.size
        for t in tensors
        if hasattr(t, "numpy")
    )


@pytest.mark.parametrize(
    "attack",
    [
        WALK,
        pytest.param(
            PGD(eps=0.01, steps=2, restarts=2), marks=pytest.mark.slow
        ),
    ],
)
def test_memory_is_that_of_the_slots(attack, backend, monkeypatch):
    monkeypatch.setattr(_backend, "preferred_slots", lambda size: size)
    shape = (32, 32, 1)
    model = linear_model(np.ones((*shape, 2), np.float32))

    def peaks(count):
        alive = Alive()

        def source():
            for i in range(count):
                x = alive.watch(np.full(shape, 0.5, np.float32))
                yield stream.Image(
                    i, x, 0, 0, np.zeros(2, np.uint32), np.zeros(2, np.float32)
                )

        gc.collect()
        before = device_bytes(backend)
        most_bytes = most_images = 0
        for i, _ in enumerate(
            stream.run(attack, model, source(), batch_size=8)
        ):
            # It takes a while to look at every object.
            if i % 32 == 8:
                most_bytes = max(most_bytes, device_bytes(backend) - before)
                most_images = max(most_images, alive.count)
        return most_bytes, most_images

    few, _ = peaks(64)
    many, images = peaks(192)
    one = 4 * np.prod(shape)
    # Inputs, best and present point of each slot, and a batch in passing.
    assert 8 * one <= many <= 6 * 8 * one
    assert many <= few + 8 * one
    # Those ahead, eight in slots, eight waiting, eight on their way out.
    assert images <= (stream._AHEAD + 3) * 8


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
