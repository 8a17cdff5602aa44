"""The same images in many forms, and what is refused before any work."""

import keras
import numpy as np
import pytest
from helpers import message_of, plainly, random_images, tiny_cnn, to_numpy
from processes import SUPPORT, run_python

import keras_wp as kwp
from keras_wp.attacks import PGD, AutoAttack, MultiTarget, Square

ATTACK = PGD(eps=0.03, steps=4)


@pytest.fixture(scope="module")
def model():
    return tiny_cnn()


@pytest.fixture(scope="module")
def pairs(model):
    x = random_images(20)
    y = to_numpy(model(x)).argmax(-1)
    y[::5] = (y[::5] + 1) % 5
    return x, y


@pytest.fixture(scope="module")
def expected(model, pairs):
    report = plainly(model, pairs, ATTACK)
    assert 0 < report.robust_accuracy < report.clean_accuracy
    return report


class Items:
    """Items that can be read more than once."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return self.x[5 * i : 5 * i + 5], self.y[5 * i : 5 * i + 5]


def one_hot(y):
    return np.eye(5, dtype=np.float32)[y]


FORMS = {
    "column": lambda x, y: (x, y[:, None]),
    "one-hot": lambda x, y: (x, one_hot(y)),
    "one-hot integers": lambda x, y: (x, one_hot(y).astype(int)),
    "floats": lambda x, y: (x.astype(np.float64), y.astype(np.float32)),
    "list": lambda x, y: [x, y],
    "no channel": lambda x, y: (x[..., 0], y),
    "dictionary": lambda x, y: {"image": x, "label": y, "id": y},
    "two batches": lambda x, y: [(x[:9], y[:9]), (x[9:], y[9:])],
    "two lists": lambda x, y: [[x[:9], y[:9]], [x[9:], y[9:]]],
    "three batches": lambda x, y: [(x[i::3], y[i::3]) for i in range(3)],
    "dictionaries": lambda x, y: Items(
        [{"image": x[:9], "label": y[:9]}, {"image": x[9:], "label": y[9:]}]
    ),
    "dictionaries of images": lambda x, y: Items(
        [({"pixels": x[:9]}, {"class": y[:9]}), ({"x": x[9:]}, y[9:])]
    ),
    "weights": lambda x, y: Items([(x, y, np.ones(20))]),
    "single": lambda x, y: Items(list(zip(x, y, strict=True))),
    "single one-hot": lambda x, y: Items(list(zip(x, one_hot(y), strict=True))),
    "PyDataset": Sequence,
    "PyDataset of one-hot": lambda x, y: Sequence(x, one_hot(y)),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_data_changes_no_verdict(model, pairs, expected, form):
    report = plainly(model, FORMS[form](*pairs), ATTACK)
    order = {name: i for i, name in enumerate(report.identities)}
    places = [order[name] for name in expected.identities]
    np.testing.assert_array_equal(report.robust()[places], expected.robust())


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="datasets of TensorFlow"
)
def test_datasets_of_tensorflow(model, pairs, expected):
    import tensorflow as tf

    x, y = pairs
    single = tf.data.Dataset.from_tensor_slices((x, one_hot(y)))
    named = tf.data.Dataset.from_tensor_slices({"image": x, "label": y})
    for data in (single, single.batch(6), named.batch(6), named):
        report = plainly(model, data, ATTACK)
        np.testing.assert_array_equal(report.robust(), expected.robust())
    assert message_of(plainly, model, single.batch(6).repeat(), ATTACK) == (
        "`data` must end: take the `repeat()` out of it, or use `take`. "
        "Received: an endless dataset"
    )


def test_as_many_rows_as_classes_are_still_one_image(model):
    """A single image of five rows, and a one-hot label of five classes."""
    small = tiny_cnn((5, 5, 1))
    x = random_images(6, (5, 5, 1))
    y = to_numpy(small(x)).argmax(-1)
    single = Items(list(zip(x, one_hot(y), strict=True)))
    report = plainly(small, single, ATTACK)
    assert len(report) == 6
    assert report.clean_accuracy == 1.0


@pytest.mark.parametrize("eps", [True, [0.1, False], np.array([True])])
def test_a_truth_value_is_no_budget(model, pairs, eps):
    assert "`eps` must consist of finite numbers greater than 0" in (
        message_of(plainly, model, pairs, "fgsm", eps=eps)
    )


@pytest.mark.parametrize(
    "attack, eps",
    [
        (PGD(eps=8 / 255, steps=2, bounds=(0, 255)), "0.03137 in linf"),
        (PGD(eps=0.5, steps=2, bounds=(0, 255), norm="l2"), "0.5 in l2"),
        (Square(eps=8 / 255, bounds=(0, 255)), "0.03137 in linf"),
    ],
)
def test_budgets_in_other_units_than_the_pixels_are_refused(
    model, pairs, attack, eps
):
    data = (pairs[0] * 255, pairs[1])
    told = message_of(plainly, model, data, attack)
    assert told.startswith("`eps` must be in the units of `bounds`.")
    assert f"eps={eps} for pixels in (0.0, 255.0)" in told


def test_a_tiny_or_huge_share_of_the_range_meets_a_warning(model, pairs):
    for eps, words in ((5e-4, "less than a thousandth"), (0.7, "half of")):
        with pytest.warns(UserWarning, match=words):
            plainly(model, pairs, PGD(eps=eps, steps=1))


def test_a_suite_that_does_not_fit_the_images_is_refused_before_it_runs():
    shape = (4, 3, 3, 1)
    x = keras.Input(shape)
    model = keras.Model(x, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    data = (random_images(6, shape), np.zeros(6, int))
    attack = AutoAttack(eps=0.1, steps=2, queries=2)
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "keras_wp.evaluation.jobs.Job.run",
            lambda *args: started.append(args),
        )
        told = message_of(plainly, model, data, attack)
    assert told.startswith("Square needs images of the shape")
    assert not started
    assert message_of(attack, model, *data) == told


def test_features_and_surrogates_are_looked_for_before_any_attack(pairs):
    def closed(x):
        return keras.ops.sum(x, axis=(1, 2)) * np.ones(5, np.float32)

    first = PGD(eps=0.1, steps=1)
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "keras_wp.evaluation.jobs.Job.run",
            lambda *args: started.append(args),
        )
        for attack in (
            MultiTarget(eps=0.1, steps=1),
            PGD(eps=0.1, steps=1, surrogate=kwp.Surrogate(activation="linear")),
        ):
            with pytest.raises(ValueError, match="must"):
                plainly(closed, pairs, [first, attack])
    assert not started


@pytest.mark.once
def test_adaptive_attacks_and_an_audit_are_the_default(model, pairs):
    report = kwp.evaluate(model, pairs, ATTACK)
    assert [r.name for r in report.results] == ["PGD4", "adaptive"]
    assert [f.check for f in report.findings][-1] == "extent"
    assert report.environment["adaptive"] is True
    # Without a budget there is nothing that they could try.
    report = kwp.evaluate(model, pairs, kwp.attacks.DeepFool(steps=2))
    assert [r.name for r in report.results] == ["DeepFool2"]
    assert "at most" in str(report)


CHECKED = """
import sys
import numpy as np, tensorflow as tf
sys.path.insert(0, sys.argv[1])
from helpers import plainly, random_images, tiny_cnn
import keras_wp as kwp
tf.debugging.enable_check_numerics()
x = random_images(4)
try:
    plainly(tiny_cnn(), (x, np.arange(4)), kwp.attacks.APGD(eps=0.1, steps=2))
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a switch of TensorFlow"
)
def test_checked_numerics_are_named(tmp_path):
    script = tmp_path / "checked.py"
    script.write_text(CHECKED)
    done = run_python(script, str(SUPPORT))
    assert "tf.debugging.disable_check_numerics()" in done.stdout


def test_steps_that_cannot_cross_the_ball_are_a_finding(model, pairs):
    short = PGD(eps=0.3, steps=20, step_size=0.0031)
    report = plainly(model, pairs, [short, PGD(eps=0.3, steps=20)])
    found = [f for f in report.findings if f.check == "short_steps"]
    assert [f.evidence["attack"] for f in found] == [short.label]
    assert found[0].evidence["reach"] == pytest.approx(0.062)


def test_a_model_no_better_than_chance_is_no_sound_number(model, pairs):
    x, y = random_images(200), np.arange(200) % 5
    found = plainly(model, (x, y), ATTACK).findings
    assert [f.check for f in found] == ["chance"]
    assert plainly(model, pairs, ATTACK).findings == ()


def test_a_model_for_bytes_is_doubted_on_pixels_up_to_1(model, pairs):
    x = keras.Input((6, 6, 1))
    scaled = keras.Model(x, model(keras.layers.Rescaling(1 / 255)(x)))
    y = to_numpy(scaled(pairs[0])).argmax(-1)
    found = plainly(scaled, (pairs[0], y), ATTACK).findings
    assert [f.check for f in found] == ["pixels"]
    inputs = kwp.Inputs(bounds=(0, 1))
    found = plainly(scaled, (pairs[0], y), ATTACK, inputs=inputs).findings
    assert found == ()
