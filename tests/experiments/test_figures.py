"""The paper's figures: drawn from finished runs, and from end to end."""

import json

import numpy as np
import pytest
from made_reports import ENVIRONMENT, attack_result
from studies import leave, listed, run_experiments
from test_tables import RECORD

from keras_wp import Report

pytestmark = pytest.mark.once


def finish(command, accuracy):
    """What a run of this command might have left, by its accuracy."""
    history = [
        {"accuracy": accuracy * epoch / 2, "val_accuracy": accuracy * epoch / 4}
        for epoch in (1, 2)
    ]
    # As with --robust_every=2.
    history[1].update(robust_accuracy=0.25, val_robust_accuracy=0.125)
    folder = leave(command, RECORD, history=history)
    count = round(10 * accuracy)
    clean, left = np.arange(10) < count, np.arange(10) < count // 2
    found = attack_result("PGD40", clean, left, 0.1)
    report = Report(clean, (found,), ENVIRONMENT)
    report.to_json(folder / "report.json")


def draw(figure, tmp_path, accuracies):
    """The JSON of a figure whose runs have these clean accuracies."""
    flags = (
        f"--figure={figure}",
        "--preset=cpu",
        f"--runs_dir={tmp_path / 'runs'}",
        f"--output_dir={tmp_path}",
    )
    commands = listed("figure", *flags)
    for command, accuracy in zip(commands, accuracies, strict=True):
        finish(command, accuracy)
    drawn = run_experiments("figure", *flags)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    path = tmp_path / f"figure/{figure}-cpu"
    assert (path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (path / "figure.pdf").read_bytes().startswith(b"%PDF")
    return json.loads((path / "data.json").read_text())


def test_curves_are_those_of_the_histories(tmp_path):
    found = draw(7, tmp_path, [0.2, 0.4, 0.6, 0.8])
    panels = found["panels"]
    assert list(panels["clean accuracy"]) == [
        "ReLU",
        "PReLU",
        "LeakyReLU",
        "Tanh",
    ]
    tanh = panels["clean accuracy"]["Tanh"]
    assert tanh["training"] == [[1, 40], [2, 80]]
    assert tanh["test"] == [[1, 20], [2, 40]]
    assert panels["robust accuracy"]["ReLU"] == {
        "training": [[2, 25]],
        "test": [[2, 12.5]],
    }
    assert found["attack"] == "PGD40, linf 0.1"
    assert found["device"] == RECORD["device"]


def test_sweep_has_a_point_for_each_run(tmp_path):
    found = draw(5, tmp_path, [0.2, 0.4, 0.6, 0.8])
    lines = {
        "s = 0.1": [[1, 20], [100, 40]],
        "s = 1": [[1, 60], [100, 80]],
    }
    clean = found["panels"]["mnist, clean"]
    assert clean == {
        label: [[x, pytest.approx(y)] for x, y in points]
        for label, points in lines.items()
    }
    robust = found["panels"]["mnist, PGD40, linf 0.1"]
    assert robust == {
        label: [[x, pytest.approx(y / 2)] for x, y in points]
        for label, points in lines.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["3", "4", "5", "6", "7"])
def test_figure_runs_from_end_to_end(figure, small_cifar, tmp_path):
    result = run_experiments(
        "figure",
        f"--figure={figure}",
        "--preset=smoke",
        f"--data_dir={small_cifar('cifar10', 10)}",
        f"--runs_dir={tmp_path / 'runs'}",
        f"--output_dir={tmp_path}",
        timeout=1800,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    folder = tmp_path / f"figure/{figure}-smoke"
    assert json.loads((folder / "data.json").read_text())["panels"]
    assert (folder / "figure.png").exists()
