"""Adversarial examples that are there by construction, and who finds them."""

import dataclasses

import keras
import numpy as np
import pytest
from helpers import random_images, randomize, tiny_cnn, to_numpy
from keras import layers, ops
from trials import trial_of

import keras_wp as kwp
from keras_wp.attacks import adaptive
from keras_wp.audit import planted
from keras_wp.audit.planted import plant
from keras_wp.inspection.classifier import Classifier

BOUNDS = (0.0, 1.0)
PGD = kwp.attacks.PGD(eps=0.1, steps=20)


def opened(model, x):
    classifier = Classifier(model)
    classifier.open(x)
    return classifier


def masked(factor=1e4):
    """A saturated tanh in the middle, which a gradient does not pass."""
    return randomize(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                layers.Flatten(),
                layers.Dense(40),
                layers.Rescaling(factor),
                layers.Activation("tanh"),
                layers.Dense(16, activation="relu"),
                layers.Dense(5),
            ]
        )
    )


@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.5)])
def test_the_planted_points_are_adversarial_and_within_the_budget(norm, eps):
    x = random_images(12)
    inner = tiny_cnn()
    plants = plant(opened(inner, x), x, (norm, eps, BOUNDS), 64)
    assert plants.of_features and 10 <= len(plants.images) <= 12
    for image, point in zip(plants.images, plants.points, strict=True):
        model = plants.readouts.given(tuple(e[None] for e in image.extra))
        clean, there = (
            to_numpy(model(ops.convert_to_tensor(v[None])))[0]
            for v in (image.x, point)
        )
        assert clean.argmax() == 0 and there.argmax() == 1
        assert clean[1] == pytest.approx(-1.0, abs=1e-3)
        delta = (point - image.x).ravel()
        length = (
            np.abs(delta).max() if norm == "linf" else np.linalg.norm(delta)
        )
        assert length <= eps + 1e-6
        assert point.min() >= 0.0 and point.max() <= 1.0


def test_random_search_finds_few_and_gradients_find_all():
    x = random_images(16)
    model = tiny_cnn()
    plants = plant(opened(model, x), x, ("linf", 0.1, BOUNDS), 64)
    rng, found = np.random.default_rng(7), 0
    for image in plants.images:
        points = image.x + 0.1 * rng.choice([-1.0, 1.0], (200, 6, 6, 1))
        extra = tuple(np.repeat(e[None], 200, axis=0) for e in image.extra)
        points = points.clip(*BOUNDS).astype(np.float32)
        logits = plants.readouts.given(extra)(ops.convert_to_tensor(points))
        found += bool((to_numpy(logits).argmax(-1) == 1).any())
    assert found <= 6
    assert plants.found_by(PGD, 64) == len(plants.images) >= 14


@pytest.mark.once
def test_blind_attacks_find_few_and_sighted_ones_find_them():
    x, model = random_images(24), masked()
    classifier = opened(model, x)
    plants = plant(classifier, x, ("linf", 0.1, BOUNDS), 64)
    count = len(plants.images)
    assert count >= 10
    assert plants.found_by(PGD, 64) < count / 2
    surrogates = adaptive.fitting(classifier.opened)
    sighted = adaptive.attack(surrogates, "linf", 0.1, BOUNDS)
    assert plants.found_by(sighted, 64) >= planted.ENOUGH * count


def test_read_outs_sit_on_the_logits_of_what_cannot_be_opened():
    class Closed(layers.Layer):
        def call(self, inputs):
            if isinstance(inputs, keras.KerasTensor):
                raise TypeError("no symbols, please")
            return ops.square(inputs)

        def compute_output_shape(self, shape):
            return shape

    model = keras.Sequential([tiny_cnn(num_classes=9), Closed()])
    x = random_images(8)
    plants = plant(opened(model, x), x, ("linf", 0.1, BOUNDS), 64)
    assert not plants.of_features
    assert len(plants.images) > 0
    assert plants.found_by(PGD, 64) > len(plants.images) / 2


def test_where_nothing_moves_nothing_is_planted():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Flatten(),
            layers.Dense(8, kernel_initializer="zeros", activation="tanh"),
            layers.Dense(5),
        ]
    )
    x = random_images(8)
    plants = plant(opened(model, x), x, ("linf", 0.1, BOUNDS), 64)
    assert plants.images == ()


@pytest.mark.once
def test_the_report_says_how_many_were_found_and_by_what():
    trial = trial_of(masked(), random_images(32), 0.1, attacks=[PGD])
    (finding,) = planted.planted(trial)
    assert finding.check == "planted"
    assert finding.severity == "high"
    assert "PGD20" in finding.message and "%" in finding.message
    count = finding.evidence["planted"]
    assert finding.evidence["found"]["PGD20"] < planted.ENOUGH * count
    mta = kwp.attacks.MultiTarget(eps=0.1, steps=3)
    assert planted._applies(PGD) and not planted._applies(mta)
    assert not planted._applies(dataclasses.replace(PGD, surrogate=OTHER))


OTHER = kwp.Surrogate(model=tiny_cnn())
