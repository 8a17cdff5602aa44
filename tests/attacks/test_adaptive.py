"""Adaptive attacks: chosen by the model, on survivors, in the worst case."""

import keras
import numpy as np
import pytest
from helpers import linear_model, plainly, random_images, randomize, tiny_cnn

import keras_wp as kwp
from keras_wp.attacks import adaptive
from keras_wp.inspection.classifier import Classifier

pytestmark = pytest.mark.once


PGD = kwp.attacks.PGD(eps=0.2, steps=5)


def saturated(activation="tanh", factor=1e3):
    return randomize(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(8),
                keras.layers.Rescaling(factor),
                keras.layers.Activation(activation),
                keras.layers.Dense(5),
            ]
        )
    )


def labelled(model, count=40):
    x = random_images(count)
    return x, np.asarray(model(x)).argmax(-1)


@pytest.fixture
def few(monkeypatch):
    """Fewer attacks to compile; all are named in other tests."""
    monkeypatch.setattr(adaptive, "OF_LAST", adaptive.OF_LAST[:1])
    monkeypatch.setattr(adaptive, "NOISES", (0.5,))
    monkeypatch.setattr(adaptive, "STEPS", 10)
    monkeypatch.setattr(adaptive, "NOISY_STEPS", 5)
    monkeypatch.setattr(adaptive, "QUERIES", 30)


def opened(model):
    return Classifier(model).open(random_images(8))


def fitting(model):
    return adaptive.fitting(opened(model))


def test_the_fitting_surrogates_are_found_for_heads_that_saturate():
    assert fitting(saturated()) == adaptive.OF_LAST
    assert fitting(saturated("sigmoid")) == adaptive.OF_LAST
    assert fitting(saturated("relu")) == ()
    kernel = np.ones((6, 6, 1, 3), np.float32)
    assert fitting(linear_model(kernel)) == ()
    assert fitting(lambda x: x) == ()


def test_a_head_that_passes_gradients_on_is_told_of_and_left():
    model = saturated(factor=0.1)
    assert fitting(model) == ()
    assert "not tried, as gradients pass through: tanh" in adaptive.told(
        opened(model), ()
    )


def test_masks_before_the_last_one_are_tried_all_at_once():
    model = randomize(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                keras.layers.Rescaling(1e3),
                keras.layers.Activation("sigmoid"),
                keras.layers.Flatten(),
                keras.layers.Dense(8),
                keras.layers.Rescaling(1e3),
                keras.layers.Activation("tanh"),
                keras.layers.Dense(5),
            ]
        )
    )
    assert fitting(model) == (*adaptive.OF_EVERY, *adaptive.OF_LAST)
    first_only = keras.Sequential([*model.layers[:4], keras.layers.Dense(5)])
    first_only.build((None, 6, 6, 1))
    assert fitting(randomize(first_only)) == adaptive.OF_LAST


def test_a_call_of_its_own_is_opened_and_what_cannot_be_is_told():
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            if refuses and isinstance(inputs, keras.KerasTensor):
                raise TypeError("no symbols, please")
            return 2 * whole(inputs, training=training)

    whole, x = saturated(), random_images(2)
    model, refuses = Doubled(whole.inputs, whole.outputs), False
    np.testing.assert_allclose(model(x), 2 * np.asarray(whole(x)), rtol=1e-5)
    assert fitting(model) == adaptive.OF_LAST
    refuses = True
    assert fitting(model) == ()
    assert adaptive.told(opened(model), ()).endswith("no symbols, please")


@pytest.mark.usefixtures("few")
@pytest.mark.once
def test_survivors_of_what_was_asked_fall_at_each_budget():
    model = saturated()
    data, eps = labelled(model), [0.05, 0.2]
    asked = plainly(model, data, [PGD], eps=eps)
    report = plainly(model, data, [PGD], eps=eps, adaptive=True)
    for budget in eps:
        survivors = asked.robust("linf", budget)
        result = report["adaptive", budget]
        np.testing.assert_array_equal(result.attacked, survivors)
        assert not result.steps[~survivors].any()
        assert report.curve()[budget] <= result.robust_accuracy
    np.testing.assert_array_equal(report.robust(), result.robust)
    assert report.robust_accuracy < asked.robust_accuracy - 0.2


def test_the_users_surrogates_come_first():
    transfer = kwp.Surrogate(model=tiny_cnn())
    own = adaptive.asked(transfer)
    attack = adaptive.attack((*own, *adaptive.OF_LAST), "l2", 0.5, (0.0, 1.0))
    used = [(m.surrogate, m.loss, m.targets) for m in attack.members[:-2]]
    assert used == [
        (transfer, "margin", None),
        *[(surrogate, "margin", None) for surrogate in adaptive.OF_LAST],
        (None, "margin", None),
        (adaptive.STANDARDIZE, "cross_entropy", None),
        (adaptive.OF_LAST[0], "margin", adaptive.TARGETS),
        *[
            (kwp.Surrogate(noise=noise), "margin", None)
            for noise in adaptive.NOISES
        ],
    ]
    kinds = [type(member).__name__ for member in attack.members[-2:]]
    assert kinds == ["FollowingAPGD", "Square"]
    assert (attack.norm, attack.eps, attack.label) == ("l2", 0.5, "adaptive")
    assert adaptive.asked([transfer]) == own
    assert adaptive.asked(True) == adaptive.asked(False) == ()


def test_without_a_head_the_model_s_own_gradient_is_followed():
    attack = adaptive.attack((), "linf", 0.1, (0.0, 1.0))
    used = [member.surrogate for member in attack.members]
    assert used[:3] == [None, adaptive.STANDARDIZE, None]


def test_what_cannot_be_opened_is_attacked_for_longer():
    parts = [
        adaptive.attack((), "linf", 0.1, (0.0, 1.0), closed=closed).parts[:3]
        for closed in (False, True)
    ]
    efforts = [[(p.steps, p.restarts) for p in some] for some in parts]
    assert efforts == [[(40, 1)] * 3, [(100, 3), (100, 3), (40, 1)]]


@pytest.mark.usefixtures("few")
def test_it_resumes_with_the_same_numbers(tmp_path):
    model = saturated()
    data = labelled(model)
    options = {"adaptive": True, "resume_dir": tmp_path}
    first = plainly(model, data, [PGD], **options)
    for path in tmp_path.glob("adaptive*.jsonl"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    again = plainly(model, data, [PGD], **options)
    np.testing.assert_array_equal(
        first["adaptive"].robust, again["adaptive"].robust
    )
    np.testing.assert_array_equal(
        first["adaptive"].steps, again["adaptive"].steps
    )


def test_what_is_no_surrogate_is_refused():
    with pytest.raises(ValueError) as error:
        plainly(
            tiny_cnn(), (random_images(2), [0, 1]), [PGD], adaptive="linear"
        )
    assert str(error.value) == (
        "Argument `adaptive` must be True, False, a `keras_wp.Surrogate`, or "
        "a list of them. Received: adaptive='linear'"
    )
