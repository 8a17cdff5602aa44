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
from walks import STEP, THRESHOLD, WALK, images_of, walkers

from keras_wp import _backend
from keras_wp.attacks import FAB, PGD, DeepFool
from keras_wp.engine import programs, stream


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


@pytest.mark.once
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


@pytest.mark.once
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
