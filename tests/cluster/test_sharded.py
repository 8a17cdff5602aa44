"""Data that are a function: each worker reads its own shards."""

import itertools
import pathlib

import numpy as np
import pytest
from hands import Local
from helpers import plainly, tiny_cnn

import keras_wp as kwp
from keras_wp.attacks import PGD

pytestmark = pytest.mark.once
ATTACK = PGD(eps=0.1, steps=4, random_start=True)


class Shards:
    """A function of shards that can be pickled, and writes down its calls.

    Args:
        x: The images.
        y: The labels.
        log: The file to write to.
        lazy: Whether to return a generator of batches.
    """

    def __init__(self, x, y, log, lazy=False):
        self._x, self._y = x, y
        self._log, self._lazy = log, lazy

    def __call__(self, k, n):
        with self._log.open("a") as log:
            log.write(f"{k} of {n}\n")
        x, y = self._x[k - 1 :: n], self._y[k - 1 :: n]
        if not self._lazy:
            return x, y
        return ((x[i : i + 5], y[i : i + 5]) for i in range(0, len(x), 5))

    def calls(self):
        return set(self._log.read_text().splitlines())


@pytest.fixture(scope="module")
def whole(model, data):
    return plainly(model, data, ATTACK)


@pytest.fixture(params=[False, True], ids=["arrays", "generator"])
def function(request, data, tmp_path):
    return Shards(*data, tmp_path / "calls", lazy=request.param)


def assert_same(found, expected):
    assert found.identities == expected.identities
    np.testing.assert_array_equal(found.clean_correct, expected.clean_correct)
    for one, other in zip(found.results, expected.results, strict=True):
        for name in ("robust", "steps", "zero_gradients", "predicted"):
            np.testing.assert_array_equal(
                getattr(one, name), getattr(other, name), name
            )


def test_a_function_gives_all_data(model, function, whole):
    assert_same(plainly(model, function, ATTACK), whole)
    assert function.calls() == {"1 of 1"}


@pytest.mark.parametrize("left_out", [None, 1, 3])
def test_a_shard_reads_itself_and_the_beginning(
    model, function, whole, left_out
):
    numbers = [k for k in (1, 2, 3) if k != left_out]
    parts = [plainly(model, function, ATTACK, shard=(k, 3)) for k in numbers]
    assert function.calls() == {"1 of 3", *(f"{k} of 3" for k in numbers)}
    found = kwp.merge(parts)
    if left_out is None:
        assert_same(found, whole)
    else:
        places = [i for i in range(40) if i % 3 != left_out - 1]
        assert found.environment["missing"] == (
            f"shard {left_out} of 3 is missing"
        )
        np.testing.assert_array_equal(
            found["PGD4"].robust, whole["PGD4"].robust[places]
        )


def test_shards_survive_a_file(model, function, whole, tmp_path):
    for k in (1, 2):
        part = plainly(model, function, ATTACK, shard=(k, 2))
        part.to_json(tmp_path / f"{k}.json")
    assert_same(kwp.merge([tmp_path]), whole)


@pytest.mark.parametrize("deaths", [(), (0, 2)])
def test_workers_read_their_shards(model, function, whole, deaths, tmp_path):
    cluster = Local(deaths=deaths)
    found = plainly(
        model, function, ATTACK, cluster=cluster, resume_dir=tmp_path / "r"
    )
    assert_same(found, whole)
    assert found.environment["merged"] == "3 of 3 shards"
    # The driver has read nothing.
    assert function.calls() == {f"{k} of 3" for k in (1, 2, 3)}
    folders = {path.name for path in pathlib.Path(tmp_path / "r").iterdir()}
    assert folders == {f"shard-{k}-of-3" for k in (1, 2, 3)}


@pytest.mark.slow
def test_defaults_are_those_of_evaluate(model, data, tmp_path):
    function = Shards(*data, tmp_path / "calls")
    found = kwp.evaluate(
        model, function, "pgd4", eps=0.1, cluster=Local(), progress=False
    )
    assert {r.name for r in found.results} == {"PGD4", "adaptive"}
    assert any(f.check == "extent" for f in found.findings)


def test_adversarial_images_stay_with_the_workers(model, function, tmp_path):
    with pytest.raises(ValueError) as error:
        plainly(
            model,
            function,
            ATTACK,
            cluster=Local(),
            save_adversarial=tmp_path / "a.npz",
        )
    assert str(error.value).startswith(
        "`save_adversarial` needs data that are no function"
    )


def test_a_model_in_the_place_of_data_is_refused(model, data):
    with pytest.raises(ValueError, match="arrays or a dataset of"):
        plainly(model, model, ATTACK)


@pytest.mark.parametrize(
    "there, workers, threads",
    [({"CPU": 4.0}, 2, "2"), ({"CPU": 4.0, "GPU": 2.0}, 2, None)],
)
def test_actors_without_a_gpu_keep_to_their_cores(there, workers, threads):
    found, options = kwp.cluster.Ray(cpus=2)._resources(there)
    assert found == workers
    given = options["runtime_env"]["env_vars"]
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    assert [given.get(name) for name in names] == [threads, threads]
    assert given["KERAS_BACKEND"]


def other_model():
    return tiny_cnn(scale=0.25)


def test_other_weights_on_a_worker_are_refused(model, function):
    cluster = Local()
    cluster.make_model = other_model
    with pytest.raises(ValueError, match="the weights of the driver's model"):
        plainly(model, function, ATTACK, cluster=cluster)


def test_a_function_that_returns_all_images_each_time_is_refused(model, data):
    parts = [
        plainly(model, lambda k, n: data, ATTACK, shard=(k, 2)) for k in (1, 2)
    ]
    with pytest.raises(ValueError, match="the same images in report 1 and in"):
        kwp.merge(parts)


def test_an_empty_first_shard_is_told(model, data):
    def read(k, n):
        return (part[:0] if k == 1 else part[k - 1 :: n] for part in data)

    with pytest.raises(ValueError, match="must hold an image"):
        plainly(model, lambda k, n: tuple(read(k, n)), ATTACK, shard=(2, 3))


def test_empty_batches_are_passed_over(model, data, whole):
    x, y = data
    cuts = [0, 0, 17, 17, 40, 40]
    batches = [(x[a:b], y[a:b]) for a, b in itertools.pairwise(cuts)]
    assert_same(plainly(model, batches, ATTACK), whole)
