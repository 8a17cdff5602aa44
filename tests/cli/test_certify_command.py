"""`evaluate --certify`: what is proved, beside what is not broken."""

import pytest
from commands import run
from helpers import tiny_cnn

import keras_wp as kwp

# The command line is the same on every backend.
pytestmark = pytest.mark.once


@pytest.mark.once
def test_certify_shows_both_sides(tmp_path, capsys):
    model = kwp.models.lipschitz_mlp((6, 6, 1), 5, widths=(16, 16))
    model.save(tmp_path / "model.keras")
    path = tmp_path / "report.json"
    code = run(
        *["evaluate", tmp_path / "model.keras", "--dataset", "mnist"],
        *["--attacks", "pgd20", "--norm", "l2", "--eps", "0.001,0.02"],
        *["--certify", "--no-adaptive", "--no-audit", "--bounds", "0,1"],
        *["--report", path],
    )
    assert code == 0
    report = kwp.Report.from_json(path)
    proved, unbroken = report.bracket("l2", 0.001)
    assert 0 <= proved <= unbroken <= report.clean_accuracy
    assert f"(proved) and {100 * unbroken:.1f} % (not broken)." in (
        capsys.readouterr().out
    )


@pytest.mark.once
def test_what_cannot_be_certified_is_said(tmp_path, capsys):
    tiny_cnn().save(tmp_path / "model.keras")
    code = run(
        *["evaluate", tmp_path / "model.keras", "--dataset", "mnist"],
        *["--attacks", "pgd20", "--norm", "l2", "--eps", "0.5"],
        *["--certify", "--bounds", "0,1"],
    )
    assert code == 2
    assert "(BatchNormalization): leave it out" in capsys.readouterr().err
