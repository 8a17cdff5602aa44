"""A killed evaluation goes on, and ends with the same numbers."""

import json
import signal
import subprocess
import sys
import time

import bases
import keras
import numpy as np
import pytest
from helpers import message_of, mixed_labels, plainly, random_images, tiny_cnn
from keras import ops
from processes import SUPPORT

import keras_wp as kwp
from keras_wp.evaluation import fingerprint, resume, runner

pytestmark = pytest.mark.once


FGSM = kwp.attacks.FGSM(eps=0.05)
STATE = {"factor": 1.0}

SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[3])
from helpers import mixed_labels, plainly, random_images, tiny_cnn
from keras_wp.attacks import PGD, AutoAttack

attack, count = eval(sys.argv[4])
model = tiny_cnn(scale=0.5)
x = random_images(count)
report = plainly(
    model,
    (x, mixed_labels(model, x)),
    [attack],
    batch_size=4,
    resume_dir=sys.argv[1] or None,
    progress=False,
)
report.to_json(sys.argv[2])
"""


PGD = 'PGD(eps=0.02, steps=60, restarts=3, loss="margin"), 120'
AUTOATTACK = "AutoAttack(eps=0.02, steps=5, queries=50), 1000"


def command(script, resume_dir, output, work):
    return [
        sys.executable,
        str(script),
        str(resume_dir),
        str(output),
        str(SUPPORT),
        work,
    ]


def outcomes(path):
    report = json.loads(path.read_text())
    names = ("robust", "distance", "steps", "zero_gradients")
    return [[r[name] for name in names] for r in report["results"]]


def known_outcomes(folder):
    files = list(folder.glob("*.jsonl")) if folder.exists() else []
    return sum(len(f.read_text().splitlines()) - 1 for f in files)


def kill_at(known, command, folder):
    """Kill the process once so many outcomes are known; return how many."""
    process = subprocess.Popen(command)
    while process.poll() is None and known_outcomes(folder) < known:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return known_outcomes(folder)


@pytest.mark.slow
def test_killed_evaluation_ends_with_the_same_numbers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
    folder = tmp_path / "outcomes"
    subprocess.run(command(script, "", whole, PGD), check=True)
    again = command(script, folder, resumed, PGD)
    assert 10 <= kill_at(10, again, folder) < 90
    subprocess.run(again, check=True)
    assert outcomes(resumed) == outcomes(whole)
    assert known_outcomes(folder) == 90


@pytest.mark.slow
def test_suite_on_a_thousand_images_bears_being_killed_in_each_part(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
    kept, folder = tmp_path / "kept", tmp_path / "outcomes"
    subprocess.run(command(script, kept, whole, AUTOATTACK), check=True)
    # All images that are classified correctly, then those left to each part.
    parts = [len(f.read_text().splitlines()) - 1 for f in kept.glob("*.jsonl")]
    parts = sorted(parts, reverse=True)
    assert len(parts) == 4
    assert parts[0] == 750 > parts[1] and parts[3] > 50

    again = command(script, folder, resumed, AUTOATTACK)
    begun = 0
    for part in parts:
        known = kill_at(begun + part // 2, again, folder)
        begun += part
        assert known < begun
    subprocess.run(again, check=True)
    assert outcomes(resumed) == outcomes(whole)
    assert known_outcomes(folder) == sum(parts)


class Times(keras.layers.Layer):
    """A layer that tells Keras nothing of its factor."""

    def __init__(self, factor):
        super().__init__()
        self._factor = factor

    def call(self, inputs):
        return inputs * self._factor

    def get_config(self):
        raise NotImplementedError


def rescaling(factor):
    inputs, features, head = cut_network()
    scaled = keras.layers.Rescaling(factor)(features)
    return keras.Model(inputs, head(scaled))


def cut_network():
    base = bases.network()
    head = base.layers[-1]
    return base.inputs, head.input, head


def layer(factor):
    inputs, features, head = cut_network()
    return keras.Model(inputs, head(Times(factor)(features)))


def operation(factor):
    inputs, features, head = cut_network()
    return keras.Model(inputs, head(features * factor))


def function(factor):
    inputs, features, head = cut_network()
    trunk = keras.Model(inputs, features)
    return lambda x: head(trunk(x) * factor)


def unseen(factor):
    """The factor is where no description of the model can find it."""
    inputs, features, head = cut_network()
    trunk = keras.Model(inputs, features)
    STATE["factor"] = factor
    return lambda x: head(trunk(x) * STATE["factor"])


def capped(most):
    base = bases.network()
    logits = base.outputs[0]
    if most is not None:
        logits = ops.clip(logits, -most, most)
    return keras.Model(base.inputs, logits)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(what, folder):
    (path,) = folder.glob("*.jsonl")
    return (
        f"`resume_dir` holds an evaluation with another {what}: name an empty "
        f"directory, or delete {path.name}. Received: resume_dir="
        f"{str(folder)!r}"
    )


@pytest.mark.parametrize(
    "make, first, second",
    [
        (rescaling, 1000.0, 100.0),
        (rescaling, 300.0, 60.0),
        (layer, 1000.0, 100.0),
        (operation, 1000.0, 100.0),
        (function, 1000.0, 100.0),
        (unseen, 1000.0, 100.0),
        (unseen, 300.0, 60.0),
        (capped, 5.0, None),
    ],
)
def test_outcomes_of_a_saturated_network_are_not_taken_for_another_s(
    make, first, second, tmp_path
):
    data = bases.digits()[1]
    options = {"resume_dir": tmp_path, "progress": False}
    plainly(make(first), data, [FGSM], **options)
    plainly(make(first), data, [FGSM], **options)
    before = contents(tmp_path)
    with pytest.raises(ValueError) as error:
        plainly(make(second), data, [FGSM], **options)
    assert str(error.value) == refusal("model", tmp_path)
    assert contents(tmp_path) == before


def test_outcomes_by_another_surrogate_are_refused(tmp_path):
    model, data = bases.network(), bases.digits()[1]

    def run(factor):
        stand_in = layer(factor)
        stand_in.name = "stand-in"  # Another name is another attack.
        surrogate = kwp.Surrogate(model=stand_in)
        attack = kwp.attacks.FGSM(eps=0.05, surrogate=surrogate)
        options = {"resume_dir": tmp_path, "progress": False}
        return plainly(model, data, [attack], **options)

    run(1e6)
    run(1e6)
    before = contents(tmp_path)
    assert message_of(run, 1e5) == refusal("surrogate", tmp_path)
    assert contents(tmp_path) == before


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A model, its data, and a function to evaluate it in a folder."""
    model, x = tiny_cnn(), random_images(30)
    data = x, mixed_labels(model, x)

    def run(folder, model=model, data=data, attacks=(FGSM,), **options):
        return plainly(model, data, [*attacks], resume_dir=folder, **options)

    return model, data, run


def torn(folder):
    """The folder as a kill leaves it: with half a line at its end."""
    (path,) = folder.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-5])
    return contents(folder)


def test_other_images_are_refused(known, tmp_path):
    model, (x, y), run = known
    run(tmp_path)
    before = torn(tmp_path)
    other = x[:20].copy()
    other[0] *= 0.5
    for images in (random_images(30, seed=9), other):
        message = message_of(run, tmp_path, data=(images, y[: len(images)]))
        assert message == refusal("set of images", tmp_path)
        assert contents(tmp_path) == before


def test_fewer_images_and_more_of_the_same_are_welcome(known, tmp_path):
    _, (x, y), run = known
    whole = run(None).results[0].robust
    for count in (10, 30, 20, 30):
        found = run(tmp_path, data=(x[:count], y[:count])).results[0].robust
        np.testing.assert_array_equal(found, whole[:count])
    with np.load(tmp_path / "clean.npz") as arrays:
        assert len(arrays["images"]) == 30


def test_another_seed_is_refused(known, tmp_path):
    _, _, run = known
    run(tmp_path)
    before = torn(tmp_path)
    message = message_of(run, tmp_path, seed=1)
    assert message == refusal("seed", tmp_path)
    assert contents(tmp_path) == before


def test_another_version_is_refused(known, tmp_path, monkeypatch):
    _, _, run = known
    run(tmp_path)
    before = torn(tmp_path)
    monkeypatch.setattr(runner, "__version__", "0.0")
    message = message_of(run, tmp_path)
    assert message == refusal("version", tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("manifest", ["none", "not a file of arrays"])
def test_outcomes_without_what_they_are_of_are_refused(
    known, tmp_path, manifest
):
    """As an earlier version has left them, or a full disk."""
    _, _, run = known
    run(tmp_path)
    (path,) = tmp_path.glob("*.jsonl")
    if manifest == "none":
        (tmp_path / "clean.npz").unlink()
    else:
        (tmp_path / "clean.npz").write_bytes(b"PK\x03\x04 nothing else")
    before = contents(tmp_path)
    assert message_of(run, tmp_path) == (
        "`resume_dir` holds outcomes without the clean.npz that says what they "
        "are of, such as those of an earlier version: name an empty "
        f"directory, or delete {path.name}. Received: "
        f"resume_dir={str(tmp_path)!r}"
    )
    assert contents(tmp_path) == before
    path.unlink()
    run(tmp_path)


def test_several_files_are_named_as_such(known, tmp_path):
    _, _, run = known
    run(tmp_path, attacks=[FGSM, kwp.attacks.FGSM(eps=0.01)])
    assert message_of(run, tmp_path, model=tiny_cnn(seed=1)) == (
        "`resume_dir` holds an evaluation with another model: name an empty "
        "directory, or delete its .jsonl files. Received: resume_dir="
        f"{str(tmp_path)!r}"
    )


def test_what_is_known_of_the_model_is_never_half_written(
    known, tmp_path, monkeypatch
):
    _, (x, y), run = known
    run(tmp_path, data=(x[:10], y[:10]))
    before = contents(tmp_path)

    def killed(*args, **arrays):
        args[0].write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(resume.np, "savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    after = contents(tmp_path)
    assert after.pop("partial-clean.npz") == b"half"
    assert after == before


def test_of_large_data_a_few_images_tell_the_model(
    known, tmp_path, monkeypatch
):
    model, (x, y), run = known
    monkeypatch.setattr(fingerprint, "_MOST", 5 * 7)
    order = np.random.default_rng(0).permutation(30)
    kept = []
    for places in (np.arange(30), order):
        folder = tmp_path / str(len(kept))
        run(folder, data=(x[places], y[places]))
        with np.load(folder / "clean.npz") as arrays:
            kept.append(arrays["names"].tolist())
            assert arrays["logits"].shape == (8, 5)
            images = arrays["images"].tolist()
    assert kept[0] == kept[1] and kept[0][-1] == b"noise"
    assert [images[0], images[-1]] == [kept[0][0], kept[0][-2]]


class Noise(keras.layers.Layer):
    def __init__(self, deviation):
        super().__init__()
        self.deviation = deviation
        self.seed = keras.random.SeedGenerator()

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.seed)
        return inputs + self.deviation * noise


@pytest.mark.filterwarnings("ignore:The model gives different logits")
def test_a_randomized_model_resumes_as_what_it_is_made_of(known, tmp_path):
    base, _, run = known

    def noisy(deviation):
        layers = [keras.Input((6, 6, 1)), Noise(deviation), base]
        return keras.Sequential(layers)

    options = {"progress": False}
    run(tmp_path, model=noisy(0.3), **options)
    before = contents(tmp_path)
    run(tmp_path, model=noisy(0.3), **options)
    after = contents(tmp_path)
    for name, raw in before.items():
        if name.endswith(".npy"):
            continue
        # Other draws may classify more images correctly.
        assert after[name].startswith(raw)
    message = message_of(run, tmp_path, model=noisy(0.2), **options)
    assert "holds an evaluation with another model: " in message
    assert contents(tmp_path) == after
