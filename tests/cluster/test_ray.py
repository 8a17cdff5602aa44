"""Actors of Ray find what one process does, whoever dies."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import mixed_labels, plainly, random_images, tiny_cnn
from processes import SUPPORT

import keras_wp as kwp
from keras_wp.attacks import PGD, AutoAttack

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.once,
    # What Ray's own processes leave behind.
    pytest.mark.filterwarnings("ignore"),
]
CLUSTER = kwp.cluster.Ray(workers=2, chunk=16)
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from helpers import mixed_labels, plainly, random_images, tiny_cnn
import keras_wp as kwp
model = tiny_cnn(scale=0.5)
x = random_images(256)
plainly(
    model,
    (x, mixed_labels(model, x)),
    [kwp.attacks.AutoAttack(eps=0.02, steps=20, queries=200)],
    resume_dir=sys.argv[2],
    cluster=kwp.cluster.Ray(workers=2, chunk=16),
)
"""


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # Workers import what this process does.
    paths = [str(pathlib.Path(kwp.__file__).parent.parent), *sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def work():
    model = tiny_cnn(scale=0.5)
    x = random_images(256)
    attack = AutoAttack(eps=0.02, steps=20, queries=200)
    return model, (x, mixed_labels(model, x)), [attack]


@pytest.fixture(scope="module")
def alone(work):
    return plainly(*work)


def assert_same(found, expected):
    for one, other in zip(found.results, expected.results, strict=True):
        for name in ("robust", "steps", "zero_gradients", "predicted"):
            np.testing.assert_array_equal(
                getattr(one, name), getattr(other, name), name
            )


def actors():
    """The processes of actors, by id."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Worker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def known(folder):
    files = folder.glob("*.jsonl")
    return sum(max(0, len(f.read_text().splitlines()) - 1) for f in files)


def test_two_actors_are_one_process(work, alone):
    assert_same(plainly(*work, cluster=CLUSTER), alone)


def test_an_actor_that_is_killed_changes_no_number(work, alone, monkeypatch):
    from keras_wp.cluster.ray import Actors

    killed, wait = [], Actors.wait

    def killing(actors_, tickets):
        found = wait(actors_, tickets)
        if not killed:
            killed.append(actors()[0])
            os.kill(killed[0], signal.SIGKILL)
        return found

    monkeypatch.setattr(Actors, "wait", killing)
    assert_same(plainly(*work, cluster=CLUSTER), alone)
    assert killed


def test_a_driver_that_is_killed_goes_on(work, alone, tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(SCRIPT)
    folder = tmp_path / "found"
    command = [sys.executable, str(script), str(SUPPORT), str(folder)]
    process = subprocess.Popen(command)
    while process.poll() is None and known(folder) < 32:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = known(folder)
    assert before >= 32
    assert_same(plainly(*work, cluster=CLUSTER, resume_dir=folder), alone)
    names = [
        line.split('"')[1]
        for path in folder.glob("*.jsonl")
        for line in path.read_text().splitlines()[1:]
    ]
    assert len(names) > before


def test_an_actor_of_another_version_is_refused(work, monkeypatch):
    monkeypatch.setattr(
        "keras_wp.cluster.ray.versions", lambda: {"keras_wp": "0"}
    )
    with pytest.raises(ValueError, match="must have the versions of the dri"):
        plainly(*work[:2], PGD(eps=0.1, steps=1), cluster=CLUSTER)


def test_actors_read_their_own_shards(work, alone, tmp_path):
    model, (x, y), attacks = work

    def read(k, n):
        (tmp_path / f"{os.getpid()}").touch()
        return x[k - 1 :: n], y[k - 1 :: n]

    cluster = kwp.cluster.Ray(workers=2, shards=4)
    assert_same(plainly(model, read, attacks, cluster=cluster), alone)
    readers = {path.name for path in tmp_path.iterdir()}
    assert len(readers) == 2 and str(os.getpid()) not in readers


def test_what_a_shard_refuses_is_one_sentence(work):
    def read(k, n):
        return work[1][0][k - 1 :: n] - 7.0, work[1][1][k - 1 :: n]

    with pytest.raises(ValueError) as error:
        plainly(work[0], read, work[2], cluster=CLUSTER)
    assert "Traceback" not in str(error.value)
    assert "Received" in str(error.value)


OWN_LAYERS = """
import keras
import keras_wp as kwp
from helpers import plainly, random_images


class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.relu(2 * inputs)


@keras.saving.register_keras_serializable()
def sharpened(x):
    return x * keras.ops.sigmoid(5.0 * x)


def main():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            Doubled(),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation=sharpened),
            keras.layers.Dense(4),
        ]
    )
    x = random_images(24, (6, 6, 1))
    y = model.predict(x, verbose=0).argmax(-1)
    attack = kwp.attacks.PGD(eps=0.1, steps=3)
    alone = plainly(model, (x, y), attack)
    for data in ((x, y), lambda k, n: (x[k - 1 :: n], y[k - 1 :: n])):
        cluster = kwp.cluster.Ray(workers=2)
        found = plainly(model, data, attack, cluster=cluster)
        assert (found["PGD3"].robust == alone["PGD3"].robust).all()
    print("equal")


main()
"""


def test_layers_of_the_script_itself_go_along(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(OWN_LAYERS)
    paths = os.pathsep.join([str(SUPPORT), os.environ["PYTHONPATH"]])
    found = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert found.stdout.endswith("equal\n"), found.stderr[-2000:]
