"""Data that are a function: each worker reads its own shards."""

import itertools
import pathlib

import keras
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
        if not self._log.exists():
            return set()
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


def test_shards_that_are_all_empty_are_told(model, data):
    x, y = data
    with pytest.raises(ValueError, match="must hold at least one image"):
        plainly(model, lambda k, n: (x[:0], y[:0]), ATTACK, shard=(1, 2))


def test_empty_batches_are_passed_over(model, data, whole):
    x, y = data
    cuts = [0, 0, 17, 17, 40, 40]
    batches = [(x[a:b], y[a:b]) for a, b in itertools.pairwise(cuts)]
    assert_same(plainly(model, batches, ATTACK), whole)


class Cut:
    """A function of shards of any sizes, as they are cut by hand.

    Args:
        x: The images.
        y: The labels.
        cuts: Where each shard ends.
    """

    def __init__(self, x, y, cuts):
        self._x, self._y, self._cuts = x, y, cuts

    def __call__(self, k, n):
        begin, end = ([0, *self._cuts][k - 1], self._cuts[k - 1])
        return self._x[begin:end], self._y[begin:end]


@pytest.mark.parametrize("cuts", [(3, 30, 40), (25, 25, 40), (0, 39, 40)])
def test_shards_may_be_cut_anywhere(model, data, whole, cuts):
    found = plainly(model, Cut(*data, cuts), ATTACK, cluster=Local())
    assert found.environment["merged"] == "3 of 3 shards"
    assert "missing" not in found.environment
    places = [found.identities.index(name) for name in whole.identities]
    assert sorted(places) == list(range(40))
    for sample in found.samples:
        place = list(whole.identities).index(found.identities[sample.index])
        np.testing.assert_array_equal(sample.image, data[0][place])
    one, other = found["PGD4"], whole["PGD4"]
    for name in ("robust", "steps", "predicted"):
        np.testing.assert_array_equal(
            getattr(one, name)[places], getattr(other, name)
        )
    assert_same(
        kwp.merge(
            [
                plainly(model, Cut(*data, cuts), ATTACK, shard=(k, 3))
                for k in (1, 2, 3)
                if cuts[k - 1] > [0, *cuts][k - 1]
            ]
        ),
        found,
    )


class Noisy(keras.layers.Layer):
    """Adds noise, in inference, too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        noise = keras.random.normal(keras.ops.shape(inputs), seed=self.seed)
        return inputs + 0.2 * noise


@pytest.mark.filterwarnings("ignore:The model gives different logits")
def test_shards_of_a_randomized_model_may_differ_in_draws(model, data):
    noisy = keras.Sequential([keras.Input(data[0].shape[1:]), Noisy(), model])
    first, second = (
        plainly(noisy, data, ATTACK, shard=(k, 2), draws=2 * k) for k in (1, 2)
    )
    found = kwp.merge([first, second])
    assert len(found) == 40
    assert found["PGD4"].attack == first["PGD4"].attack
    one = plainly(noisy, data, ATTACK, draws=1)
    assert one["PGD4"].attack.get("surrogate") is None


def test_findings_that_count_are_of_all_shards(model, data):
    def audited(**options):
        return kwp.evaluate(
            model, data, weak, audit=True, progress=False, **options
        )

    weak = PGD(eps=0.1, steps=1, step_size=0.02)
    parts = [audited(shard=(k, 2)) for k in (1, 2)]
    found = {f.check: f.evidence for f in kwp.merge(parts).findings}
    each = [{f.check: f.evidence for f in part.findings} for part in parts]
    for name in ("images", "survivors"):
        assert found["extent"]["budgets"][0][name] == sum(
            e["extent"]["budgets"][0][name] for e in each
        )
    assert found["planted"]["planted"] == sum(
        e["planted"]["planted"] for e in each
    )
    rows = [part["adaptive"] for part in parts]
    fooled = sum(int((row.attacked & ~row.robust).sum()) for row in rows)
    assert fooled and found["adaptive_attack"]["fooled"] == fooled


@pytest.mark.parametrize(
    "data, words",
    [
        (lambda k: None, r"must take \(k, n\).*a function of \(k\)"),
        (lambda k, n, m: None, r"must take \(k, n\)"),
    ],
)
def test_functions_of_something_else_are_refused(model, data, words):
    with pytest.raises(ValueError, match=words):
        plainly(model, data, ATTACK, cluster=Local())


def test_an_iterator_returned_twice_is_refused(model, data):
    items = iter([data])
    with pytest.raises(ValueError, match="must begin anew in each call"):
        plainly(model, lambda k, n: items, ATTACK)


@pytest.mark.parametrize(
    "attacks, eps, words",
    [
        ("pgd20", None, "budget of an attack by name must be given once"),
        ("pdg", 0.1, "pgd"),
        (ATTACK, {"l2": 1.0}, "no attack in l2"),
    ],
)
def test_what_is_wrong_is_told_before_there_are_workers(
    model, function, attacks, eps, words
):
    cluster = Local()
    with pytest.raises(ValueError, match=words):
        plainly(model, function, attacks, eps=eps, cluster=cluster)
    assert not hasattr(cluster, "hands") and not function.calls()


@pytest.mark.parametrize("name", ["workers", "chunk", "shards"])
def test_there_is_one_at_least(name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        kwp.cluster.Ray(**{name: 0})


def test_workers_get_lists_of_models(model, data, tmp_path):
    models = [model, other_model()]
    alone = plainly(models, data, ATTACK)
    assert_same(plainly(models, data, ATTACK, cluster=Local()), alone)
    function = Shards(*data, tmp_path / "calls")
    assert_same(plainly(models, function, ATTACK, cluster=Local()), alone)


def test_images_of_several_shards_are_told(model, data):
    x, y = data
    parts = [
        plainly(model, lambda k, n: (x[: 20 * k], y[: 20 * k]), ATTACK, shard=s)
        for s in ((1, 2), (2, 2))
    ]
    (found,) = (f for f in kwp.merge(parts).findings if f.check == "overlap")
    assert found.severity == "high"
    assert found.evidence == {"images": 20, "different": 40}
    with pytest.raises(ValueError, match="Each shard must be there once"):
        kwp.merge([parts[0], parts[0]])


class Rounded(keras.layers.Layer):
    """Loses gradients, by an operation that Keras numbers."""

    def call(self, inputs):
        return keras.ops.round(inputs * 8) / 8


def test_what_is_inside_has_the_same_name_in_each_process(model, data):
    rounded = keras.Sequential(
        [keras.Input(data[0].shape[1:]), Rounded(), Rounded(), model]
    )
    parts = [
        kwp.evaluate(
            rounded, data, ATTACK, audit=False, progress=False, shard=(k, 2)
        )
        for k in (1, 2)
    ]
    assert "(of round, round_1)" in kwp.merge(parts).environment["inside"]


def test_attacks_by_name_may_join_those_of_pixels(model, data, tmp_path):
    x, y = data
    function = Shards((255 * x).astype("uint8"), y, tmp_path / "calls")
    attacks = ["fgsm", PGD(eps=8, steps=2, bounds=(0, 255), name="own")]
    found = plainly(model, function, attacks, eps=8, cluster=Local())
    assert len(found) == 40
