"""What becomes of images after their last run."""

import types

import numpy as np
import pytest

from keras_wp import _backend, objectives
from keras_wp.engine import refine
from keras_wp.engine.stream import Image, Outcome


def image(index, x, y=0, target=1, clean_logits=(1.0, 0.0, -9.0)):
    return Image(
        index,
        np.float32(x),
        y,
        target,
        np.zeros(2, np.uint32),
        np.float32(clean_logits),
    )


def outcome(index, x_adv, success=True, distance=1.0, logits=None):
    x_adv = np.float32(x_adv)
    return Outcome(index, x_adv, success, distance, 5, 0, 0, logits)


class Program:
    """Logits `(0, f(x), -9)` of images with one pixel, and a count."""

    devices = _backend.ANYWHERE

    def __init__(self, margin):
        self._margin = margin
        self.examined = 0
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        self.examined += len(x)
        x = np.asarray(x).reshape(len(x))
        margin = self._margin(x)
        return np.stack([0 * margin, margin, 0 * margin - 9], 1)


def attack(**fields):
    values = {
        "norm": "linf",
        "bounds": (0.0, 1.0),
        "minimum_norm": True,
        "examines_before_moving": True,
        "radius": None,
        "confidence": 0.0,
        "final_search": 0,
    }
    return types.SimpleNamespace(**{**values, **fields})


def at_1(program):
    """The outcome of an image that is fooled at 1."""
    return outcome(0, [1.0], logits=program([[1.0]])[0])


def end(kind, program, items, size=8, reach_target=False):
    ending = refine.Ending(kind, program, reach_target, size)
    found = [o for item in items for o in ending.add(*item)]
    return found + list(ending.flush())


def test_margin_is_above_0_exactly_where_an_image_is_fooled():
    logits = np.float32([[1, 2, 0], [2, 1, 0], [1, 1, 0], [3, np.nan, 9]])
    labels = np.zeros(4, np.int32)
    margin = objectives.adversarial_margin(logits, labels, False)
    np.testing.assert_array_equal(margin, [1, -1, 0, -np.inf])
    margin = objectives.adversarial_margin(logits, labels, True)
    np.testing.assert_array_equal(margin, [-1, 1, 0, -np.inf])


def test_last_points_count_if_they_are_nearer():
    program = Program(lambda x: x - 0.3)
    items = [
        (image(0, [0.0]), outcome(0, [0.0], False, np.inf), [0.5]),
        (image(1, [0.0]), outcome(1, [0.6], True, 0.6), [0.5]),
        (image(2, [0.0]), outcome(2, [0.4], True, 0.4), [0.5]),
        (image(3, [0.0]), outcome(3, [0.0], False, np.inf), [0.2]),
    ]
    items = [(i, o, np.float32(point)) for i, o, point in items]
    found = end(attack(), program, items)
    assert [o.success for o in found] == [True, True, True, False]
    np.testing.assert_allclose(
        [o.distance for o in found], [0.5, 0.5, 0.4, np.inf]
    )
    np.testing.assert_allclose(
        [o.x_adv[0] for o in found], [0.5, 0.5, 0.4, 0.0], rtol=1e-6
    )
    assert program.calls == 1


@pytest.mark.parametrize(
    "kind, success, point",
    [
        (attack(), True, [0.5]),
        (attack(minimum_norm=False), True, [0.9]),
        (attack(examines_before_moving=False), False, [0.9]),
        (attack(), False, None),
    ],
    ids=["kept", "any_will_do", "examined", "not_asked"],
)
def test_points_that_cannot_matter_are_not_examined(kind, success, point):
    program = Program(lambda x: x - 0.3)
    before = outcome(0, [0.5], success)
    point = None if point is None else np.float32(point)
    (after,) = end(kind, program, [(image(0, [0.0]), before, point)])
    assert after is before
    assert program.calls == 0


@pytest.mark.parametrize("label, fooled", [(0, False), (1, True)])
def test_last_points_with_a_tie_are_taken_for_the_first_class(label, fooled):
    program = Program(lambda x: 0 * x)
    item = (
        image(0, [0.0], y=label),
        outcome(0, [0.0], False, np.inf),
        np.float32([0.5]),
    )
    assert [o.success for o in end(attack(), program, [item])] == [fooled]
    (found,) = end(attack(confidence=0.1), program, [item])
    assert not found.success


def test_a_search_begins_at_the_margin_of_a_last_point():
    program = Program(lambda x: 5 * (x - 0.3))
    clean = image(0, [0.0], clean_logits=(0.0, -1.5, -9.0))
    item = (clean, outcome(0, [0.0], False, np.inf), np.float32([1.0]))
    (found,) = end(attack(final_search=1), program, [item])
    np.testing.assert_allclose(found.x_adv[0], 0.37, rtol=1e-6)
    assert program.calls == 2


def test_last_points_outside_the_radius_do_not_count():
    program = Program(lambda x: x - 0.3)
    items = [
        (image(i, [0.0]), outcome(i, [0.0], False, np.inf), np.float32([end]))
        for i, end in enumerate((0.5, 0.4))
    ]
    found = end(attack(radius=0.45), program, items)
    assert [o.success for o in found] == [False, True]


@pytest.mark.parametrize("rounds, left", [(1, 0.07), (2, 0.007), (3, 0.001)])
def test_final_search_closes_in_on_a_linear_boundary(rounds, left):
    program = Program(lambda x: 5 * (x - 0.3))
    clean = image(0, [0.0], clean_logits=(0.0, -1.5, -9.0))
    items = [(clean, at_1(program), None)]
    (found,) = end(attack(final_search=rounds), program, items)
    assert program.calls == 1 + rounds  # The first of them is ours.
    np.testing.assert_allclose(found.x_adv[0], 0.3 + left, atol=7e-4)
    np.testing.assert_allclose(found.distance, found.x_adv[0])
    assert found.x_adv[0] > 0.3


@pytest.mark.parametrize(
    "margin",
    [
        lambda x: np.where(x < 0.62, -1.0, 1.0),
        lambda x: np.sin(25 * x) + 0.5 * (x > 0.99),
        lambda x: np.where(x > 0.99, 1e-7, -1.0),
        lambda x: np.where(x > 0.99, 1.0, np.nan),
        lambda x: np.where(x > 0.99, 1.0, 0.0),
    ],
    ids=["step", "waves", "sliver", "nan", "tie"],
)
def test_final_search_never_loses_what_was_found(margin):
    program = Program(margin)
    items = [(image(0, [0.0]), at_1(program), None)]
    (found,) = end(attack(final_search=5), program, items)
    assert found.success
    assert margin(found.x_adv[0]) > 0
    assert found.distance == found.x_adv[0] <= 1.0


def test_final_search_is_for_images_that_are_fooled():
    program = Program(lambda x: x - 0.3)
    before = outcome(0, [1.0], False, np.inf)
    (after,) = end(
        attack(final_search=3), program, [(image(0, [0.0]), before, None)]
    )
    assert after is before
    assert program.calls == 0


def test_final_search_keeps_the_confidence():
    program = Program(lambda x: 5 * (x - 0.3))
    clean = image(0, [0.0], clean_logits=(0.0, -1.5, -9.0))
    items = [(clean, at_1(program), None)]
    (found,) = end(attack(final_search=4, confidence=1.0), program, items)
    np.testing.assert_allclose(found.x_adv[0], 0.5, atol=1e-3)
    assert found.x_adv[0] > 0.5


def test_final_search_keeps_the_target_reached():
    def program(x):
        x = np.asarray(x).reshape(len(x))
        # Class 2 is met before class 1, which is the target.
        return np.stack([0 * x, x - 0.6, 0.2 - np.abs(x - 0.4)], 1)

    program.devices = _backend.ANYWHERE
    clean = image(0, [0.0], clean_logits=(0.0, -0.6, -0.2))
    (found,) = end(
        attack(final_search=4),
        program,
        [(clean, at_1(program), None)],
        reach_target=True,
    )
    assert 0.6 < found.x_adv[0] < 0.61


def test_images_wait_until_a_batch_is_full():
    program = Program(lambda x: x - 0.3)
    ending = refine.Ending(attack(final_search=2), program, False, 4)
    yielded = []
    for i in range(6):
        found = outcome(i, [1.0], logits=np.float32([0.0, 0.7, -9.0]))
        items = image(i, [0.0]), found, None
        yielded.append(len(list(ending.add(*items))))
    assert yielded == [0, 0, 0, 4, 0, 0]
    assert len(list(ending.flush())) == 2
    rows = 2 * (4 + 2) if _backend.DYNAMIC_BATCH else 2 * (4 + 4)
    assert program.examined == rows
