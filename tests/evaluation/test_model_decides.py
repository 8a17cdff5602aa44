"""The model itself decides what is fooled, called on what is handed out."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from helpers import plainly, random_images, randomize, to_numpy
from keras import layers, ops

import keras_wp as kwp
from keras_wp.attacks import FGSM, PGD, MultiTarget

pytestmark = pytest.mark.once

IMAGE = (6, 6, 1)


def trunk(inputs, units=12):
    return layers.Dense(units, activation="tanh")(layers.Flatten()(inputs))


def reversed_classes():
    inputs = keras.Input(IMAGE)
    return keras.Model(inputs, layers.Dense(5)(trunk(inputs))[:, ::-1])


def two_heads():
    inputs = keras.Input(IMAGE)
    logits = layers.Dense(5)(trunk(inputs)) + layers.Dense(5)(trunk(inputs))
    return keras.Model(inputs, logits)


class OneMinus(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return super().call(1.0 - inputs)


def one_minus():
    inputs = keras.Input(IMAGE)
    return OneMinus(inputs, layers.Dense(5)(trunk(inputs)))


def reused_head():
    head = layers.Dense(5)
    for _ in range(2):
        inputs = keras.Input(IMAGE)
        model = keras.Model(inputs, head(trunk(inputs)))
    return model


BUILDS = {
    "reversed classes": reversed_classes,
    "two heads": two_heads,
    "call of its own": one_minus,
    "reused head": reused_head,
}


def labelled(model, count=40):
    x = random_images(count)
    return x, to_numpy(model(x, training=False)).argmax(-1)


def saved(path):
    with np.load(path) as archive:
        names = json.loads(str(archive["attacks"]))
        return {k: archive[k] for k in archive.files if k != "attacks"}, names


@pytest.mark.parametrize("options", [{}, {"published_sign": True}])
@pytest.mark.parametrize("kind", BUILDS)
def test_what_counts_as_fooled_fools_the_model(kind, options, tmp_path):
    model = randomize(BUILDS[kind]())
    x, y = labelled(model)
    path = tmp_path / "x.npz"
    attack = MultiTarget(eps=0.15, steps=10, **options)
    report = plainly(model, (x, y), [attack], save_adversarial=path)
    found, _ = saved(path)
    right = to_numpy(model(found["x_adv_0"], training=False)).argmax(-1) == y
    np.testing.assert_array_equal(report.robust(), right)
    assert not report.results[0].denied.any()
    if not options:
        assert report.robust_accuracy < 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Liar(PGD):
    """Says of every second image that it is fooled at once."""

    def step(self, problem, state):
        state, (x, logits) = super().step(problem, state)
        lie = ops.roll(logits, 1, axis=-1)
        odd = problem.keys[:, :1] % 2 == 0
        return state, (x, ops.where(odd, lie, logits))


LIAR = Liar(eps=1e-3, steps=2)


def test_what_is_claimed_and_not_so_does_not_count_and_is_told():
    model = randomize(reversed_classes())
    x, y = labelled(model)
    report = plainly(model, (x, y), [LIAR, PGD(eps=1e-3, steps=2)])
    lied, honest = report.results
    np.testing.assert_array_equal(lied.robust, honest.robust)
    assert 5 < lied.denied.sum() < 35
    assert not honest.denied.any()
    (finding,) = report.findings
    assert (finding.check, finding.severity) == ("denied_success", "high")
    assert finding.evidence["denied"] == lied.denied.sum()
    assert finding.message.startswith(lied.name)
    again = kwp.evaluation.Report.from_json
    assert again is not None


def test_an_image_that_is_not_fooled_goes_on_to_the_next_attack(tmp_path):
    model = randomize(reversed_classes())
    x, y = labelled(model)
    honest = PGD(eps=0.15, steps=10)
    liar = dataclasses.replace(LIAR, eps=0.15)
    turn = kwp.attacks.InTurn(members=[liar, honest])
    for options in ({}, {"resume_dir": tmp_path}, {"resume_dir": tmp_path}):
        both = plainly(model, (x, y), [turn], **options)
        alone = plainly(model, (x, y), [honest])
        assert both.results[0].denied.sum() == 0  # The next one fooled them.
        assert (both.robust() <= alone.robust()).all()
    x_adv = turn(model, x, y)
    right = to_numpy(model(x_adv)).argmax(-1) == y
    np.testing.assert_array_equal(right, both.robust())


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_images_of_another_type_are_judged_as_they_are_handed_out(dtype):
    model = randomize(two_heads())
    x, y = labelled(model)
    x = x.astype(dtype)
    y = to_numpy(model(x.astype("float32"))).argmax(-1)
    first = PGD(eps=0.01, steps=5)
    turn = kwp.attacks.InTurn(members=[first, PGD(eps=0.01, steps=40)])
    x_adv = turn(model, x, y)
    assert x_adv.dtype == x.dtype
    fooled = to_numpy(model(x_adv.astype("float32"))).argmax(-1) != y
    once = first(model, x, y)
    early = to_numpy(model(once.astype("float32"))).argmax(-1) != y
    assert (fooled >= early).all()


def test_ties_go_to_the_first_class_whatever_the_sign_of_a_zero():
    def tied(x):
        flat = ops.reshape(x, (-1, 36))
        zeros = ops.zeros_like(flat[:, :1])
        # Equal for each image: 0.0, -0.0, -0.0, and something lower.
        return ops.concatenate(
            [-1.0 * zeros, zeros, zeros, flat[:, :1] - 2.0], axis=-1
        )

    x = random_images(8)
    y = np.zeros(8, int)
    logits = to_numpy(tied(ops.convert_to_tensor(x)))
    assert np.signbit(logits[:, 0]).all() and not logits[:, :3].any()
    report = plainly(tied, (x, y), [FGSM(eps=0.1), PGD(eps=0.1, steps=3)])
    assert report.clean_accuracy == report.robust_accuracy == 1.0
    np.testing.assert_array_equal(FGSM(eps=0.1)(tied, x, y).shape, x.shape)
    assert not any(result.denied.any() for result in report.results)
