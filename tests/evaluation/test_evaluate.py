"""`evaluate`: the worst case, the curve, streams, and what it refuses."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
from helpers import linear_model, mixed_labels, random_images, tiny_cnn
from keras import ops

import keras_wp as kwp
from keras_wp import evaluate
from keras_wp.engine import predict

FGSM = kwp.attacks.FGSM(eps=0.05)
PGD = kwp.attacks.PGD(eps=0.05, steps=5)
MARGIN = kwp.attacks.PGD(eps=0.05, steps=5, loss="margin")


@pytest.fixture(scope="module")
def model():
    return tiny_cnn()


@pytest.fixture(scope="module")
def data(model):
    x = random_images(60)
    return x, mixed_labels(model, x)


class Batches:
    """A dataset of batches, shuffled afresh each time it is read."""

    def __init__(self, x, y, size, seed=None):
        self.x, self.y, self.size = x, y, size
        self.rng = None if seed is None else np.random.default_rng(seed)

    def __iter__(self):
        order = np.arange(len(self.x))
        if self.rng is not None:
            self.rng.shuffle(order)
        for begin in range(0, len(order), self.size):
            some = order[begin : begin + self.size]
            yield self.x[some], self.y[some]


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
    assert report["PGD20"].attack["step_size"] == 0.0031
    assert report["FGSM"].eps == 0.05


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


def test_names_are_told_apart(model, data):
    second = kwp.attacks.FGSM(eps=0.01, name="FGSM (2)")
    report = evaluate(model, data, [FGSM, FGSM, second])
    names = [result.name for result in report.results]
    assert names == ["FGSM", "FGSM (2)", "FGSM (2) (2)"]


def test_targeted_attack_aims_at_the_likeliest_wrong_class(rng):
    kernel = rng.normal(size=(4, 4, 1, 3)).astype("float32")
    model = linear_model(kernel)
    x = random_images(50, (4, 4, 1))
    y = model.predict(x, verbose=0).argmax(-1)
    attack = kwp.attacks.PGD(eps=1.0, steps=50, targeted=True, seed=1)
    report = evaluate(model, (x, y), [attack])
    assert report.robust_accuracy == 0.0


def test_a_budget_beyond_the_pixels_meets_a_warning(model, data):
    with pytest.warns(UserWarning) as found:
        evaluate(model, data, [FGSM], eps=[0.1, 8])
    told = [str(w.message) for w in found if w.category is UserWarning]
    assert told == [
        "A budget in linf of 8 is larger than the range of the pixels, (0.0, "
        "1.0), so that any image is within it: is it in other units?"
    ]


def test_outputs_of_sigmoids_meet_a_warning(model, data):
    squashed = keras.Sequential([model, keras.layers.Activation("sigmoid")])
    with pytest.warns(UserWarning) as found:
        evaluate(squashed, data, [FGSM])
    told = [str(w.message) for w in found if w.category is UserWarning]
    assert told == [
        "All outputs of the model lie between 0 and 1: if they are those of a "
        "sigmoid, remove it, as attacks need logits."
    ]


BAD_DATA = {
    "one-hot labels": (
        lambda x, y: (x, np.eye(5)[y]),
        "Labels must be integers of the shape (60,). Received: shape (60, 5) "
        "(one-hot labels? take their argmax)",
    ),
    "label out of range": (
        lambda x, y: (x, y + 1),
        "Labels must lie in [0, 5), as the model has 5 classes. Received: "
        "labels from 1 to 5",
    ),
    "pixels up to 255": (
        lambda x, y: (np.float32(x > 0.5) * 255, y),
        "Images must lie within the bounds (0.0, 1.0). Received: values from "
        "0 to 255",
    ),
    "bytes": (
        lambda x, y: (np.uint8(x > 0.5) * np.uint8(255), y),
        "Images must be floating-point numbers within the bounds (0.0, 1.0). "
        "Received: dtype uint8 with values from 0 to 255",
    ),
    "nan": (
        lambda x, y: (np.where(x > 0.99, np.nan, x), y),
        "Images must be finite. Received: NaN or infinity in 16 of 60 images",
    ),
    "other shape": (
        lambda x, y: (np.repeat(x, 2, axis=1), y),
        "The model takes images of the shape (6, 6, 1). Received: images of "
        "the shape (12, 6, 1)",
    ),
    "one image": (
        lambda x, y: (x[0], y[0]),
        "`data` must be (x, y) arrays of many images and labels. Received: x "
        "of the shape (6, 6, 1) and y of the shape ()",
    ),
    "lengths": (
        lambda x, y: (x, y[:-1]),
        "`data` must have as many labels as images. Received: 60 images and "
        "59 labels",
    ),
    "generator": (
        lambda x, y: iter([(x, y)]),
        "`data` must be readable more than once, as each attack reads it. "
        "Received: a one-time list_iterator",
    ),
    "number": (
        lambda x, y: 3,
        "`data` must be (x, y) arrays or a dataset of (x, y) batches. "
        "Received: int",
    ),
    "images only": (
        lambda x, y: [x, x, x],
        "`data` must consist of (x, y) pairs. Received: an item of type "
        "ndarray",
    ),
    "nothing": (
        lambda x, y: Batches(x[:0], y[:0], 5),
        "`data` must hold at least one image. Received: none",
    ),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_gets_one_sentence(model, data, kind):
    spoil, message = BAD_DATA[kind]
    with pytest.raises(ValueError) as error:
        evaluate(model, spoil(*data), [FGSM])
    assert str(error.value) == message


BAD_ARGUMENTS = {
    "no attacks": (
        {"attacks": []},
        "`attacks` must name at least one. Received: none",
    ),
    "None for attacks": (
        {"attacks": None},
        "`attacks` must name at least one. Received: none",
    ),
    "not an attack": (
        {"attacks": [3]},
        "`attacks` must be attacks or names of attacks. Received: 3",
    ),
    "name without eps": (
        {"attacks": ["pgd20"]},
        "`eps` must be given for attacks by name, whose budgets depend on the "
        "data set. Received: eps=None for ['pgd20']",
    ),
    "eps": (
        {"eps": [0.1, -0.1]},
        "`eps` must consist of finite numbers greater than 0. Received: "
        "eps=[0.1, -0.1]",
    ),
    "eps as text": (
        {"eps": "8/255"},
        "`eps` must consist of finite numbers greater than 0. Received: "
        "eps='8/255'",
    ),
    "eps in a norm of no attack": (
        {"eps": {"linf": 0.1, "l2": 1}},
        "`eps` must hold budgets in the norms of the attacks only. Received: "
        "eps={'linf': 0.1, 'l2': 1}, and no attack in l2",
    ),
    "name without eps in its norm": (
        {"attacks": ["pgd20", "cw1000"], "eps": {"linf": 0.3}},
        "`eps` must hold a budget in the norm of each attack by name. "
        "Received: eps={'linf': 0.3} for 'cw1000', whose norm is 'l2'",
    ),
    "unknown norm": (
        {"eps": {"Linf": 0.3}},
        "Invalid value for argument `norm`. Expected one of ['l2', 'linf']. "
        "Received: norm='Linf'",
    ),
    "norms": (
        {"attacks": [FGSM, kwp.attacks.FGSM(eps=1, norm="l2")], "eps": 0.1},
        "`eps` must be a dictionary from norm to budget when the attacks use "
        "several norms. Received: eps=0.1 for the norms ['l2', 'linf']",
    ),
    "bounds": (
        {"attacks": [FGSM, kwp.attacks.FGSM(eps=1, bounds=(-1, 1))]},
        "The attacks must agree on `bounds`. Received: [(-1.0, 1.0), (0.0, "
        "1.0)]",
    ),
    "batch size": (
        {"batch_size": 0},
        "Argument `batch_size` must be an integer of at least 1. Received: "
        "batch_size=0",
    ),
}


@pytest.mark.parametrize("kind", BAD_ARGUMENTS)
def test_bad_argument_gets_one_sentence(model, data, kind):
    arguments, message = BAD_ARGUMENTS[kind]
    with pytest.raises(ValueError) as error:
        evaluate(model, data, **{"attacks": [FGSM], **arguments})
    assert str(error.value) == message


def test_probabilities_are_refused(model, data):
    def probabilities(x):
        return keras.ops.softmax(model(x, training=False))

    with pytest.raises(ValueError) as error:
        evaluate(probabilities, data, [FGSM])
    assert str(error.value) == (
        "The model must return logits, not probabilities: remove its final "
        "softmax. Received: outputs that are not negative and sum to 1"
    )


def test_too_few_classes_for_dlr(rng):
    model = linear_model(rng.normal(size=(4, 4, 1, 3)).astype("float32"))
    x = random_images(10, (4, 4, 1))
    attack = kwp.attacks.PGD(eps=0.1, steps=2, loss="dlr")
    with pytest.raises(ValueError) as error:
        evaluate(model, (x, np.zeros(10, int)), [attack])
    assert str(error.value) == (
        "PGD2-dlr needs a model of at least 4 classes. Received: 3"
    )


def test_nan_weights_are_refused(data):
    model = tiny_cnn()
    kernel = model.layers[-1].kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError) as error:
        evaluate(model, data, [FGSM])
    assert str(error.value) == (
        "The model's weights must be finite. Received: NaN or infinity in "
        f"{kernel.path!r}"
    )


@pytest.mark.parametrize("size", [60, 2, 1])
def test_training_mode_is_refused(size, data):
    model, data = tiny_cnn(), Batches(*data, size)
    training = functools.partial(model, training=True)
    with pytest.raises(ValueError, match="is it in training mode") as error:
        evaluate(training, data, [FGSM])
    assert "in a batch of" in str(error.value)


def test_randomized_model_is_warned_of(model, data):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("A jitted function of JAX draws the same numbers again.")
    import tensorflow as tf

    def randomized(x):
        return model(x, training=False) + tf.random.normal([5])

    with pytest.warns(UserWarning) as caught:
        evaluate(randomized, data, [FGSM])
    assert str(caught[0].message) == (
        "The model gives different logits for the same images: it is "
        "randomized, or in training mode. Gradients are means over several "
        "draws, and an image counts as fooled if most of 32 fresh draws are."
    )


def test_gradients_that_are_not_finite_are_warned_of(model, data):
    def sharp(x):
        logits = model(x, training=False)
        # Times one, but with an infinite derivative.
        zero = keras.ops.sum(x - keras.ops.stop_gradient(x), axis=(1, 2, 3))
        return logits * (1 + keras.ops.sqrt(keras.ops.abs(zero)))[:, None]

    with pytest.warns(UserWarning) as caught:
        report = evaluate(sharp, data, [FGSM])
    assert str(caught[0].message) == (
        "FGSM met gradients that are not finite on 45 of 45 images and took "
        "them for zero: its accuracy may be too high."
    )
    assert report.robust_accuracy == 0.75


def test_vanished_gradients_are_counted(model, data):
    def flat(x):
        return keras.ops.round(model(x, training=False) * 8)

    report = evaluate(flat, data, [FGSM])
    attacked = report["FGSM"].attacked.sum()
    assert report["FGSM"].vanished_gradients == 1.0
    assert (report["FGSM"].zero_gradients > 0).sum() == attacked


def test_augmented_data_is_refused(model, data):
    class Augmented(Batches):
        def __iter__(self):
            self.x = self.x * np.float32(0.999)
            yield from super().__iter__()

    with pytest.raises(ValueError, match="the same images each time") as error:
        evaluate(model, Augmented(*data, 20), [FGSM])
    assert str(error.value).endswith("take random augmentation out of it")


def test_nothing_is_printed(model, data, capfd):
    evaluate(model, data, [FGSM], progress=True)
    assert capfd.readouterr() == ("", "")
