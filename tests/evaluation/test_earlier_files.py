"""What was saved before the modules moved is still read.

The files in `tests/fixtures/before_the_move` were written by commit 0690c67.
"""

import shutil

import keras
import numpy as np
import pytest
from helpers import plainly
from processes import ROOT

import keras_wp as kwp
from keras_wp.cli import models
from keras_wp.engine import stream
from keras_wp.evaluation import runner

BEFORE = ROOT / "tests" / "fixtures" / "before_the_move"
WRITTEN_WITH = "3.15.1"


@pytest.fixture
def known():
    """Images, labels and logits of that time."""
    with np.load(BEFORE / "data.npz") as file:
        return dict(file)


def load(name):
    return keras.saving.load_model(BEFORE / name, compile=False)


def logits(model, x):
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x)))


def test_a_keras_file_is_read(known):
    found = logits(load("robust_head.keras"), known["x"])
    np.testing.assert_allclose(found, known["logits"], rtol=1e-5, atol=1e-5)


def test_a_variant_of_the_head_is_read(known):
    import keras_wp.experiments.heads  # noqa: F401  (It registers its layers.)

    found = logits(load("variant.keras"), known["x"])
    np.testing.assert_allclose(found, known["variant"], rtol=1e-5, atol=1e-5)


def test_a_saved_model_is_read(known, backend):
    if backend != "tensorflow":
        pytest.skip("SavedModels are TensorFlow's")
    found = models.load(BEFORE / "saved_model")(known["x"])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found),
        known["logits"],
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_report_is_read(known, tmp_path):
    report = kwp.Report.from_json(BEFORE / "report.json")
    clean = (known["logits"].argmax(-1) == known["y"]).mean()
    assert report.clean_accuracy == clean
    assert "APGD5-margin via rescale-image" in report.to_html()
    again = report.to_json()
    (tmp_path / "again.json").write_text(again)
    assert kwp.Report.from_json(tmp_path / "again.json").to_json() == again


@pytest.mark.once  # Outcomes are those of a backend.
def test_a_resume_directory_is_continued(known, tmp_path, monkeypatch):
    folder = shutil.copytree(BEFORE / "resume", tmp_path / "resume")

    def attack(*args, **kwargs):
        if list(args[2]):
            raise AssertionError("what is known must not be attacked")
        return iter(())

    monkeypatch.setattr(stream, "run", attack)
    # Another version of Keras is refused, as it should be.
    monkeypatch.setattr(runner.keras, "__version__", WRITTEN_WITH)
    report = plainly(
        load("robust_head.keras"),
        (known["x"], known["y"]),
        [
            kwp.attacks.PGD(eps=0.1, steps=5),
            kwp.attacks.APGD(
                eps=0.1,
                steps=5,
                loss="margin",
                surrogate=kwp.Surrogate(rescale="image"),
            ),
        ],
        resume_dir=folder,
    )
    before = kwp.Report.from_json(BEFORE / "report.json")
    for now, then in zip(report.results, before.results, strict=False):
        assert now.name == then.name
        np.testing.assert_array_equal(now.robust, then.robust)
        np.testing.assert_array_equal(now.steps, then.steps)
