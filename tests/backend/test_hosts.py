"""Training by several processes, as on several hosts: JAX with gloo."""

import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from helpers import example, run_example
from processes import LIMIT, environment

# A process that has lost another must end within this time, in seconds.
NOTICED = 120
SETTINGS = (
    "--dataset=mnist5k",
    "--train_images=64",
    "--test_images=16",
    "--epochs=3",
    "--batch_size=16",
    # Larger steps of Adam magnify rounding: a gradient near zero may change
    # its sign. After 12 of these, weights have still moved by ten times what
    # may tell two runs apart.
    "--learning_rate=0.00001",
    "--attacks=fgsm",
    "--eval_images=4",
    "--distribute=jax",
)

pytestmark = pytest.mark.slow


def log(folder, number):
    return folder.with_name(f"{folder.name}-{number}.log")


def start(folder, *flags):
    """Two processes that train together."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    processes = []
    for number in range(2):
        command = [
            sys.executable,
            example("mnist_small_cnn"),
            *SETTINGS,
            f"--output_dir={folder}",
            f"--coordinator=localhost:{port}",
            "--num_processes=2",
            f"--process_id={number}",
            *flags,
        ]
        variables = environment(KERAS_BACKEND="jax")
        with log(folder, number).open("w") as to:
            processes.append(
                subprocess.Popen(command, stdout=to, stderr=to, env=variables)
            )
    return processes


def end_well(folder, processes):
    for number, process in enumerate(processes):
        assert process.wait(LIMIT) == 0, log(folder, number).read_text()


def weights(folder):
    model = keras.models.load_model(folder / "model.keras", compile=False)
    return model.get_weights()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The weights of one process on the same batches."""
    folder = tmp_path_factory.mktemp("alone")
    result = run_example(
        "mnist_small_cnn",
        *SETTINGS,
        f"--output_dir={folder}",
        KERAS_BACKEND="jax",
    )
    assert result.returncode == 0, result.stderr
    return weights(folder)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_two_processes_train_as_one(alone, tmp_path):
    folder = tmp_path / "run"
    end_well(folder, start(folder))
    assert_same(weights(folder), alone)
    assert (folder / "report.json").exists()


@pytest.mark.parametrize("victim", [0, 1])
def test_loss_of_a_process_ends_the_run_which_resumes(victim, alone, tmp_path):
    folder = tmp_path / "run"
    processes = start(folder)
    deadline = time.monotonic() + LIMIT
    while not (folder / "checkpoint.weights.h5").exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.005)
    processes[victim].send_signal(signal.SIGKILL)
    assert processes[victim].wait(LIMIT) == -signal.SIGKILL
    assert processes[1 - victim].wait(NOTICED) != 0
    assert not (folder / "model.keras").exists()
    end_well(folder, start(folder, "--resume"))
    assert_same(weights(folder), alone)
