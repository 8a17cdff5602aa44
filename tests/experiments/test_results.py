"""What is made of the JSON in `results/`, and that it is up to date."""

import json
import re
import shutil

import pytest
from processes import ROOT
from studies import run_experiments

from keras_wp.experiments.publish import results

pytestmark = pytest.mark.once

RECORD = {
    "command": "python examples/some.py",
    "preset": "cpu",
    "preset_changes": ["--epochs=8"],
    "flags": ["--narrow=2"],
    "data": "mnist5k",
    "device": "a device",
    "seconds": 61.2,
}
GROWING = {
    **RECORD,
    "title": "By epochs",
    "attacks": {
        "PGD": {"as_run": "PGD40", "norm": "linf", "eps": 0.1},
        "C&W": {"as_run": "C&W100", "norm": "l2", "eps": 3.0},
    },
    "norm": "linf",
    "eps": 0.1,
    "images": 100,
    "rows": [
        {
            "method": "WP, Tanh",
            "epochs": epochs,
            "mean": {
                "clean": 0.97,
                "PGD": 0.5,
                "C&W": 0.25,
                "worst_case": 0.125,
                "saturated": saturated,
                "nearly_saturated": 0.75,
                "median_size": 5.4,
                "zero_gradients": 0.3,
                "min_angle": 96.123,
            },
            "runs": [{}, {}],
        }
        for epochs, saturated in ((1, 0.0), (16, None))
    ],
}


def difference(mean, low, high, by_seed):
    return {
        "difference": mean,
        "interval": [low, high],
        "over": "images and seeds",
        "difference_by_seed": by_seed,
        "pooled": {"both": 9, "first": 2, "second": 5, "neither": 4},
    }


def accuracies(*worst):
    return {"clean": [0.9, 0.9], "AutoAttack": [0.5, 0.6], "worst case": worst}


COMPARED = {
    **RECORD,
    "title": "Heads",
    "reference": "plain",
    "attack": "AutoAttack",
    "norm": "linf",
    "eps": 0.1,
    "images": 10,
    "rows": [
        {
            "defense": "at",
            "variant": "plain",
            "accuracy": accuracies(0.4, 0.5),
            "runs": [{}, {}],
        },
        {
            "defense": "at",
            "variant": "robust",
            "accuracy": accuracies(0.6, 0.6),
            "against": {
                "clean": difference(0.0, -0.1, 0.1, [0.0, 0.0]),
                "worst case": difference(0.15, -0.02, 0.3, [0.2, 0.1]),
            },
            "runs": [{}, {}],
        },
    ],
}


def lines(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def written(path, result):
    """The Markdown made of a result; there is a figure, in both forms."""
    results.write(path, result)
    assert (path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (path / "figure.pdf").read_bytes().startswith(b"%PDF")
    return (path / "table.md").read_text()


def test_epochs_become_a_table_and_a_figure(tmp_path):
    text = written(tmp_path / "growing-epochs/mnist-cpu", GROWING)
    assert lines(text) == [
        "| method | epochs | clean | PGD | C&W | worst case | units at ±1 | "
        "beyond ±0.999 | pre-activation | zero grad | min. angle |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| WP, Tanh | 1 | 97.0 | 50.0 | 25.0 | 12.5 | 0.0 | 75.0 | 5.40 | "
        "30.0 | 96.12 |",
        "| WP, Tanh | 16 | 97.0 | 50.0 | 25.0 | 12.5 | – | 75.0 | 5.40 | "
        "30.0 | 96.12 |",
    ]
    assert "PGD: PGD40 (linf 0.1), C&W: C&W100 (l2 3)." in text
    assert "Accuracy in %, the mean of 2 seeds." in text
    assert text.endswith(
        "Preset `cpu` (which stands for `--epochs=8`) with `--narrow=2`, data "
        "mnist5k, 100 test images. Device: a device; 61 s in all.\n\n"
        "    python examples/some.py\n"
    )


def test_heads_become_a_table_and_a_figure(tmp_path):
    text = written(tmp_path / "compare-heads/mnist_small_cnn-cpu", COMPARED)
    assert lines(text) == [
        "| training | head | clean | AutoAttack | worst case | worst case − "
        "plain | by seed | only it | only plain | clean − plain |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| at | plain | 90.0 (90.0–90.0) | 55.0 (50.0–60.0) | "
        "45.0 (40.0–50.0) | – | – | – | – | – |",
        "| at | robust | 90.0 (90.0–90.0) | 55.0 (50.0–60.0) | "
        "60.0 (60.0–60.0) | **+15.0 (-2.0 to +30.0)** | +20.0, +10.0 | 5 | 2 "
        "| +0.0 (-10.0 to +10.0) |",
    ]
    assert "at linf 0.1." in text
    assert "95 % intervals.\n" in text
    assert "Intervals are over images and seeds" in text and "†" not in text


TIMED = {
    **RECORD,
    "command": "python benchmarks/some.py",
    "commit": "abc",
    "versions": {"keras": "3", "numpy": "2"},
}
PEERS = {
    **TIMED,
    "torch": "2.1",
    "torch_threads": 2,
    "figures": [
        {
            "work": "pgd20",
            "images": 128,
            "rows": [
                {
                    "library": "keras_wp",
                    "version": "0.1",
                    "seconds": 1.5,
                    "ours_over_it": 1.0,
                    "robust_accuracy": 0.25,
                    "median_distance": None,
                },
                {"library": "broken", "error": "ImportError()"},
                {
                    "library": "drawn",
                    "version": "2",
                    "seconds": 3.0,
                    "ours_over_it": None,
                    "robust_accuracy": 0.25,
                    "median_distance": 0.5,
                    "draws": [0.25, 0.5, 0.375],
                },
            ],
        }
    ],
}
FLOOR = {
    **TIMED,
    "figures": [
        {
            "attack": "PGD100",
            "images": 512,
            "clean_accuracy": 0.5,
            "robust_accuracy": 0.125,
            "steps_per_image": 62.25,
            "unit": "gradient",
            "ratio_wall": 0.913,
            "ratio_processor": 1.04,
            "ratio_divided_wall": 1.081,
            "ratio_attack_wall": 1.06,
        }
    ],
}
DEVICES = {
    **TIMED,
    "attack": "pgd100",
    "images": 128,
    "throughput_of_two_devices": {"wall": 1.012, "processor": 0.98},
    "speed_up_of_two_cores": 1.75,
    "results": {"other_verdicts": 1, "other_steps": 3},
}
MEMORY = {
    **TIMED,
    "attack": "AutoAttack(3, 10)",
    "figures": [
        {
            "images": 10_000,
            "steps_per_image": 40.2,
            "megabytes_of_images": 122.9,
            "peak_megabytes": 901.4,
            "seconds": 61.0,
        }
    ],
}


@pytest.mark.parametrize(
    "name, result, expected",
    [
        ("peers/plain", PEERS, "| pgd20, 128 images | broken | ImportError() "),
        (
            "peers/plain",
            PEERS,
            "| pgd20, 128 images | keras_wp 0.1 | 1.50 | 1.000 | 25.0% |  |",
        ),
        (
            "agreement/plain",
            PEERS,
            "| pgd20, 128 images | drawn 2 | 3.00 |  | 37.5% (25.0% to 50.0%) ",
        ),
        (
            "floor/plain",
            FLOOR,
            "| PGD100 | 512 | 50.0% | 12.5% | 62.2 | gradient | 0.91 | 1.04 | "
            "1.08 | 1.06 |",
        ),
        ("devices/jax", DEVICES, "| throughput of two devices | 1.01 |"),
        ("devices/jax", DEVICES, "| other verdicts | 1 of 128 |"),
        ("memory/mnist", MEMORY, "| 10,000 | 40 | 122.9 | 901 | 61 |"),
    ],
)
def test_benchmarks_become_tables(name, result, expected, tmp_path):
    path = tmp_path / name
    results.write(path, result)
    text = (path / "table.md").read_text()
    assert any(line.startswith(expected) for line in lines(text))
    assert (
        "Device: a device; 61 s in all. keras 3, numpy 2; commit abc." in text
    )
    assert text.endswith("\n\n    python benchmarks/some.py\n")


def test_other_json_is_left_alone(tmp_path):
    path = tmp_path / "audit-cost" / "paper"
    path.mkdir(parents=True)
    (path / "data.json").write_text("{}")
    results.render(path)
    assert [p.name for p in path.iterdir()] == ["data.json"]


def test_the_same_json_gives_the_same_files(tmp_path):
    contents = []
    for _ in range(2):
        path = tmp_path / "growing-epochs" / "cpu"
        results.write(path, GROWING)
        files = sorted(path.iterdir())
        contents.append([file.read_bytes() for file in files])
    assert len(contents[0]) == 4
    assert contents[0] == contents[1]


def files_below(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder) for path in found}


def test_results_are_what_their_json_gives(tmp_path):
    recorded = ROOT / "results"
    for path in recorded.rglob("*.json"):
        copy = tmp_path / path.relative_to(recorded)
        copy.parent.mkdir(parents=True)
        shutil.copy(path, copy)
    result = run_experiments("render", f"--output_dir={tmp_path}")
    assert (result.returncode, result.stderr) == (0, "")
    assert files_below(recorded) == files_below(tmp_path)
    for path in recorded.rglob("*.md"):
        copy = tmp_path / path.relative_to(recorded)
        assert copy.read_text() == path.read_text()


def test_a_name_with_dots_is_kept_whole(tmp_path):
    for name in ("s-0.1", "s-0.3"):
        results.write(tmp_path / "growing-epochs" / name, GROWING)
    result = run_experiments("render", f"--output_dir={tmp_path}")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(files_below(tmp_path)) == 8


def test_nothing_to_regenerate_is_one_sentence(tmp_path):
    result = run_experiments("render", f"--output_dir={tmp_path}")
    assert result.returncode == 1
    assert result.stderr == f"There is no data.json in {tmp_path}.\n"


def test_results_tell_what_they_depend_on():
    fields = {"command", "commit", "versions", "device", "data", "seed"}
    for path in (ROOT / "results").rglob("*.json"):
        assert fields <= set(json.loads(path.read_text())), path


def test_make_regenerates_results():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(
        r"^results: .*\n\t.*keras_wp\.experiments render", makefile, re.M
    )
