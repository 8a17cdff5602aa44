"""The paper's tables: made of finished runs, and from end to end."""

import json

import numpy as np
import pytest
from made_reports import ENVIRONMENT, attack_result
from studies import leave, listed, run_experiments

from keras_wp import Report

pytestmark = pytest.mark.once


RECORD = {
    "commit": "abc",
    "versions": {"keras": "3"},
    "device": "a device",
    "data": "mnist5k",
    "seed": 0,
    "seconds": {"training": 2.0, "evaluation": 0.5},
}
# Of 10 images: how many resist each attack at a small and a large budget.
RESISTING = {
    "PGD40": (9, 6),
    "PGD50": (9, 5),
    "DeepFool": (8, 7),
    "CW": (4,),
    "MTA50": (9, 3),
    "PGD40-margin": (8, 2),
}
IMAGES = np.arange(10)
# The first of nine attacked images, and one that is not attacked.
ZERO_GRADIENTS = np.array([3, 1, 1] + [0] * 6 + [5])


def report(**resisting):
    """A report of ten images, nine of which are right at first."""
    clean = IMAGES < 9
    results = []
    for name, counts in resisting.items():
        budgets = [("l2", 3.0)] if name == "CW" else [("linf", 0.1)]
        budgets += [("linf", 0.3)] * (len(counts) - 1)
        for (norm, eps), count in zip(budgets, counts, strict=True):
            # Other images in another norm.
            left = np.roll(count > IMAGES, int(norm == "l2"))
            found = attack_result(
                name,
                clean,
                left,
                eps,
                norm,
                zero_gradients=ZERO_GRADIENTS,
            )
            results.append(found)
    return Report(clean, tuple(results), ENVIRONMENT)


def finish(command):
    """What a run of this command might have left."""
    folder = leave(command, RECORD)
    report(**RESISTING).to_json(folder / "report.json")


@pytest.fixture
def finished(tmp_path):
    """Flags of a Table 4 whose experiments are all finished."""
    flags = (
        "--table=4",
        "--preset=cpu",
        f"--runs_dir={tmp_path / 'runs'}",
        f"--output_dir={tmp_path / 'results'}",
    )
    commands = listed("table", *flags)
    assert len(commands) == 4
    for command in commands:
        finish(command)
    return flags


def test_table_is_made_of_finished_runs(finished, tmp_path):
    result = run_experiments("table", *finished)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("Finished before.") == 4
    text = (tmp_path / "results/table/4-cpu/table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == (
        "| method |  | clean | PGD40 | PGD200 | DeepFool | C&W | MTA200 | "
        "PGD40, margin | worst case | worst case, l2 3 | worst case, linf 0.1 "
        "| worst case, linf 0.3 | zero grad |"
    )
    cited = "| Ours | *cited* | 99.39 | 81.90 | 80.39 | 97.28 | 97.95 | 88.31 "
    assert cited + "| – | – | – | – | – | – |" in lines
    measured = "| 90.00 | 60.00 | 50.00 | 70.00 | 40.00 | 30.00 | 20.00 "
    worst = "| 10.00 | 40.00 | 80.00 | 20.00 | 33.33 |"
    for method in ("AdvTraining", "MMC", "Ours", "Ours with AdvTraining"):
        assert f"| {method} | measured {measured}{worst}" in lines
    assert len(lines) == 2 + 3 + 4
    assert "PGD50 (linf 0.3)" in text


def test_table_tells_what_it_depends_on(finished, tmp_path):
    run_experiments("table", *finished)
    path = tmp_path / "results/table/4-cpu/data.json"
    found = json.loads(path.read_text())
    for key in ("commit", "versions", "device", "data", "seed"):
        assert found[key] == RECORD[key]
    assert found["seconds"] == 4 * 2.5
    assert found["command"].startswith(
        "python -m keras_wp.experiments table --table=4 "
    )
    row = found["rows"][2]
    assert row["cited"]["mta200-paper"] == 88.31
    assert row["measured"]["attacks"]["pgd200-paper"]["as_run"] == "PGD50"
    assert row["measured"]["worst_case"] == pytest.approx(10.0)


@pytest.mark.slow
def test_missing_data_end_a_table_with_one_sentence(tmp_path):
    result = run_experiments(
        "table",
        "--table=3",
        "--preset=smoke",
        f"--data_dir={tmp_path / 'none'}",
        f"--runs_dir={tmp_path}",
    )
    assert result.returncode == 1
    assert result.stderr.startswith("The data set 'cifar100' is not in ")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("table", ["2", "3", "4", "5"])
def test_table_runs_from_end_to_end(table, small_cifar, tmp_path):
    name, classes = ("cifar100", 100) if table == "3" else ("cifar10", 10)
    narrow = ("--", "--depth=10", "--width=2") if table in "23" else ()
    result = run_experiments(
        "table",
        f"--table={table}",
        "--preset=smoke",
        f"--data_dir={small_cifar(name, classes)}",
        f"--runs_dir={tmp_path / 'runs'}",
        f"--output_dir={tmp_path}",
        *narrow,
        timeout=1800,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    found = json.loads(
        (tmp_path / f"table/{table}-smoke/data.json").read_text()
    )
    for row in found["rows"]:
        measured = row["measured"]
        assert measured["images"] == 4
        assert measured["worst_case"] <= measured["clean"]
        assert set(row["cited"]) <= {"clean", *measured["attacks"]}
