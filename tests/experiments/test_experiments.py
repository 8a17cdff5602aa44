"""The experiments on CIFAR, shrunk to seconds or minutes by their preset."""

import json

import keras
import numpy as np
import pytest
from helpers import run_example

LIMIT = 900  # seconds
WIDE = ("cifar10_wrn", "--preset=smoke")
# One step, and one attack to compile.
ONE_STEP = ("--train_images=4", "--batch_size=4", "--attacks=pgd20")


@pytest.fixture(scope="module")
def cifar10(small_cifar):
    return small_cifar("cifar10", 10)


def run_well(*command, folder, data, **variables):
    result = run_example(
        *command,
        f"--output_dir={folder}",
        f"--data_dir={data}",
        timeout=LIMIT,
        **variables,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    report = json.loads((folder / "report.json").read_text())
    assert report["num_images"] == 4
    return result.stdout


@pytest.mark.once
def test_without_data_there_is_one_sentence(tmp_path):
    result = run_example(
        *WIDE,
        f"--data_dir={tmp_path}",
        f"--output_dir={tmp_path / 'run'}",
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"The data set 'cifar10' is not in {tmp_path}. Point the "
        "environment variable TFDS_DATA_DIR, or the option `data_dir`, at a "
        "TensorFlow Datasets directory that has it; or, where there is a "
        "network, let Python call "
        "keras_wp.datasets.load('cifar10', download=True).\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_wide_resnet_trains_at_its_real_size(cifar10, tmp_path):
    output = run_well(*WIDE, folder=tmp_path, data=cifar10)
    assert output.splitlines()[0].startswith("--preset=smoke stands for ")
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert round(count / 1e6, 2) == 46.16
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["data"] == "cifar10"
    assert record["command"].startswith("python examples/cifar10_wrn.py ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, variables",
    [
        (
            ("--distribute=mirrored", "--num_logical_devices=2"),
            {"KERAS_BACKEND": "tensorflow"},
        ),
        ((), {"KERAS_BACKEND": "jax"}),
        (
            # A CPU has no fast bfloat16: at its real depth, but narrow.
            ("--precision=mixed_bfloat16", "--width=1"),
            {"KERAS_BACKEND": "tensorflow"},
        ),
    ],
    ids=["mirrored", "jax", "mixed_bfloat16"],
)
def test_wide_resnet_trains_everywhere(flags, variables, cifar10, tmp_path):
    command = (*WIDE, *ONE_STEP, *flags)
    run_well(*command, folder=tmp_path, data=cifar10, **variables)
    (epoch,) = json.loads((tmp_path / "history.json").read_text())
    assert np.isfinite(epoch["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--defense=at", "--head=plain", "--activation=relu"),
        ("--defense=trades", "--activation=prelu"),
        ("--defense=mart", "--precision=mixed_bfloat16"),
        ("--head=mmc", "--robust_every=1", "--augment", "--decay=0.9"),
    ],
    ids=["at", "trades", "mart", "mmc"],
)
def test_flags_make_the_compared_defenses(flags, cifar10, tmp_path):
    run_well(
        "cifar10_small_cnn",
        "--preset=smoke",
        *flags,
        folder=tmp_path,
        data=cifar10,
    )
    (epoch,) = json.loads((tmp_path / "history.json").read_text())
    assert np.isfinite(epoch["loss"])
    if "--robust_every=1" in flags:
        assert 0 <= epoch["val_robust_accuracy"] <= epoch["val_accuracy"]


@pytest.mark.slow
def test_resnet32_with_mmc_trains(cifar10, tmp_path):
    flags = ("--network=resnet32", "--head=mmc")
    run_well(*WIDE, *flags, *ONE_STEP, folder=tmp_path, data=cifar10)


@pytest.mark.slow
def test_cifar100_trains(small_cifar, tmp_path):
    data = small_cifar("cifar100", 100)
    # With 100 classes there must be 99 features or more.
    shrunk = ("--preset=smoke", "--depth=10", "--width=2")
    run_well("cifar100_wrn", *shrunk, folder=tmp_path, data=data)
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert model.output_shape == (None, 100)
