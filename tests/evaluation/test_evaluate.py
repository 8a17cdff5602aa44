"""`evaluate`: the worst case, the curve, streams, and what it refuses."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from evaluated import FGSM, Batches
from helpers import linear_model, random_images, tiny_cnn
from helpers import plainly as evaluate
from keras import ops

import keras_wp as kwp
from keras_wp.engine import predict

PGD = kwp.attacks.PGD(eps=0.05, steps=5)

MARGIN = kwp.attacks.PGD(eps=0.05, steps=5, loss="margin")


def same(first, second):
    for a, b in zip(first.results, second.results, strict=True):
        np.testing.assert_array_equal(a.robust, b.robust)
        np.testing.assert_array_equal(a.steps, b.steps)


def test_linear_model_reaches_its_closed_form(rng):
    kernel = rng.normal(size=(4, 4, 1, 2)).astype("float32")
    kernel -= kernel.mean(axis=(0, 1, 2))
    model = linear_model(kernel)
    x = random_images(200, (4, 4, 1), low=0.4, high=0.6)
    scores = x.reshape(200, -1) @ (kernel[..., 0] - kernel[..., 1]).ravel()
    y = (scores < 0).astype("int32")
    slope = np.abs(kernel[..., 0] - kernel[..., 1]).sum()
    distance = np.abs(scores) / slope
    eps = [0.005, 0.01, 0.02]
    report = evaluate(model, (x, y), [FGSM, PGD], eps=eps)
    assert report.clean_accuracy == 1.0
    for budget in eps:
        expected = float((distance > budget).mean())
        assert report["FGSM", budget].robust_accuracy == expected
        assert report.curve()[budget] == expected
    assert 0 < report.robust_accuracy < report.curve()[0.005] < 1


@pytest.mark.once
def test_worst_case_is_per_image(model, data):
    attacks = [FGSM, PGD, MARGIN]
    report = evaluate(model, data, attacks, eps=0.1)
    each = np.stack([result.robust for result in report.results])
    np.testing.assert_array_equal(report.robust(), each.all(axis=0))
    assert report.robust_accuracy == each.all(axis=0).mean()
    assert report.clean_accuracy == 0.75
    assert not np.array_equal(each[0], each[2])


def test_misclassified_images_are_not_attacked(model, data):
    report = evaluate(model, data, [PGD])
    wrong = ~report.clean_correct
    assert wrong.sum() == 15
    assert not report["PGD5"].robust[wrong].any()
    assert not report["PGD5"].steps[wrong].any()


def test_curve_never_rises_with_eps(model, data):
    eps = [0.2, 0.01, 0.05, 0.1]
    report = evaluate(model, data, [FGSM, MARGIN], eps=eps)
    curve = report.curve()
    assert list(curve) == sorted(eps)
    assert (np.diff(list(curve.values())) <= 0).all()
    assert report.robust_accuracy == curve[0.2]
    assert report["FGSM"].eps == 0.2


@pytest.mark.parametrize("batch_size", [1, 7, 128])
def test_batch_size_changes_nothing(model, data, batch_size):
    same(
        evaluate(model, data, [PGD, MARGIN], batch_size=32),
        evaluate(model, data, [PGD, MARGIN], batch_size=batch_size),
    )


def test_order_changes_nothing(model, data):
    x, y = data
    order = np.random.default_rng(3).permutation(len(x))
    plain = evaluate(model, data, [PGD])["PGD5"]
    mixed = evaluate(model, (x[order], y[order]), [PGD])["PGD5"]
    np.testing.assert_array_equal(plain.robust[order], mixed.robust)
    np.testing.assert_array_equal(plain.steps[order], mixed.steps)


def test_dataset_may_be_shuffled_afresh_by_each_attack(model, data):
    plain = evaluate(model, data, [FGSM, PGD])
    mixed = evaluate(model, Batches(*data, size=13, seed=1), [FGSM, PGD])
    assert plain.robust_accuracy == mixed.robust_accuracy
    assert plain["PGD5"].steps.sum() == mixed["PGD5"].steps.sum()


def test_tf_data_is_accepted_batched_and_not(model, data):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices(data)
    plain = evaluate(model, data, [PGD])
    same(plain, evaluate(model, dataset, [PGD]))
    same(plain, evaluate(model, dataset.batch(11), [PGD]))


def test_numpy_numbers_are_written_as_plain_ones(model, data, tmp_path):
    attack = kwp.attacks.FGSM(eps=np.float32(0.05))
    seed = np.int64(3)
    report = evaluate(model, data, [attack], seed=seed, resume_dir=tmp_path)
    loaded = json.loads(report.to_json())
    assert loaded["environment"]["seed"] == 3
    assert loaded["results"][0]["eps"] == np.float32(0.05)


def test_seed_changes_the_random_start(model, data):
    first = evaluate(model, data, [PGD], seed=0)["PGD5"].steps
    other = evaluate(model, data, [PGD], seed=1)["PGD5"].steps
    assert (first != other).any()


def test_repeated_images_share_their_outcome(model, data):
    x, y = data
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    result = evaluate(model, twice, [PGD])["PGD5"]
    np.testing.assert_array_equal(result.robust[:60], result.robust[60:])


def test_resume_goes_on_with_what_is_known(model, data, tmp_path):
    x, y = data
    plain = evaluate(model, data, [FGSM, PGD])
    evaluate(model, (x[:40], y[:40]), [FGSM, PGD], resume_dir=tmp_path)
    path = next(tmp_path.glob("PGD5*.jsonl"))
    lines = path.read_text().splitlines()
    # As if killed while writing a line.
    path.write_text("\n".join(lines[:12]) + "\n" + lines[12][:9])
    same(plain, evaluate(model, data, [FGSM, PGD], resume_dir=tmp_path))
    assert len(path.read_text().splitlines()) == 1 + 45
    same(plain, evaluate(model, data, [FGSM, PGD], resume_dir=tmp_path))


def test_resume_refuses_another_model(data, tmp_path):
    evaluate(tiny_cnn(), data, [FGSM], resume_dir=tmp_path)
    name = next(tmp_path.glob("FGSM*.jsonl")).name
    with pytest.raises(ValueError) as error:
        evaluate(tiny_cnn(seed=1), data, [FGSM], resume_dir=tmp_path)
    assert str(error.value) == (
        "`resume_dir` holds an evaluation with another model: name an empty "
        f"directory, or delete {name}. Received: resume_dir="
        f"{str(tmp_path)!r}"
    )


@pytest.mark.once
@pytest.mark.parametrize("kind", ["layers", "callables"])
def test_resume_refuses_another_model_with_the_same_weights(
    kind, model, data, tmp_path
):
    def scaled(factor):
        if kind == "callables":
            return lambda x: factor * model(x)
        scale = keras.layers.Rescaling(factor)
        return keras.Sequential([keras.Input((6, 6, 1)), model, scale])

    evaluate(scaled(1.0), data, [FGSM], resume_dir=tmp_path)
    evaluate(scaled(1.0), data, [FGSM], resume_dir=tmp_path)
    with pytest.raises(ValueError, match="holds an evaluation with another mo"):
        evaluate(scaled(100.0), data, [FGSM], resume_dir=tmp_path)


class Rounding(keras.layers.Layer):
    """Rounds pixels, with a straight-through gradient or with none."""

    def __init__(self, straight):
        super().__init__()
        self.straight = straight

    def call(self, x):
        rounded = ops.round(4.0 * x) / 4.0
        if not self.straight:
            return rounded
        return ops.stop_gradient(rounded) + (x - ops.stop_gradient(x))


@pytest.mark.once
@pytest.mark.parametrize("kind", ["attacked", "stand-in"])
def test_resume_refuses_another_gradient(kind, model, data, tmp_path):
    def outcomes(straight):
        # Another name would be another attack.
        layers = [Rounding(straight), model]
        rounding = keras.Sequential(layers, name="rounding")
        if kind == "attacked":
            return evaluate(rounding, data, [FGSM], resume_dir=tmp_path)
        stand_in = kwp.Surrogate(model=rounding)
        attack = dataclasses.replace(FGSM, surrogate=stand_in)
        return evaluate(model, data, [attack], resume_dir=tmp_path)

    blind = outcomes(False)
    assert blind.results[0].vanished_gradients == 1.0
    same(blind, outcomes(False))
    with pytest.raises(ValueError) as error:
        outcomes(True)
    (name,) = [path.name for path in tmp_path.glob("*.jsonl")]
    other = {"attacked": "model", "stand-in": "gradient"}[kind]
    assert str(error.value) == (
        f"`resume_dir` holds an evaluation with another {other}: name an "
        f"empty directory, or delete {name}. Received: resume_dir="
        f"{str(tmp_path)!r}"
    )


def test_models_are_told_apart_without_a_derivative_where_none_is_needed(
    model, data, tmp_path, monkeypatch
):
    def refuse(*args):
        raise RuntimeError("There is no derivative.")

    monkeypatch.setattr(predict, "margin_gradients", refuse)
    evaluate(model, data, [FGSM])
    square = kwp.attacks.Square(eps=0.05, steps=5)
    first = evaluate(model, data, [square], resume_dir=tmp_path)
    same(first, evaluate(model, data, [square], resume_dir=tmp_path))
    with pytest.raises(RuntimeError, match="There is no derivative"):
        evaluate(model, data, [FGSM], resume_dir=tmp_path)


def test_fresh_weights_are_seen(data):
    model = tiny_cnn()
    first = evaluate(model, data, [PGD])
    model.layers[-1].kernel.assign(-model.layers[-1].kernel)
    second = evaluate(model, data, [PGD])
    assert first.clean_accuracy != second.clean_accuracy


def test_plain_callable_is_accepted(model, data):
    same(
        evaluate(model, data, [PGD]),
        evaluate(lambda x: model(x, training=False), data, [PGD]),
    )


def test_attacks_by_name_take_the_budget_given(model, data):
    report = evaluate(model, data, ["pgd20", "fgsm"], eps=0.05)
    assert report["PGD20"].attack["step_size"] is None
    assert report["FGSM"].eps == 0.05
    same(report, evaluate(model, data, "pgd20, fgsm", eps=0.05))
    with_own = evaluate(model, data, "pgd:steps=20,eps=0.05,fgsm:eps=0.05")
    same(report, with_own)


def test_settings_are_those_of_the_run(model, data):
    report = evaluate(model, data, "fgsm", eps=[0.01, 0.05])
    assert [r.attack["eps"] for r in report.results] == [0.01, 0.05]


@pytest.mark.once
@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.6)])
def test_pixels_up_to_255_are_judged_as_those_up_to_1(norm, eps):
    x = 255 * random_images(60)
    scale = keras.layers.Rescaling(1 / 255)
    wide = keras.Sequential([keras.Input((6, 6, 1)), scale, tiny_cnn()])
    y = wide.predict(x, verbose=0).argmax(-1)
    attack = kwp.attacks.PGD(
        eps=255 * eps, steps=10, norm=norm, bounds=(0, 255), loss="margin"
    )
    (result,) = evaluate(wide, (x, y), [attack]).results
    # A distance is there exactly where the attack has succeeded.
    np.testing.assert_array_equal(result.robust, np.isinf(result.distance))
    assert not result.robust.all()


@pytest.mark.once
def test_suite_hands_on_survivors_only(model, data):
    suite = kwp.attacks.AutoAttack(eps=0.05, steps=5, queries=20)
    result = evaluate(model, data, [suite])[suite.label]
    x, y = data
    alone = suite(model, x, y)
    left = model.predict(alone, verbose=0).argmax(-1) == y
    np.testing.assert_array_equal(result.robust, left)
    first = evaluate(model, data, [suite.parts[0]])
    assert result.robust_accuracy <= first.robust_accuracy


def test_smallest_perturbations_are_judged_at_every_budget(rng):
    kernel = rng.normal(size=(4, 4, 1, 5)).astype("float32")
    kernel -= kernel.mean(axis=(0, 1, 2))
    model = linear_model(kernel)
    x = random_images(40, (4, 4, 1), low=0.4, high=0.6)
    y = model.predict(x, verbose=0).argmax(-1)
    attack = kwp.attacks.DeepFool(norm="l2")
    report = evaluate(model, (x, y), [attack], eps=[0.05, 0.1, 0.2])
    distance = report[attack.label].distance
    assert np.isfinite(distance).all()
    assert report[attack.label].median_distance == np.median(distance)
    assert report.curve() == {
        eps: (distance > eps).mean() for eps in [0.05, 0.1, 0.2]
    }
