"""What the records of experiments say of their data and of their code."""

import re
import subprocess

import numpy as np
import pytest

from keras_wp.experiments.publish import record

pytestmark = pytest.mark.once


@pytest.mark.once
@pytest.mark.parametrize(
    "form, expected", [("png", "cifar10"), ("jpeg", "cifar10 (JPEG copy)")]
)
def test_a_copy_with_other_pixels_is_named(form, expected, write_tfds):
    tfds = pytest.importorskip("tensorflow_datasets")
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3), encoding_format=form),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    pixels = np.zeros((32, 32, 3), "uint8")
    example = {"id": "0", "image": pixels, "label": 1}
    folder = write_tfds("cifar10", features, train=[example], test=[example])
    assert record.data("cifar10", folder) == expected


def test_digits_of_a_package_are_what_they_are():
    assert record.data("mnist5k") == "mnist5k"


def test_commit_is_that_of_the_start(monkeypatch):
    begun = record.commit()

    def later(*args, **kwargs):
        return "another"

    monkeypatch.setattr(subprocess, "check_output", later)
    assert record.commit() == begun != "another"


def test_only_what_runs_makes_a_copy_dirty(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    monkeypatch.setattr(record, "_HERE", tmp_path / "examples")
    assert record._checked_out() == "unknown"
    for name in ("examples/run.py", "package/it.py", "results/it.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1")
    git("init")
    git("config", "diff.relative", "true")
    git("add", ".")
    git("commit", "-m", "one")
    clean = record._checked_out()
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    (tmp_path / "results/it.json").write_text("2")
    assert record._checked_out() == clean
    (tmp_path / "package/it.py").write_text("2")
    assert record._checked_out() == f"{clean}-dirty"
