"""Two and three classes: every attack, and AutoAttack against closed forms."""

import keras
import numpy as np
import pytest
from helpers import linear_model, plainly, random_images, tiny_cnn, to_numpy
from keras import layers

import keras_wp as kwp
from keras_wp.attacks import APGD, FAB, PGD, AutoAttack, MultiTarget, Square

SHAPE = (5, 5, 1)
EPS = 0.05


def one_output(rng, activation):
    """A linear model with one output, its weights and its offset."""
    weights = rng.normal(size=25).astype(np.float32)
    offset = np.float32(-weights.sum() / 2)
    x = keras.Input(SHAPE)
    last = layers.Dense(1, activation=activation)
    model = keras.Model(x, last(layers.Flatten()(x)))
    last.set_weights([weights[:, None], np.array([offset])])
    return model, weights.astype(np.float64), float(offset)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_output_is_two_classes_as_the_closed_form_has_it(
    rng, activation, norm
):
    model, weights, offset = one_output(rng, activation)
    # Far from the bounds, within which the closed form holds.
    x = random_images(60, SHAPE, low=0.3, high=0.7)
    z = x.reshape(60, -1).astype(np.float64) @ weights + offset
    y = (z > 0).astype(int)
    eps = {"linf": 0.02, "l2": 0.1}[norm]
    order = 1 if norm == "linf" else 2
    reach = eps * np.linalg.norm(weights, order)
    robust = np.abs(z) > reach
    assert 5 < robust.sum() < 55
    assert np.abs(np.abs(z) - reach).min() > 1e-4
    attack = PGD(eps=eps, steps=10, norm=norm)
    report = plainly(model, (x, y[:, None]), [attack])
    assert report.clean_accuracy == 1.0
    np.testing.assert_array_equal(report.robust(), robust)
    suite = AutoAttack(eps=eps, norm=norm, steps=10, queries=10)
    report = plainly(model, (x, y), [suite])
    np.testing.assert_array_equal(report.robust(), robust)
    assert (
        "margins in the place of the DLR loss"
        in (report.environment["assumed"])
    )


@pytest.mark.once
@pytest.mark.parametrize("classes", [2, 3])
def test_autoattack_leaves_what_all_targets_with_restarts_leave(classes):
    model = tiny_cnn(SHAPE, num_classes=classes, seed=3)
    x = random_images(40, SHAPE)
    y = to_numpy(model(x)).argmax(-1)
    suite = AutoAttack(eps=EPS, steps=40, queries=100)
    thorough = APGD(
        eps=EPS, steps=60, loss="margin", targets=classes - 1, restarts=5
    )
    report = plainly(model, (x, y), [suite, thorough])
    found, wanted = (result.robust for result in report.results)
    assert 0 < wanted.sum() < 40
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "attack",
    [
        PGD(eps=EPS, steps=3, loss="dlr"),
        PGD(eps=EPS, steps=3, loss="dlr", targeted=True),
        APGD(eps=EPS, steps=3, loss="dlr"),
        APGD(eps=EPS, steps=3, loss="dlr", targets=9),
        FAB(steps=3),
        FAB(steps=3, targets=9),
        Square(eps=EPS, steps=5),
        MultiTarget(eps=EPS, steps=3),
        MultiTarget(eps=EPS, steps=3, loss="margin"),
        kwp.attacks.DeepFool(steps=3),
        kwp.attacks.CarliniWagner(steps=5),
    ],
    ids=lambda attack: attack.label,
)
def test_every_attack_runs_on_two_classes(attack):
    model = tiny_cnn(SHAPE, num_classes=2, seed=3)
    x = random_images(8, SHAPE)
    y = to_numpy(model(x)).argmax(-1)
    aim = 1 - y if getattr(attack, "targeted", False) else y
    x_adv = attack(model, x, aim)
    assert x_adv.shape == x.shape
    assert np.isfinite(x_adv).all()
    if attack.minimum_norm:
        assert (to_numpy(model(x_adv)).argmax(-1) != y).mean() > 0.5


@pytest.mark.once
def test_features_without_bounds_have_a_scale(rng):
    """A table: the closed form of a linear model, in units of the scale."""
    scale = np.array([1.0, 100.0, 0.01, 5.0])
    weights = rng.normal(size=(4, 3)) / scale[:, None]
    model = linear_model(weights.astype(np.float32))
    x = (rng.normal(size=(50, 4)) * scale).astype(np.float32)
    z = x.astype(np.float64) @ weights
    y = z.argmax(-1)
    rows = np.arange(50)
    eps = 0.1
    robust = np.ones(50, bool)
    for other in range(3):
        gap = z[rows, y] - z[:, other]
        slope = np.abs((weights[:, y].T - weights[:, other]) * scale).sum(-1)
        robust &= (other == y) | (gap > eps * slope)
    assert 5 < robust.sum() < 48
    inputs = kwp.Inputs(bounds=None, scale=scale)
    attacks = [APGD(eps=eps, steps=20, targets=2, loss="margin"), FAB(steps=20)]
    report = plainly(model, (x, y), attacks, eps=eps, inputs=inputs)
    for result in report.results:
        np.testing.assert_array_equal(result.robust, robust)
    x_adv = attacks[0](model, x, y, inputs=inputs)
    assert (np.abs(x_adv - x) / scale).max() <= eps * (1 + 1e-5)
    square, cw = Square(eps=eps, steps=200), kwp.attacks.CarliniWagner(steps=20)
    found = plainly(model, (x, y), [square], inputs=inputs).robust()
    assert not (robust & ~found).any()
    found = plainly(model, (x, y), [cw], inputs=inputs)
    assert np.isfinite(found.results[0].distance).mean() > 0.9
