"""The command line: what it writes, and what it says of bad input."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import pytest
from commands import EVALUATE, PLAINLY, run
from helpers import ROOT, plainly, tiny_cnn

import keras_wp as kwp
from keras_wp import _startup, attacks
from keras_wp.cli import attacking, compare

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_cnn().save(folder / "a.keras")
    tiny_cnn(seed=3).save(folder / "b.keras")
    return folder


@pytest.mark.once
def test_evaluate_shows_and_writes_the_report(models, tmp_path, capsys):
    names = ["report.html", "report.json", "report.md"]
    reports = [part for n in names for part in ("--report", tmp_path / n)]
    model = models / "a.keras"
    assert run("evaluate", model, *EVALUATE, *reports) == 0
    out = capsys.readouterr().out
    assert "PGD20" in out and "worst case" in out
    report = kwp.Report.from_json(tmp_path / "report.json")
    assert str(report) in out
    assert report.environment["dataset"] == "mnist, test, 30 images"
    assert report.environment["command"].startswith(
        f"python -m keras_wp evaluate {model} --dataset mnist"
    )
    assert report.to_markdown() == (tmp_path / "report.md").read_text()
    assert report.to_html() == (tmp_path / "report.html").read_text()


@pytest.mark.once
def test_options_reach_the_evaluation(models, tmp_path, monkeypatch):
    asked = {}

    def evaluate(model, data, chosen, **options):
        asked.update(options, attacks=chosen, count=len(data[0]))
        raise ValueError("enough")

    monkeypatch.setattr("keras_wp.cli.attacking.evaluate_model", evaluate)
    code = run(
        *["evaluate", models / "a.keras", "--dataset", "mnist", "--limit", 7],
        *["--eps", "linf=2/255,8/255", "--batch-size", 5, "--seed", 3],
        *["--resume-dir", tmp_path / "r", "--audit", "--adaptive"],
        *["--save-adversarial", tmp_path / "a.npz"],
    )
    assert code == 2
    assert asked == {
        "attacks": [
            attacks.get("pgd40", "mnist"),
            attacks.get("autoattack", "mnist"),
        ],
        "count": 7,
        "eps": {"linf": [2 / 255, 8 / 255]},
        "batch_size": 5,
        "seed": 3,
        "resume_dir": tmp_path / "r",
        "save_adversarial": tmp_path / "a.npz",
        "audit": True,
        "adaptive": True,
        "inputs": None,
        "output": None,
    }


@pytest.mark.once
def test_data_set_gives_the_budget(models, tmp_path, capsys):
    path = tmp_path / "report.json"
    args = ["--dataset", "cifar10", "--attacks", "fgsm", "--report", path]
    args += PLAINLY
    assert run("evaluate", models / "a.keras", *args) == 0
    assert kwp.Report.from_json(path)["FGSM"].eps == 8 / 255
    assert "linf 8/255" in capsys.readouterr().out


@pytest.mark.once
def test_interrupted_evaluation_says_how_to_go_on(
    models, tmp_path, monkeypatch, capsys
):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_wp.cli.attacking.evaluate_model", interrupt)
    model = models / "a.keras"
    assert run("evaluate", model, *EVALUATE) == 130
    assert capsys.readouterr().err == (
        "\nkeras_wp: interrupted; with --resume-dir it could continue later.\n"
    )
    assert run("evaluate", model, *EVALUATE, "--resume-dir", tmp_path) == 130
    assert capsys.readouterr().err == (
        "\nkeras_wp: interrupted; the same command continues from there.\n"
    )


@pytest.mark.once
def test_compare_counts_the_same_images(models, images, tmp_path, capsys):
    path = tmp_path / "comparison.json"
    a, b = models / "a.keras", models / "b.keras"
    options = ["--dataset", "mnist", "--attacks", "fgsm", "--eps", "0.05"]
    options += ["--bounds", "0,1", *PLAINLY]
    assert run("compare", a, b, *options, "--report", path) == 0
    assert "B: b.keras" in capsys.readouterr().out
    loaded = json.loads(path.read_text())
    reports = [
        plainly(keras.saving.load_model(p), images, "fgsm", eps=0.05)
        for p in (a, b)
    ]
    pair = loaded["pairs"][1]
    first, second = (report["FGSM"].robust for report in reports)
    assert pair["condition"] == "FGSM"
    assert pair["first"] == int((first & ~second).sum())
    assert pair["second"] == int((second & ~first).sum())
    assert loaded["pairs"][0]["first"] > 0


@pytest.mark.once
@pytest.mark.parametrize(
    "a, b, names",
    [
        ("runs/a.keras", "runs/b.keras", ["A: a.keras", "B: b.keras"]),
        ("x/y/m.keras", "x/z/m.keras", ["A: y/m.keras", "B: z/m.keras"]),
        ("x/m.keras", "m.keras", ["A: x/m.keras", "B: m.keras"]),
        ("m.keras", "m.keras", ["A: m.keras", "B: m.keras"]),
    ],
)
def test_compared_files_are_told_apart(a, b, names):
    assert compare._names(a, b) == names


@pytest.mark.once
def test_compare_reads_written_reports(models, images, tmp_path, capsys):
    model = keras.saving.load_model(models / "a.keras")
    report = plainly(model, images, [kwp.attacks.FGSM(eps=0.1)])
    for name in ("a.json", "b.json"):
        report.to_json(tmp_path / name)
    assert run("compare", tmp_path / "a.json", tmp_path / "b.json") == 0
    out = capsys.readouterr().out
    assert "30 images, paired" in out and "FGSM, linf 0.1" in out


@pytest.mark.once
def test_compare_asks_for_a_common_budget_before_it_attacks(
    models, images, tmp_path, monkeypatch, capsys
):
    model = keras.saving.load_model(models / "a.keras")
    path = tmp_path / "a.json"
    plainly(model, images, [kwp.attacks.FGSM(eps=0.1)]).to_json(path)
    monkeypatch.setattr(attacking, "evaluate_model", None)
    options = ["--dataset", "mnist", "--attacks", "fgsm", "--eps", "0.2,0.05"]
    assert run("compare", path, models / "b.keras", *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "keras_wp: error: The two models must be attacked within the same norm "
        "and eps at least once. Received: linf 0.1 for the first, and "
        "linf 0.05, linf 0.2 for the second"
    )


@pytest.mark.once
def test_info_shows_the_geometry(tmp_path, capsys):
    model = keras.Sequential([keras.Input((8,)), kwp.RobustHead(3)], name="net")
    model.save(tmp_path / "model.keras")
    assert run("info", tmp_path / "model.keras") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"net: {tmp_path / 'model.keras'}"
    assert lines[1:3] == ["24 parameters.", "Images of the shape (8,)."]
    assert lines[3].endswith("(RobustHead): 8 features, 3 classes.")
    assert "at best each pair is 120.00° apart." in lines[4]


@pytest.mark.once
def test_package_runs_as_a_program(models):
    done = subprocess.run(
        [sys.executable, "-m", "keras_wp", "info", str(models / "a.keras")],
        capture_output=True,
        text=True,
        check=False,
        # Without the log level of the tests.
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "parameters." in done.stdout


@pytest.mark.once
@pytest.mark.parametrize(
    "backend, reason",
    [
        ("jax", "No jax is here"),
        ("nosuch", "Unable to import backend : nosuch"),
    ],
)
def test_missing_backend_is_one_sentence(models, backend, reason, tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('No jax is here')")
    done = subprocess.run(
        [sys.executable, "-m", "keras_wp", "info", str(models / "a.keras")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "KERAS_BACKEND": backend},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "keras_wp: error: Keras cannot be imported with the backend "
        f"{backend}. Received: {reason}\n"
    )


@pytest.mark.once
@pytest.mark.filterwarnings("default:A budget:UserWarning")
def test_warning_is_one_sentence(models, capsys):
    given = "--dataset", "mnist", "--attacks", "fgsm", "--eps", "8"
    assert run("evaluate", models / "a.keras", *given, *PLAINLY) == 0
    assert capsys.readouterr().err.splitlines() == [
        "keras_wp: warning: A budget in linf of 8 is larger than half of the "
        "range of the pixels, (0.0, 1.0): is it in other units?"
    ]


@pytest.mark.parametrize(
    "argv, original, expected",
    [
        (["-m"], ["python", "-m", "keras_wp", "info"], True),
        (["-m"], ["python", "-W", "ignore", "-m", "keras_wp.cli"], True),
        (["-m", "keras_wp"], ["python", "-m", "pytest", "keras_wp"], False),
        (["train.py"], ["python", "train.py", "-m", "keras_wp"], False),
        ([], ["python"], False),
    ],
)
def test_only_a_command_starts_quietly(monkeypatch, argv, original, expected):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert _startup.is_command() == expected


def test_quiet_start_needs_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with _startup.without_stderr():
        os.write(2, b"dropped")

    def closed(_):
        raise OSError

    monkeypatch.setattr(os, "dup", closed)
    with _startup.without_stderr():
        pass


def test_tensorflow_is_quiet_whenever_it_comes(tmp_path, monkeypatch, capfd):
    text = "import os\n\nos.write(2, b'no drivers')\nhere = True\n"
    (tmp_path / "tensorflow.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    finder = _startup._Quietly()
    spec = finder.find_spec("tensorflow")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.here
    assert capfd.readouterr().err == ""
    assert finder.find_spec("os") is None


BAD = {
    "no model": (
        ["evaluate", "no.keras", *EVALUATE],
        "MODEL must be a .keras or .h5 file, or the directory of a SavedModel. "
        "Received: 'no.keras', which is not there",
    ),
    "other directory": (
        ["info", "."],
        "MODEL must be a .keras or .h5 file, or the directory of a SavedModel. "
        "Received: '.', which is another directory",
    ),
    "torn model": (
        ["info", "torn.keras"],
        "MODEL must be a .keras or .h5 file, or the directory of a SavedModel, "
        "and whole. Received: 'torn.keras', which is not what Keras writes as "
        ".keras",
    ),
    "no data set": (
        ["evaluate", "a.keras"],
        "--data must say which images to attack, such as mnist5k, cifar10, an "
        ".npz file or a folder. Received: no --data",
    ),
    "attack": (
        ["evaluate", "a.keras", "--dataset", "mnist", "--attacks", "pdg3"],
        "argument --attacks: An attack must be named as one of fgsm, pgd, "
        "apgd, mta, square, fab, deepfool, cw, autoattack, with steps, options "
        "or arguments, as in pgd40, apgd-dlr or square:queries=1000. "
        "Received: 'pdg3' (see python -m keras_wp evaluate -h)",
    ),
    "eps": (
        ["evaluate", "a.keras", *EVALUATE[:-1], "8/0"],
        "argument --eps: expected numbers or fractions above 0, such as 0.3 "
        "or 8/255. Received: '8/0' (see python -m keras_wp evaluate -h)",
    ),
    "norms": (
        ["evaluate", "a.keras", "--dataset", "mnist", "--eps", "0.1"]
        + ["--attacks", "pgd20,cw1000"],
        "--eps must name the norm of each budget when the attacks use several, "
        "as in linf=8/255,l2=0.5. Received: no norm for attacks in l2 and linf",
    ),
    "limit": (
        ["evaluate", "a.keras", *EVALUATE, "--limit", "0"],
        "argument --limit: expected an integer of at least 1. Received: '0' "
        "(see python -m keras_wp evaluate -h)",
    ),
    "suffix": (
        ["evaluate", "a.keras", *EVALUATE, "--report", "report.pdf"],
        "What is written must be a file with the suffix .html or .json or "
        ".md. Received: 'report.pdf'",
    ),
    "images": (
        ["evaluate", "a.keras", *EVALUATE, "--save-adversarial", "a.npy"],
        "What is written must be a file with the suffix .npz. Received: "
        "'a.npy'",
    ),
    "no report": (
        ["compare", "no.json", "a.keras", *EVALUATE],
        "[Errno 2] No such file or directory: 'no.json'",
    ),
    "command": (
        ["attack"],
        "argument COMMAND: invalid choice: 'attack'",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_one_sentence(
    models, tmp_path, monkeypatch, capsys, kind
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.keras").symlink_to(models / "a.keras")
    (tmp_path / "torn.keras").write_bytes(b"torn")
    args, message = BAD[kind]
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert f"error: {message}" in captured.err
    assert {p.name for p in tmp_path.iterdir()} == {"a.keras", "torn.keras"}


@pytest.mark.once
def test_model_that_cannot_be_read_is_named(models, tmp_path, capsys):
    @keras.saving.register_keras_serializable(package="test_cli")
    class Broken(keras.layers.Layer):
        @classmethod
        def from_config(cls, config):
            raise TypeError("of a package that is not there")

    path = tmp_path / "broken.keras"
    keras.Sequential([keras.Input((2,)), Broken()]).save(path)
    assert run("info", path) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"keras_wp: error: The model {str(path)!r} could not be loaded. "
    )
    assert len(error.splitlines()) == 1
