"""The default attacks, for models of two and three classes."""

import keras
import numpy as np
import pytest
from commands import PLAINLY, run
from helpers import random_images, randomize

import keras_wp as kwp

# The command line is the same on every backend.
pytestmark = pytest.mark.once


def classifier(end):
    layers = [keras.Input((6, 6, 1)), keras.layers.Flatten(), end]
    return randomize(keras.Sequential(layers))


@pytest.mark.once
@pytest.mark.parametrize(
    "end",
    [
        keras.layers.Dense(1, activation="sigmoid"),
        keras.layers.Dense(1),
        keras.layers.Dense(2, activation="softmax"),
        keras.layers.Dense(3),
    ],
    ids=["sigmoid", "one logit", "softmax", "three"],
)
def test_the_default_attacks_run_on_few_classes(tmp_path, end):
    model, x = classifier(end), random_images(12)
    outputs = np.asarray(model(x))
    least = 0.5 if end.activation is keras.activations.sigmoid else 0.0
    y = outputs.argmax(-1) if end.units > 1 else outputs[:, 0] > least
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x, y=np.asarray(y, int))
    code = run(
        *["evaluate", tmp_path / "model.keras", "--bounds", "0,1"],
        *["--data", tmp_path / "data.npz", "--eps", "0.3", *PLAINLY],
        *["--report", tmp_path / "report.json"],
    )
    assert code == 0
    report = kwp.Report.from_json(tmp_path / "report.json")
    assert [r.name for r in report.results] == ["PGD40", "AutoAttack"]
    assert report.clean_accuracy == 1
    assert report.robust_accuracy < 1
