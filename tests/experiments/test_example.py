"""The MNIST example as a user runs it: a process of its own."""

import json
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from helpers import example, run_example
from keras import ops
from processes import LIMIT, environment, start_python

import keras_wp

pytestmark = pytest.mark.once


EPOCHS = 8
SETTINGS = (
    "--dataset=mnist",
    f"--epochs={EPOCHS}",
    "--batch_size=32",
    "--narrow=4",
    "--eps=1/10,0.3",
    "--eval_images=0",
)


def run(*flags, **variables):
    return run_example("mnist_small_cnn", *flags, **variables)


def run_well(*flags):
    result = run(*flags)
    assert result.returncode == 0, result.stderr
    return result


def computed(value):
    """Without times, and without the command, which names its folder."""
    if isinstance(value, dict):
        return {
            key: computed(item)
            for key, item in value.items()
            if key not in ("seconds", "date", "command")
        }
    if isinstance(value, list):
        return [computed(item) for item in value]
    return value


def results(folder):
    """All that a finished run computed, which no interruption may change."""
    report = json.loads((folder / "report.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    model = keras.models.load_model(folder / "model.keras")
    weights = [w.tolist() for w in model.get_weights()]
    return computed(report), computed(history), weights


@pytest.fixture(scope="module")
def digits(write_tfds):
    """101 training and 20 test images of MNIST, in TFDS's format."""
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }

    def examples(x, y):
        pixels = np.round(x * 255).astype("uint8")
        return [
            {"image": image, "label": int(label)}
            for image, label in zip(pixels, y, strict=True)
        ]

    (x, y), (x_test, y_test) = keras_wp.datasets.load("mnist5k")
    return write_tfds(
        "mnist",
        features,
        train=examples(x[:101], y[:101]),
        test=examples(x_test[:20], y_test[:20]),
    )


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A run from beginning to end, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    flags = (f"--data_dir={digits}", f"--output_dir={folder}")
    return run_well(*SETTINGS, *flags), folder


def test_example_shows_training_and_a_table_and_nothing_else(finished):
    result, folder = finished
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "Training on 101 images. The class weights are 96.38° apart at best."
    )
    assert [line.split()[0] for line in lines[2 : 2 + EPOCHS]] == [
        str(epoch) for epoch in range(1, EPOCHS + 1)
    ]
    for attack in ("FGSM", "PGD40:step_size=0.01"):
        assert attack in result.stdout
    assert lines[-1] == (
        f"Written to {folder}: model.keras, saved_model and report.html, "
        ".json and .md"
    )


def test_class_weights_move_to_the_ideal_angle(finished):
    _, folder = finished
    history = json.loads((folder / "history.json").read_text())
    ideal = np.degrees(keras_wp.simplex.ideal_angle(10))
    distance = [ideal - record["min_angle"] for record in history]
    assert 0 <= distance[-1] < distance[0]
    model = keras.models.load_model(folder / "model.keras")
    angle = keras_wp.simplex.min_angle(model.get_layer("head").kernel)
    assert np.degrees(angle) == pytest.approx(
        history[-1]["min_angle"], abs=1e-3
    )


def test_report_has_every_attack_at_every_eps(finished):
    _, folder = finished
    report = json.loads((folder / "report.json").read_text())
    assert report["num_images"] == 20
    found = [(result["name"], result["eps"]) for result in report["results"]]
    assert sorted(found) == [
        (name, eps)
        for name in (
            "FGSM",
            "PGD40-margin:step_size=0.01",
            "PGD40:step_size=0.01",
        )
        for eps in (0.1, 0.3)
    ]
    environment = report["environment"]
    assert environment["dataset"] == "mnist, test, 20 images"
    assert f"--output_dir={folder}" in environment["command"]
    markdown = (folder / "report.md").read_text()
    assert all(name in markdown for name, _ in found)


def test_exported_model_gives_the_logits_of_the_saved_one(finished, rng):
    import tensorflow as tf

    _, folder = finished
    x = rng.random((3, 28, 28, 1), dtype="float32")
    model = keras.models.load_model(folder / "model.keras")
    served = tf.saved_model.load(str(folder / "saved_model"))
    np.testing.assert_allclose(
        served.serve(x).numpy(),
        ops.convert_to_numpy(model(x)),
        rtol=1e-4,
        atol=1e-5,
    )


def kill_when(exists, log, *flags):
    """Start the example, and kill -9 it as soon as a file is there."""
    script = example("mnist_small_cnn")
    process = start_python(script, *flags, to=[log, log])
    deadline = time.monotonic() + LIMIT
    while not exists.exists() and time.monotonic() < deadline:
        assert process.is_alive(), log.read_text()
        time.sleep(0.005)
    process.kill()
    process.join(LIMIT)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.once
def test_killed_training_resumes_to_the_same_numbers(
    finished, digits, tmp_path
):
    folder, log = tmp_path / "run", tmp_path / "log"
    folder.mkdir()
    (folder / "model.keras").write_text("of an earlier run")
    (folder / "notes.txt").write_text("not ours")
    flags = (*SETTINGS, f"--data_dir={digits}", f"--output_dir={folder}")
    kill_when(folder / "checkpoint.weights.h5", log, *flags)
    assert log.read_text().splitlines()[0] == (
        f"Starting afresh: the earlier run in {folder} is moved to {folder}/"
        "earlier-1 (--resume would have continued it)."
    )
    assert not (folder / "model.keras").exists()
    kept = folder / "earlier-1" / "model.keras"
    assert kept.read_text() == "of an earlier run"
    result = run_well(*flags, "--resume")
    assert result.stdout.startswith("Resuming after epoch ")
    assert results(folder) == results(finished[1])
    assert (folder / "notes.txt").read_text() == "not ours"


@pytest.mark.slow
def test_killed_evaluation_resumes_to_the_same_numbers(
    finished, digits, tmp_path
):
    folder, log = tmp_path / "run", tmp_path / "log"
    flags = (*SETTINGS, f"--data_dir={digits}", f"--output_dir={folder}")
    kill_when(folder / "evaluation", log, *flags)
    assert not (folder / "report.json").exists()
    result = run_well(*flags, "--resume")
    assert "Training" not in result.stdout
    assert results(folder) == results(finished[1])


@pytest.mark.once
def test_resuming_with_other_settings_is_refused(digits, tmp_path):
    settings = json.dumps({"epochs": 3})
    (tmp_path / "settings.json").write_text(settings)
    result = run(
        *(f"--data_dir={digits}", f"--output_dir={tmp_path}"),
        *("--resume", "--epochs=5"),
    )
    assert result.returncode == 1
    assert result.stderr.startswith(
        f"The run in {tmp_path} was started with other settings: "
    )
    assert "--epochs=3 (now 5)" in result.stderr
    assert result.stderr.endswith(
        "Repeat them to resume it, or leave out --resume to start afresh.\n"
    )


@pytest.mark.once
def test_missing_data_are_one_sentence(tmp_path):
    result = run(
        "--dataset=cifar100",
        f"--data_dir={tmp_path / 'none'}",
        f"--output_dir={tmp_path / 'run'}",
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("The data set 'cifar100' is not in ")
    assert result.stderr.count("\n") == 1


@pytest.mark.once
def test_slips_are_told_before_the_training(tmp_path):
    # As a user does it: with no log level, and not forked.
    variables = environment()
    variables.pop("TF_CPP_MIN_LOG_LEVEL")
    flags = f"--output_dir={tmp_path / 'run'}", "--eps=0.1,8/0"
    result = subprocess.run(
        [sys.executable, example("mnist_small_cnn"), *flags],
        capture_output=True,
        text=True,
        env=variables,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "--eps must be numbers or fractions above 0, such as 0.3 or 8/255. "
        "Received: 0.1,8/0\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.once
@pytest.mark.parametrize(
    "flags, told",
    [
        (
            ["--dataset=mnist5k", "--attacks=cw1000", "--eps=0.1"],
            "--eps is for attacks in l-infinity. Received: --attacks=cw1000\n",
        ),
        (["head=mmc"], "Flags begin with `--`. Received: head=mmc\n"),
        (
            ["--defense=mart", "--head=mmc"],
            "--defense=mart has a loss of its own, and cannot train --head=mmc "
            "with the Max-Mahalanobis center loss: use --defense=at or "
            "trades.\n",
        ),
    ],
)
def test_slips_leave_an_earlier_run_alone(flags, told, tmp_path):
    (tmp_path / "model.keras").write_text("of an earlier run")
    result = run(f"--output_dir={tmp_path}", *flags)
    assert (result.returncode, result.stderr) == (1, told)
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "of an earlier run"


def test_distribution_needs_its_backend(tmp_path, backend):
    other = {"tensorflow": ("jax", "jax"), "jax": ("mirrored", "tensorflow")}
    flag, needed = other[backend]
    result = run(f"--distribute={flag}", f"--output_dir={tmp_path}")
    assert result.returncode == 1
    assert result.stderr == (
        f"--distribute={flag} needs KERAS_BACKEND={needed}. "
        f"Received: KERAS_BACKEND={backend}\n"
    )


@pytest.mark.slow
def test_training_runs_on_two_devices(digits, tmp_path, backend):
    distribute = {"tensorflow": "mirrored", "jax": "jax"}[backend]
    result = run_well(
        "--dataset=mnist",
        f"--data_dir={digits}",
        f"--output_dir={tmp_path}",
        "--epochs=2",
        # Of 101 images, the last batch would have one: too few for two.
        "--batch_size=20",
        f"--distribute={distribute}",
        "--num_logical_devices=2",
        "--eps=0.1",
    )
    assert result.stderr == ""
    assert (tmp_path / "report.json").exists()
