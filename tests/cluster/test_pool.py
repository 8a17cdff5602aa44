"""Who gets which images, and what happens when a worker dies."""

import functools
import itertools

import numpy as np
import pytest
from hands import Local, LocalHands
from helpers import message_of, plainly, tiny_cnn

import keras_wp as kwp
from keras_wp.attacks import APGD, PGD, DeepFool
from keras_wp.cluster.pool import Pool, chunk_sizes

pytestmark = pytest.mark.once


class Echo:
    """A worker whose outcomes are the images."""

    def attack(self, part, chunk):
        return [(part, image) for image in chunk]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("deaths", [(), (0,), (1, 4, 5)])
def test_every_image_counts_once(workers, deaths, late):
    hands = LocalHands(Echo, workers, deaths, late)
    found = list(Pool(hands, 4).run("PGD", range(30)))
    assert sorted(found) == [("PGD", i) for i in range(30)]
    # What a dead worker had in advance is lost with it.
    assert len(hands.log) >= 8 + len(deaths)


def test_images_are_read_as_workers_fall_free():
    hands, read = LocalHands(Echo, 2), []
    images = (read.append(i) or i for i in itertools.count())
    found = Pool(hands, 5).run("PGD", images)
    next(found)
    assert len(read) == 2 * 2 * 5
    assert {worker for worker, _ in hands.log} == {"worker 0", "worker 1"}


def test_images_that_kill_every_worker_are_given_up():
    hands = LocalHands(Echo, 1, range(100))
    with pytest.raises(RuntimeError, match="3 workers have died at the same 4"):
        list(Pool(hands, 4).run("PGD", range(8)))


@pytest.mark.parametrize(
    "images, workers, slots, expected",
    [
        (1_000, 2, 64, [250, 187, 140, 105, 79, 120, 119]),
        (256, 2, 64, [128, 128]),
        (57, 2, 64, [29, 28]),
        (3, 4, 64, [1, 1, 1, 0]),
    ],
)
def test_chunks_shrink_and_the_last_are_shares(
    images, workers, slots, expected
):
    assert list(chunk_sizes(images, workers, slots)) == expected
    assert sum(expected) == images


def test_chunks_have_several_rounds_of_many_images():
    sizes = list(chunk_sizes(50_000, 8, 128))
    assert sizes[:60] == [512] * 60
    assert sum(sizes) == 50_000 and min(sizes) >= 128


@pytest.mark.parametrize("deaths", [(), (0, 3)])
def test_chunks_may_have_several_sizes(deaths):
    hands = LocalHands(Echo, 2, deaths)
    sizes = functools.partial(chunk_sizes, workers=2, slots=8)
    found = list(Pool(hands, sizes).run("PGD", range(40), 40))
    assert sorted(found) == [("PGD", i) for i in range(40)]


def outcomes(report):
    names = ("robust", "steps", "zero_gradients", "predicted", "in_bytes")
    return [[getattr(r, name) for name in names] for r in report.results]


def test_workers_find_what_one_process_does(model, data, tmp_path):
    attacks = [PGD(eps=0.1, steps=4, random_start=True), DeepFool(steps=4)]
    cluster = Local(deaths=(2,))
    found = plainly(model, data, attacks, cluster=cluster, resume_dir=tmp_path)
    expected = plainly(model, data, attacks)
    np.testing.assert_equal(outcomes(found), outcomes(expected))
    assert len(cluster.hands.dead) == 1
    for path in tmp_path.glob("*.jsonl"):  # None is kept twice.
        names = [line.split('"')[1] for line in path.read_text().splitlines()]
        assert len(names) == len(set(names))


def test_another_model_or_version_on_a_worker_is_refused(model, data):
    def refused(**changes):
        cluster = Local(**changes)
        return message_of(
            plainly, model, data, "fgsm", eps=0.1, cluster=cluster
        )

    assert "the model and the weights of the driver" in refused(digest="00")
    assert "Received: keras_wp" in refused(versions={"keras_wp": "0"})


def test_what_is_no_cluster_is_refused(model, data):
    message = message_of(plainly, model, data, "fgsm", eps=0.1, cluster="dask")
    assert "`cluster` must be None" in message
    message = message_of(
        plainly, lambda x: model(x), data, "fgsm", eps=0.1, cluster=Local()
    )
    assert "make_model" in message


def test_an_attack_through_another_model_runs_here(model, data):
    attack = APGD(
        eps=0.1, steps=2, surrogate=kwp.Surrogate(model=tiny_cnn(seed=1))
    )
    cluster = Local()
    report = plainly(model, data, [attack], cluster=cluster)
    assert cluster.hands.log == []
    np.testing.assert_equal(
        outcomes(report), outcomes(plainly(model, data, [attack]))
    )
