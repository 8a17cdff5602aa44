"""One step from a noisy image: N-FGSM against NumPy, and its settings."""

import keras
import numpy as np
import pytest
from helpers import linear_model, message_of, random_images, tiny_cnn
from trained import CLASSES, SHAPE, X, Y, compiled

from keras_wp import _noise
from keras_wp.defenses import FastAdversarialTraining
from keras_wp.engine.problem import Problem
from keras_wp.inspection.classifier import Classifier

EPS = 0.1


def adversarial(defense, x, y):
    """What the attack makes of images, and its noise, `(N, ...)`."""
    keys = _noise.fold_in(_noise.image_keys(keras.ops.convert_to_tensor(x)), 7)
    labels = keras.ops.convert_to_tensor(y.astype(np.int32))
    problem = Problem(
        Classifier(defense.model),
        x=keras.ops.convert_to_tensor(x),
        y=labels,
        target=labels,
        keys=keys,
        clean_logits=None,
        bounds=defense.attack.bounds,
    )
    noise = 2 * np.asarray(_noise.uniform(_noise.fold_in(keys, 0), x.shape[1:]))
    return np.asarray(defense.attack.perturb(problem)), noise - 1


@pytest.mark.parametrize("noise, step_size", [(2.0, None), (0.5, 0.03)])
def test_it_is_one_step_from_a_noisy_image(noise, step_size, kernel, bias):
    x = random_images(200, SHAPE, low=0.05, high=0.95)
    y = np.arange(200) % CLASSES
    model = linear_model(kernel, bias)
    defense = FastAdversarialTraining(model, EPS, step_size, noise)
    found, uniform = adversarial(defense, x, y)
    start = np.clip(x + noise * EPS * uniform, 0, 1)
    flat = start.reshape(200, -1)
    z = flat @ kernel.reshape(-1, CLASSES) + bias
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    slope = (p - np.eye(CLASSES)[y]) @ kernel.reshape(-1, CLASSES).T
    step = (step_size or EPS) * np.sign(slope).reshape(x.shape)
    np.testing.assert_allclose(found, np.clip(start + step, 0, 1), atol=1e-6)
    farthest = np.abs(found - x).max()
    # Nothing is projected to the ball.
    assert farthest > 0.9 * (noise * EPS + (step_size or EPS))


def test_in_l2_the_noise_fills_a_ball(kernel, bias):
    x, y = random_images(50, SHAPE, low=0.4, high=0.6), np.arange(50) % CLASSES
    model = linear_model(kernel, bias)
    lengths = {}
    for noise in (0.0, 2.0):
        defense = FastAdversarialTraining(model, EPS, noise=noise, norm="l2")
        found, _ = adversarial(defense, x, y)
        delta = (found - x).reshape(50, -1)
        lengths[noise] = np.linalg.norm(delta, axis=1)
    np.testing.assert_allclose(lengths[0.0], EPS, rtol=1e-4)
    assert EPS < lengths[2.0].max() <= 3 * EPS + 1e-5


def test_it_is_saved_with_its_settings(tmp_path):
    settings = {
        "eps": 8.0,
        "step_size": 10.0,
        "noise": 1.5,
        "norm": "linf",
        "bounds": (0.0, 255.0),
    }
    model = tiny_cnn((*SHAPE[:1], 3, 1), CLASSES)
    defense = compiled(FastAdversarialTraining(model, **settings))
    x = random_images(len(Y), (3, 3, 1), high=255.0)
    expected = [float(defense.train_on_batch(x, Y)) for _ in range(2)]
    assert len(set(expected)) == 2  # The noise differs.
    path = tmp_path / "defense.keras"
    defense.save(path)
    loaded = keras.saving.load_model(path)
    assert loaded.attack == defense.attack
    assert {k: loaded.get_config()[k] for k in settings} == settings
    again = loaded.train_on_batch(x, Y)
    assert again == pytest.approx(defense.train_on_batch(x, Y), rel=1e-5)


def test_another_attack_is_used_from_the_next_step_on(kernel):
    model = linear_model(kernel)
    defense = compiled(FastAdversarialTraining(model, EPS, noise=0))
    stronger = FastAdversarialTraining(model, 3 * EPS, noise=0).attack

    class Switch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                defense.attack = stronger

    options = {"verbose": 0, "epochs": 4, "callbacks": [Switch()]}
    losses = defense.fit(X, Y, **options).history["loss"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[2] == pytest.approx(losses[3], rel=1e-6)
    assert losses[2] > 1.05 * losses[1]


@pytest.mark.parametrize(
    "name, value, least",
    [
        ("eps", 0, "greater than"),
        ("step_size", -1.0, "greater than"),
        ("noise", -1.0, "of at least"),
    ],
)
def test_settings_out_of_range_are_refused(name, value, least):
    arguments = {"eps": EPS, name: value}
    message = message_of(FastAdversarialTraining, tiny_cnn(), **arguments)
    assert message == (
        f"Argument `{name}` must be a finite number {least} 0. Received: "
        f"{name}={value!r}"
    )
