"""What the records of experiments say of their data and of their code."""

import subprocess

import _record
import numpy as np
import pytest


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
    assert _record.data("cifar10", folder) == expected


def test_digits_of_a_package_are_what_they_are():
    assert _record.data("mnist5k") == "mnist5k"


def test_commit_is_that_of_the_start(monkeypatch):
    begun = _record.commit()

    def later(*args, **kwargs):
        return "another"

    monkeypatch.setattr(subprocess, "check_output", later)
    assert _record.commit() == begun != "another"
