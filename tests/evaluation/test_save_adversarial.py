"""Adversarial images that are kept: samples in the report, or all in a file."""

import json
import runpy
import types

import keras
import numpy as np
import pytest
from helpers import (
    mixed_labels,
    predictions,
    random_images,
    tiny_cnn,
    to_numpy,
)
from helpers import plainly as evaluate
from made_reports import attack_result
from processes import ROOT, run_python

import keras_wp as kwp
from keras_wp import Report
from keras_wp.evaluation.images import collect
from keras_wp.inspection.classifier import Classifier

RECHECK = ROOT / "examples" / "recheck.py"
ATTACKS = (
    kwp.attacks.PGD(eps=0.05, steps=5),
    kwp.attacks.DeepFool(norm="l2", steps=10),
)
EPS = {"linf": [0.03, 0.1], "l2": [0.2, 0.5]}


@pytest.fixture(scope="module")
def model():
    return tiny_cnn()


@pytest.fixture(scope="module")
def data(model):
    x = random_images(40)
    return x, mixed_labels(model, x)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def report(model, data, folder):
    return evaluate(
        model, data, ATTACKS, EPS, save_adversarial=folder / "adversarial.npz"
    )


@pytest.fixture(scope="module")
def saved(report, folder):
    return read(folder / "adversarial.npz")


def read(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("attacks")))


def test_saved_images_give_the_reports_numbers(model, data, report, saved):
    arrays, attacks = saved
    np.testing.assert_array_equal(arrays["x"], data[0])
    np.testing.assert_array_equal(arrays["y"], data[1])
    assert len(attacks) == len(report.results) == 4
    for entry, result in zip(attacks, report.results, strict=True):
        assert entry["robust_accuracy"] == result.robust_accuracy
        assert (entry["name"], entry["eps"]) == (result.name, result.eps)
        images = arrays[entry["images"]]
        np.testing.assert_array_equal(
            arrays[entry["attacked"]], report.clean_correct
        )
        found = np.isfinite(result.distance)
        # A minimum-norm attack may end where two logits tie, to rounding.
        top = np.sort(to_numpy(model(images, training=False)), axis=-1)
        clear = top[:, -1] - top[:, -2] > 1e-5
        assert clear.sum() >= len(images) - 1
        fooled = predictions(model, images) != data[1]
        expected = found | ~report.clean_correct
        np.testing.assert_array_equal(fooled[clear], expected[clear])
        np.testing.assert_array_equal(images[~found], data[0][~found])
    # One run of the attack without eps serves all of its budgets.
    assert [entry["images"] for entry in attacks] == [
        *["x_adv_0", "x_adv_1", "x_adv_2", "x_adv_2"]
    ]


@pytest.mark.once
def test_samples_are_the_first_of_each_class(model, data, report, saved):
    arrays, _ = saved
    right = np.flatnonzero(report.clean_correct)
    first = {data[1][i]: i for i in right[::-1]}
    assert [s.index for s in report.samples] == [
        first[label] for label in sorted(first)
    ]
    for sample in report.samples:
        np.testing.assert_array_equal(sample.image, data[0][sample.index])
        names = [a.name for a in sample.attempts]
        assert sorted((*names, *sample.resisted)) == ["DeepFool10-l2", "PGD5"]
        for attempt in sample.attempts:
            # With several eps, that of the largest.
            source = "x_adv_1" if attempt.name == "PGD5" else "x_adv_2"
            image = arrays[source][sample.index]
            np.testing.assert_array_equal(attempt.image, image)
            assert attempt.predicted == predictions(model, image[None])[0]
            assert attempt.predicted != sample.label
            distance = report[attempt.name].distance[sample.index]
            assert attempt.distance == distance


@pytest.mark.once
def test_written_report_is_read_with_the_same_numbers(report, tmp_path):
    path = tmp_path / "report.json"
    text = report.to_json(path)
    again = Report.from_json(path)
    assert again.to_json() == text
    assert again.to_html() == report.to_html()
    assert again.robust_accuracy == report.robust_accuracy
    for first, second in zip(report.results, again.results, strict=True):
        np.testing.assert_array_equal(first.distance, second.distance)
        assert first.distance.dtype == second.distance.dtype
        assert first.confidence_interval == second.confidence_interval


@pytest.mark.once
def test_samples_are_there_without_a_file(model, data, report):
    plain = evaluate(model, data, ATTACKS, EPS)
    for first, second in zip(report.samples, plain.samples, strict=True):
        for a, b in zip(first.attempts, second.attempts, strict=True):
            np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.once
@pytest.mark.parametrize("earlier", ["nothing", "half", "outcomes only"])
def test_resumed_run_saves_the_same_images(
    model, data, saved, tmp_path, earlier
):
    folder, path = tmp_path / "outcomes", tmp_path / "adversarial.npz"
    x, y = data
    if earlier == "half":
        some = (x[:20], y[:20])
        evaluate(
            model, some, ATTACKS, EPS, resume_dir=folder, save_adversarial=path
        )
    elif earlier == "outcomes only":
        evaluate(model, data, ATTACKS, EPS, resume_dir=folder)
    for _ in range(2):
        path.unlink(missing_ok=True)
        evaluate(
            model, data, ATTACKS, EPS, resume_dir=folder, save_adversarial=path
        )
        arrays, attacks = read(path)
        assert attacks == saved[1]
        for name, array in saved[0].items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)


@pytest.mark.once
def test_images_of_another_run_are_left_out(model, data, tmp_path):
    path = tmp_path / "adversarial.npz"
    options = {"resume_dir": tmp_path, "save_adversarial": path}
    first = evaluate(model, data, ATTACKS[:1], **options)
    for outcomes in tmp_path.glob("*.jsonl"):
        outcomes.unlink()
    second = evaluate(tiny_cnn(seed=3), data, ATTACKS[:1], **options)
    fooled = [r["PGD5"].attacked & ~r["PGD5"].robust for r in (first, second)]
    stale = fooled[0] & ~fooled[1]
    assert stale.any()
    images = read(path)[0]["x_adv_0"]
    np.testing.assert_array_equal(images[stale], data[0][stale])
    for sample in second.samples:
        assert bool(sample.attempts) == fooled[1][sample.index]
        assert bool(sample.resisted) != fooled[1][sample.index]


@pytest.mark.once
def test_sample_withstands_what_lies_outside_of_eps(model, data):
    attack = kwp.attacks.DeepFool(norm="l2", steps=10, eps=1e-4)
    report = evaluate(model, data, [attack])
    assert report.samples
    for sample in report.samples:
        assert np.isfinite(report[attack.label].distance[sample.index])
        assert sample.attempts == ()
        assert sample.resisted == (attack.label,)


@pytest.mark.once
def test_attacks_of_one_name_are_told_apart_by_their_norm(model, data):
    one = np.ones(1, bool)
    image = data[0][0]
    keeper = types.SimpleNamespace(
        sampled=[0],
        images=lambda indices: [(i, image) for i in indices],
        identities=["a"],
        labels=[1],
    )
    pictures = types.SimpleNamespace(get=lambda identity: image)
    outcomes = [("adaptive", "linf", ~one), ("adaptive", "l2", one)]
    outcomes += [("PGD", "l2", one)]
    kept = [
        ([attack_result(name, one, robust, norm=norm)], pictures)
        for name, norm, robust in outcomes
    ]
    (sample,) = collect(keeper, kept, Classifier(model), 8)
    (attempt,) = sample.attempts
    assert (attempt.name, attempt.norm) == ("adaptive", "linf")
    assert sample.resisted == ("adaptive (l2)", "PGD")


@pytest.mark.once
def test_repeated_images_are_saved_each_time(model, data, tmp_path):
    x, y = data
    twice = np.concatenate([x, x[:7]]), np.concatenate([y, y[:7]])
    path = tmp_path / "adversarial.npz"
    evaluate(model, twice, ATTACKS[:1], save_adversarial=path)
    arrays, _ = read(path)
    np.testing.assert_array_equal(arrays["x"], twice[0])
    np.testing.assert_array_equal(arrays["x_adv_0"][40:], arrays["x_adv_0"][:7])


@pytest.mark.once
def test_a_place_that_is_no_file_is_refused_at_once(model, data, tmp_path):
    for path in (tmp_path / "adversarial.npy", tmp_path / "no" / "a.npz"):
        with pytest.raises(ValueError) as error:
            evaluate(model, data, ATTACKS, EPS, save_adversarial=path)
        assert str(error.value) == (
            "`save_adversarial` must be the path of an .npz file in a "
            f"directory that exists. Received: {str(path)!r}"
        )


@pytest.mark.once
def test_other_files_are_no_reports(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"results": []}')
    with pytest.raises(ValueError) as error:
        Report.from_json(path)
    assert str(error.value) == (
        "The file must be a report that `to_json` wrote. Received: "
        f"{str(path)!r} (KeyError: 'clean_correct')"
    )


def recheck_alone(folder, model_path):
    """Run the check where this package is not."""
    blocked = (
        "import runpy, sys; sys.modules['keras_wp'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], "
        "run_name='__main__')"
    )
    return run_python(
        *("-c", blocked, RECHECK, "adversarial.npz", model_path),
        cwd=folder,
        KERAS_BACKEND="tensorflow",
    )


@pytest.mark.slow
@pytest.mark.usefixtures("report")  # It leaves the images in the folder.
def test_check_says_which_models_it_takes(folder):
    head = keras.Sequential([keras.Input((8,)), kwp.RobustHead(3)])
    head.save(folder / "head.keras")
    done = recheck_alone(folder, "head.keras")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "The model must be the directory of a SavedModel, which "
        "`model.export` writes, or a .keras file of Keras's own layers. "
        "Received: 'head.keras', which has others"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.once
def test_images_are_checked_without_this_package(model, folder, report):
    model.save(folder / "model.keras")
    done = recheck_alone(folder, "model.keras")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"clean: {report.clean_accuracy:.2%} of 40 images"
    assert len(lines) == 5
    assert all(line.endswith("(as saved)") for line in lines[1:])


@pytest.mark.once
def test_check_notices_images_that_fool_nobody(
    model, folder, saved, tmp_path, capsys
):
    model.save(tmp_path / "model.keras")
    arrays, attacks = saved
    wrong = {**arrays, "x_adv_1": arrays["x"], "attacks": json.dumps(attacks)}
    np.savez(tmp_path / "wrong.npz", **wrong)
    main = runpy.run_path(str(RECHECK))["main"]
    with pytest.raises(SystemExit) as end:
        main(str(tmp_path / "wrong.npz"), str(tmp_path / "model.keras"))
    assert str(end.value) == "1 of 4 numbers differ."
    assert capsys.readouterr().out.count("NOT as saved") == 1
