"""Models that are randomized: expectation, majority, and what is told."""

import types

import keras
import numpy as np
import pytest
from helpers import plainly, random_images, randomize, tiny_cnn, to_numpy
from keras import layers, ops
from trials import clean

import keras_wp as kwp
from keras_wp.attacks import APGD, PGD, AutoAttack
from keras_wp.audit import model_checks
from keras_wp.engine.judge import FRESH_DRAWS, Judge
from keras_wp.inspection.classifier import Classifier

pytestmark = pytest.mark.once


class Noise(layers.Layer):
    """Noise in inference, which may begin where pixels leave a range."""

    def __init__(self, deviation, beyond=None):
        super().__init__()
        self.deviation, self.beyond = deviation, beyond
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        shape = ops.shape(inputs)
        noise = keras.random.normal(shape, seed=self.generator)
        if self.beyond is not None:
            axes = tuple(range(1, len(inputs.shape)))
            size = ops.mean(ops.abs(inputs - 0.5), axis=axes, keepdims=True)
            noise = noise * ops.cast(size > self.beyond, noise.dtype)
        return inputs + self.deviation * noise


def noisy(deviation, beyond=None):
    """A network behind noise, and the network."""
    inner = tiny_cnn()
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), Noise(deviation, beyond), inner]
    )
    return model, inner


def labelled(model, count=30):
    x = random_images(count)
    return x, to_numpy(model(x)).argmax(-1)


def majority(model, x, y, draws=200):
    wrong = [to_numpy(model(x)).argmax(-1) != y for _ in range(draws)]
    return np.mean(wrong, axis=0)


def test_a_majority_of_fresh_draws_decides():
    model, inner = noisy(0.25)
    x, y = labelled(inner)
    with pytest.warns(UserWarning, match="randomized"):
        report = plainly(model, (x, y), [PGD(eps=0.05, steps=10)])
    share = majority(model, x, y)
    clear = np.abs(share - 0.5) > 0.3
    np.testing.assert_array_equal(
        report.clean_correct[clear], (share < 0.5)[clear]
    )


def test_what_one_lucky_draw_found_is_not_fooled(tmp_path):
    model, inner = noisy(0.3)
    x, y = labelled(inner)
    path = tmp_path / "x.npz"
    with pytest.warns(UserWarning, match="randomized"):
        report = plainly(
            model, (x, y), [PGD(eps=0.02, steps=20)], save_adversarial=path
        )
    with np.load(path) as archive:
        share = majority(model, archive["x_adv_0"], y)
    clear = report.clean_correct & (np.abs(share - 0.5) > 0.3)
    np.testing.assert_array_equal(report.robust()[clear], (share < 0.5)[clear])


def test_randomness_away_from_the_images_is_seen():
    model, inner = noisy(0.5, beyond=0.125)
    x, y = labelled(inner)
    x = (0.5 + 0.4 * (x - 0.5)).astype(np.float32)
    y = to_numpy(inner(x)).argmax(-1)
    np.testing.assert_array_equal(to_numpy(model(x)), to_numpy(model(x)))
    with pytest.warns(UserWarning, match="randomized"):
        found = clean(model, x, y)
    assert found.draws >= 4
    (finding,) = model_checks.randomized(
        types.SimpleNamespace(clean=found, shares=np.zeros(len(found.labels)))
    )
    assert finding.check == "randomized"
    assert finding.evidence["draws"] == found.draws


def test_draws_differ_from_call_to_call_and_with_the_copy():
    model, _ = noisy(0.3)
    x = random_images(1)
    classifier = Classifier(model)
    program = classifier.compile(("test",), lambda: classifier)
    first, second = (to_numpy(program(ops.convert_to_tensor(x))) for _ in "ab")
    assert np.abs(first - second).max() > 1e-3
    copies = to_numpy(program(ops.convert_to_tensor(np.repeat(x, 2, axis=0))))
    assert np.abs(copies[0] - copies[1]).max() > 1e-3


def test_a_judge_asks_again_where_the_answer_is_another_one():
    answers = iter([0, 1, 0, 0, 1] * 20)

    def program(batch):
        del program_calls[:0]
        logits = np.zeros((len(to_numpy(batch)), 2), np.float32)
        logits[:, next(answers)] = 1.0
        program_calls.append(1)
        return ops.convert_to_tensor(logits)

    program_calls = []
    program.devices = (None,)
    judge = Judge(None)
    x, labels = random_images(3), np.zeros(3, int)
    claimed = np.tile([[1.0, 0.0]], (3, 1)).astype(np.float32)
    share, _ = judge.wrong(program, x, labels, 3, claimed=claimed)
    np.testing.assert_array_equal(share, 0.0)  # As claimed, asked once.
    assert len(program_calls) == 1
    share, _ = judge.wrong(program, x, labels, 3, claimed=2 * claimed)
    assert len(program_calls) == 2 + FRESH_DRAWS
    wrong = [[0, 1, 0, 0, 1][(2 + i) % 5] for i in range(FRESH_DRAWS)]
    np.testing.assert_allclose(share, np.mean(wrong))


def test_noise_sees_past_a_plateau():
    def steep(x):
        return ops.clip(30.0 * (x - 0.5) + 0.5, 0.0, 1.0)

    model = randomize(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                layers.Lambda(steep),
                layers.Flatten(),
                layers.Dense(5),
            ]
        )
    )
    x = random_images(30)
    x = np.where(np.abs(x - 0.5) < 0.05, 0.6, x).astype(np.float32)
    y = to_numpy(model(x)).argmax(-1)
    blind = PGD(eps=0.3, steps=10, loss="margin")
    sighted = APGD(
        eps=0.3,
        steps=10,
        loss="margin",
        surrogate=kwp.Surrogate(noise=1.0),
    )
    report = plainly(model, (x, y), [blind, sighted])
    assert report.results[1].robust_accuracy < (
        report.results[0].robust_accuracy - 0.2
    )
    again = plainly(model, (x, y), [sighted], batch_size=4)
    np.testing.assert_array_equal(
        again.results[0].robust, report.results[1].robust
    )


def test_the_version_of_autoattack_for_randomized_models():
    attack = AutoAttack(eps=0.1, version="rand")
    assert [part.loss for part in attack.parts] == ["cross_entropy", "dlr"]
    assert {part.surrogate.copies for part in attack.parts} == {20}
    assert all(part.targets is None for part in attack.parts)
    assert attack.label == "AutoAttack-rand"
    with pytest.raises(ValueError) as error:
        AutoAttack(eps=0.1, version="fast")
    assert str(error.value) == (
        "Invalid value for argument `version`. Expected one of ['rand', "
        "'standard']. Received: version='fast'"
    )
