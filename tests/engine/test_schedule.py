"""Which image is attacked next."""

import gc

import numpy as np
import pytest
from helpers import Alive

from keras_wp.engine.schedule import hardest_first
from keras_wp.engine.slots import Image

pytestmark = pytest.mark.once


LOGITS = [[1, 0, 0], [5, 0, 0], [3, 0, 2.5], [9, 0, 0], [4, 0, 0]]


def image(index, logits, x=0.0, y=0, target=1):
    key = np.zeros(2, np.uint32)
    return Image(index, x, y, target, key, np.float32(logits))


def order(logits, ahead, reach_target=False):
    images = [image(i, row) for i, row in enumerate(logits)]
    return [i.index for i in hardest_first(images, ahead, reach_target)]


def test_the_largest_margin_comes_first():
    assert order(LOGITS, 9) == [3, 1, 4, 0, 2]


def test_no_more_are_read_ahead_than_allowed():
    assert order(LOGITS, 0) == [0, 1, 2, 3, 4]
    assert order(LOGITS, 1) == [1, 0, 3, 4, 2]
    read = []

    def source():
        for i, row in enumerate(LOGITS):
            read.append(i)
            yield image(i, row)

    first = next(hardest_first(source(), 2, False))
    assert (read, first.index) == ([0, 1, 2], 1)


def test_an_image_that_waits_does_not_keep_those_it_was_read_with():
    alive = Alive()

    def source():
        for chunk in range(20):
            pixels = alive.watch(np.full((50, 100), chunk, np.float32))
            for i, row in enumerate(pixels):
                # The first of each chunk is the easiest, and waits.
                yield image(50 * chunk + i, [i, 0, 0], x=row)

    most = 0
    seen = []
    for found in hardest_first(source(), 10, False):
        gc.collect(0)
        most = max(most, alive.count)
        seen.append(found.index)
        assert (found.x == found.index // 50).all()
    assert sorted(seen) == list(range(1000))
    assert most <= 2


def test_a_target_is_harder_the_further_away_it_is():
    assert order([[9, 8, 0], [9, 0, 0], [9, 5, 0]], 9, True) == [1, 2, 0]


@pytest.mark.parametrize("reach_target", [False, True])
def test_ties_and_logits_that_are_not_finite_lose_no_image(reach_target):
    logits = [[1, 0, 0], [1, 0, 0], [np.nan, 0, 0], [np.inf, np.inf, 0]]
    assert sorted(order(logits, 2, reach_target)) == [0, 1, 2, 3]


def test_nothing_comes_of_nothing():
    assert order([], 4) == []
