"""AWP against NumPy, and with all that surrounds a defense."""

import keras
import numpy as np
import pytest
from helpers import (
    linear_logits,
    linear_model,
    message_of,
    random_images,
    tiny_cnn,
    to_numpy,
)
from trained import CLASSES, COUNT, SHAPE, SHIFT, X, Y, compiled

from keras_wp import attacks
from keras_wp.callbacks import BestRobust, WeightAveraging
from keras_wp.defenses import AWP, TRADES, AdversarialTraining

GAMMA = 0.3
X_ADV = (X + 0.25).astype(np.float64)
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 1.0, 3.0, 0.1], np.float32)


def slopes(kernel, bias, weights=1.0):
    """The gradients of the cross-entropy of the attacked images."""
    z = linear_logits(kernel, bias, X_ADV)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    error = (p - np.eye(CLASSES)[Y]) / COUNT
    error *= np.reshape(weights, (-1, 1))
    flat = X_ADV.reshape(COUNT, -1)
    return (flat.T @ error).reshape(kernel.shape), error.sum(0)


def perturbed(kernel, bias, weights=1.0):
    """The kernel at which a step takes the gradient."""
    slope, _ = slopes(kernel, bias, weights)
    length = np.linalg.norm(kernel) / np.linalg.norm(slope)
    return kernel + GAMMA * length * slope


def cross_entropy(kernel, bias):
    z = linear_logits(kernel, bias, X_ADV)
    z -= z.max(-1, keepdims=True)
    z -= np.log(np.exp(z).sum(-1, keepdims=True))
    return -z[np.arange(COUNT), Y].mean()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_step_applies_the_gradient_at_perturbed_weights(
    weights, kernel, bias
):
    model = linear_model(kernel, bias)
    model.layers[-1].kernel.regularizer = keras.regularizers.L2(0.1)
    defense = AWP(AdversarialTraining(model, SHIFT), gamma=GAMMA)
    compiled(defense, keras.optimizers.SGD(0.5))
    logs = defense.train_on_batch(X, Y, weights, return_dict=True)
    share = 1.0 if weights is None else weights
    moved = perturbed(kernel, bias, share)
    slope, bias_slope = slopes(moved, bias, share)
    # The penalty has no part in the perturbation, and is counted there.
    slope = slope + 0.2 * moved
    found = [to_numpy(w) for w in model.layers[-1].weights]
    expected = (kernel - 0.5 * slope).reshape(-1, CLASSES)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], bias - 0.5 * bias_slope, rtol=1e-4)
    penalty = 0.1 * (moved**2).sum()
    np.testing.assert_allclose(logs["penalty"], penalty, rtol=1e-5)
    entropy = cross_entropy(moved, bias)
    found = logs["robust_cross_entropy"]
    np.testing.assert_allclose(found, entropy, rtol=1e-5)
    if weights is None:
        total = entropy + penalty
        np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)
    assert entropy > cross_entropy(kernel, bias)


def test_the_first_steps_may_go_without(kernel, bias):
    model = linear_model(kernel, bias)
    inner = AdversarialTraining(model, SHIFT)
    defense = compiled(AWP(inner, gamma=GAMMA, warmup_steps=2))
    found = [float(defense.train_on_batch(X, Y)) for _ in range(3)]
    plain = cross_entropy(kernel, bias)
    np.testing.assert_allclose(found[:2], plain, rtol=1e-5)
    expected = cross_entropy(perturbed(kernel, bias), bias)
    # The logs of single batches are means.
    np.testing.assert_allclose(found[2], expected, rtol=1e-5)


def test_one_pass_moves_batch_normalization_and_random_numbers():
    layers = [
        keras.Input(SHAPE),
        keras.layers.BatchNormalization(momentum=0.8),
        keras.layers.Dropout(0.5, seed=3),
        keras.layers.Flatten(),
        keras.layers.Dense(CLASSES),
    ]
    model = keras.Sequential(layers)
    seed = to_numpy(model.layers[1].seed_generator.state)
    compiled(AWP(AdversarialTraining(model, SHIFT))).train_on_batch(X, Y)
    mean = to_numpy(model.layers[0].moving_mean)
    np.testing.assert_allclose(mean, 0.2 * X_ADV.mean(), rtol=1e-5)
    state = to_numpy(model.layers[1].seed_generator.state)
    np.testing.assert_array_equal(state - seed, [0, 1])


def test_without_length_it_is_the_defense_inside():
    x, y = random_images(8), np.arange(8) % 5
    logs = []
    for wrap in (lambda inner: inner, lambda inner: AWP(inner, gamma=1e-7)):
        defense = compiled(wrap(TRADES(tiny_cnn(), SHIFT, beta=2.0)))
        logs.append(defense.train_on_batch(x, y, return_dict=True))
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        np.testing.assert_allclose(logs[1][name], value, rtol=1e-5)


def test_it_is_saved_with_the_defense_inside_and_continues(tmp_path):
    attack = attacks.PGD(eps=0.3, steps=1, step_size=0.1)
    model = tiny_cnn((*SHAPE[:1], 3, 1), CLASSES)
    x = random_images(COUNT, (3, 3, 1))
    keras.utils.set_random_seed(0)
    inner = TRADES(model, attack, beta=2.0)
    defense = AWP(inner, gamma=0.02, warmup_steps=1)
    compiled(defense, keras.optimizers.Adam(0.01), metrics=["accuracy"])
    path = tmp_path / "{epoch}.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(str(path))
    options = {"shuffle": False, "verbose": 0, "epochs": 3}
    history = defense.fit(x, Y, callbacks=[checkpoint], **options).history
    loaded = keras.saving.load_model(tmp_path / "1.keras")
    assert type(loaded.defense) is TRADES
    assert loaded.defense.model is loaded.model
    settings = (loaded.gamma, loaded.warmup_steps, loaded.defense.beta)
    assert settings == (0.02, 1, 2.0)
    assert loaded.attack == defense.attack
    again = loaded.fit(x, Y, initial_epoch=1, **options).history
    for name, values in again.items():
        np.testing.assert_allclose(values, history[name][1:], rtol=1e-4)


@pytest.mark.filterwarnings("ignore:No epoch has made:UserWarning")
def test_float16_is_no_obstacle():
    keras.config.set_dtype_policy("mixed_float16")
    x, y = random_images(8), np.arange(8) % 5
    model = tiny_cnn()
    defense = AWP(TRADES(model, attacks.PGD(eps=0.1, steps=1)), gamma=0.05)
    compiled(defense, keras.optimizers.Adam(0.01))
    scaled = keras.optimizers.LossScaleOptimizer
    assert isinstance(defense.optimizer, scaled)
    before = to_numpy(model.layers[0].kernel)
    # The first scale is too large, and that step left out.
    averaging, best = WeightAveraging(0.5), BestRobust((x, y))
    options = {"epochs": 3, "verbose": 0}
    history = defense.fit(x, y, callbacks=[averaging], **options).history
    assert np.isfinite(history["loss"]).all()
    after = to_numpy(model.layers[0].kernel)
    assert np.isfinite(after).all() and np.abs(after - before).max() > 0
    history = defense.fit(x, y, callbacks=[averaging, best], **options).history
    assert best.best == max(history["val_robust_accuracy"])


def test_what_is_no_defense_is_refused():
    inner = AWP(AdversarialTraining(tiny_cnn(), SHIFT))
    for other in (inner, tiny_cnn()):
        assert message_of(AWP, other) == (
            "Argument `defense` must be a keras_wp.defenses.Defense, and not "
            f"an AWP itself. Received: {type(other).__name__}"
        )
    assert message_of(AWP, inner.defense, gamma=0) == (
        "Argument `gamma` must be a finite number greater than 0. Received: "
        "gamma=0"
    )
