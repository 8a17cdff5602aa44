"""What may stand on the command line."""

import argparse

import numpy as np
import pytest
from commands import EVALUATE, run

import keras_wp as kwp
from keras_wp.cli import arguments, evaluate
from keras_wp.cli.main import parser

# The command line is the same on every backend.
pytestmark = pytest.mark.once


@pytest.mark.once
@pytest.mark.parametrize(
    "text, expected",
    [
        ("0.3", [0.3]),
        ("2/255, 8/255", [2 / 255, 8 / 255]),
        ("1e-2", [0.01]),
        ("linf=0.1,0.2,l2=1", {"linf": [0.1, 0.2], "l2": [1.0]}),
    ],
)
def test_budgets_may_be_fractions(text, expected):
    assert arguments.budgets(text) == expected


@pytest.mark.once
@pytest.mark.parametrize(
    "text", ["", "x", "-1", "nan", "inf", "0.1,l2=1", "l2="]
)
def test_other_budgets_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        arguments.budgets(text)
    assert str(error.value).endswith(f"Received: {text!r}")


def parsed(*words):
    args = parser().parse_args(["evaluate", "m.keras", *words])
    evaluate.check_options(args)
    return args


@pytest.mark.once
@pytest.mark.parametrize(
    "words, names",
    [
        ([], ["pgd40", "autoattack"]),
        (
            ["--attacks", "pgd:steps=50,restarts=3,square:queries=9,fgsm"],
            ["pgd:steps=50,restarts=3", "square:queries=9", "fgsm"],
        ),
        (
            [
                "--norm",
                "l2",
                "--attacks",
                "pgd40,fgsm-linf:seed=1,cw,apgd:rho=.5",
            ],
            ["pgd40:norm=l2", "fgsm-linf:seed=1", "cw:norm=l2"]
            + ["apgd:rho=.5,norm=l2"],
        ),
    ],
)
def test_attacks_are_read_by_name(words, names):
    args = parsed(*words, "--data", "mnist")
    assert args.attacks == names
    for name in names:
        kwp.attacks.get(name, args.budgets)


@pytest.mark.once
@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["--data", "mnist", "--attacks", "cw", "--norm", "linf"],
            "The argument norm of cw must be one of l2. Received: "
            "'cw:norm=linf'",
        ),
        (
            ["--data", "svhn_cropped"],
            "--eps must be given, as in --eps 8/255, for data that have no "
            "usual budget: only mnist, mnist5k, cifar10, cifar100 have. "
            "Received: no --eps for 'svhn_cropped'",
        ),
        (
            ["--data", "mnist", "--attacks", "fgsm:eps=0.1", "--eps", "0.1"],
            "The budget of an attack must be given once, by --eps or in its "
            "name. Received: both, for 'fgsm:eps=0.1'",
        ),
        (
            ["--data", "mnist", "--attacks", "fgsm,cw", "--eps", "linf=0.1"],
            "--eps must hold budgets in the norms of the attacks. Received: "
            "linf for attacks in l2 and linf",
        ),
    ],
)
def test_what_does_not_fit_together_gets_one_sentence(words, message):
    with pytest.raises(ValueError) as error:
        parsed(*words)
    assert str(error.value) == message


@pytest.mark.once
def test_a_budget_in_the_name_will_do():
    args = parsed("--data", "svhn_cropped", "--attacks", "fgsm:eps=8/255")
    assert kwp.attacks.get(args.attacks[0], args.budgets).eps == 8 / 255


@pytest.fixture
def export(tmp_path):
    """Exports a function from images to logits as a SavedModel."""
    tf = pytest.importorskip("tensorflow")

    def export(function, shape=(None, 6, 6, 1)):
        module = tf.Module()
        spec = tf.TensorSpec(shape, tf.float32, name="x")
        serve = tf.function(
            lambda x: {"logits": function(x)}, input_signature=[spec]
        )
        path = tmp_path / "saved_model"
        tf.saved_model.save(module, path, {"serving_default": serve})
        return path

    return export


def linear(x):
    import tensorflow as tf

    weights = np.random.default_rng(0).normal(size=(36, 5)).astype("float32")
    return tf.reshape(x - 0.5, (-1, 36)) @ weights


def rounded(x):
    import tensorflow as tf

    return linear(tf.round(4 * x) / 4)


def test_saved_model_is_attacked_along_its_gradients(
    backend, export, tmp_path, capsys
):
    if backend != "tensorflow":
        pytest.skip("a SavedModel runs on TensorFlow")
    path = tmp_path / "report.json"
    assert run("evaluate", export(linear), *EVALUATE, "--report", path) == 0
    report = kwp.Report.from_json(path)
    assert report["FGSM"].robust_accuracy < report.clean_accuracy
    assert report["FGSM"].vanished_gradients == 0
    assert report.findings == ()
    assert run("info", tmp_path / "saved_model") == 0
    assert "It has gradients for attacks to follow." in capsys.readouterr().out


def test_saved_model_without_gradients_meets_square_only(
    backend, export, tmp_path, capsys
):
    if backend != "tensorflow":
        pytest.skip("a SavedModel runs on TensorFlow")
    path = tmp_path / "report.json"
    args = ["--dataset", "mnist", "--attacks", "pgd20,fgsm", "--limit", 8]
    args += ["--eps", "0.2", "--audit", "--adaptive", "--report", path]
    assert run("evaluate", export(rounded), *args) == 0
    sentence = (
        "The model gives no gradients, so that only Square, which needs none, "
        "was run: attacks that follow gradients might fool more images."
    )
    assert capsys.readouterr().err == f"keras_wp: {sentence}\n"
    report = kwp.Report.from_json(path)
    assert [r.name for r in report.results] == ["Square"]
    assert report.robust_accuracy < report.clean_accuracy
    (finding,) = report.findings
    assert (finding.severity, finding.message) == ("warning", sentence)
    assert finding.evidence == {
        "attacks": ["Square"],
        "left out": ["pgd20", "fgsm", "audit", "adaptive"],
    }


def test_saved_model_needs_tensorflow(backend, export, capsys):
    if backend == "tensorflow":
        pytest.skip("it runs there")
    assert run("info", export(linear)) == 2
    assert capsys.readouterr().err == (
        "keras_wp: error: A SavedModel runs on the backend 'tensorflow' only. "
        f"Received: backend={backend!r}\n"
    )


def test_saved_model_of_other_images_is_one_sentence(backend, export, capsys):
    if backend != "tensorflow":
        pytest.skip("a SavedModel runs on TensorFlow")
    path = export(linear, (None, 9, 4, 1))
    assert run("evaluate", path, *EVALUATE) == 2
    assert capsys.readouterr().err == (
        "keras_wp: error: The SavedModel takes images of the shape (9, 4, 1). "
        "Received: images of the shape (6, 6, 1)\n"
    )


def test_saved_model_of_one_image_is_refused(backend, export, capsys):
    if backend != "tensorflow":
        pytest.skip("a SavedModel runs on TensorFlow")
    assert run("info", export(linear, (1, 6, 6, 1))) == 2
    assert capsys.readouterr().err == (
        "keras_wp: error: The SavedModel must take batches of any size. "
        "Received: an input of shape (1, 6, 6, 1)\n"
    )
