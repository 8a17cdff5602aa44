"""Averaged weights, against their definition in NumPy."""

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, tiny_cnn, to_numpy

from keras_wp import attacks
from keras_wp.callbacks import RobustAccuracy, WeightAveraging
from keras_wp.defenses import AdversarialTraining

X, Y = random_images(20), np.arange(20) % 5
ATTACK = attacks.PGD(eps=0.05, steps=1)
STEPS, EPOCHS = 2, 3


def values(model):
    return [to_numpy(v) for v in model.get_weights()]


def averages(steps, decay):
    """The average after each of these steps, by the definition."""
    found = []
    for t, weights in enumerate(steps):
        share = min(decay, (1 + t) / (10 + t)) if t else 0.0
        last = found[-1] if t else weights
        found.append(
            [
                share * average + (1 - share) * np.asarray(w, np.float64)
                for average, w in zip(last, weights, strict=True)
            ]
        )
    return found


def assert_same(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)


class Seen(keras.callbacks.Callback):
    """The weights after each step, and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.ends = [], []

    @property
    def inner(self):
        return getattr(self.model, "undefended", self.model)

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(values(self.inner))

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(values(self.inner))


@pytest.mark.parametrize("decay", [0.5, 0.995])
def test_averages_of_a_linear_model_with_a_constant_rate(decay, rng):
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    kernel, rate = rng.normal(size=(3, 1)), 0.1
    dense = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((3,)), dense])
    model.set_weights([kernel])
    steps, losses = [], []
    for _ in range(4):
        for part in (slice(0, 4), slice(4, 8)):
            error = x[part] @ kernel - y[part]
            kernel = kernel - rate * 2 * x[part].T @ error / 4
            steps.append([kernel])
        (average,) = averages(steps, decay)[-1]
        losses.append(((x @ average - y) ** 2).mean())
    model.compile(keras.optimizers.SGD(rate), "mse")
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=4,
        shuffle=False,
        validation_data=(x, y),
        callbacks=[WeightAveraging(decay)],
        verbose=0,
    ).history
    np.testing.assert_allclose(history["val_loss"], losses, rtol=1e-4)
    assert_same(values(model), averages(steps, decay)[-1])


def compiled():
    keras.utils.set_random_seed(0)
    defense = AdversarialTraining(tiny_cnn(), ATTACK)
    defense.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    defense.optimizer.build(defense.trainable_variables)
    return defense


def train(defense, *callbacks, **given):
    given = {"epochs": EPOCHS, "shuffle": False, "verbose": 0, **given}
    return defense.fit(X, Y, batch_size=10, callbacks=callbacks, **given)


def test_statistics_are_averaged_evaluated_and_saved_with_the_weights(tmp_path):
    averaging, seen = WeightAveraging(0.8), Seen()
    curve = RobustAccuracy((X, Y), ATTACK, every=1)
    path = str(tmp_path / "{epoch}.keras")
    saving = keras.callbacks.ModelCheckpoint(path)
    defense = compiled()
    history = train(
        defense, averaging, seen, curve, saving, validation_data=(X, Y)
    ).history
    alone = Seen()
    train(compiled(), alone)
    for found, expected in zip(seen.steps, alone.steps, strict=True):
        assert_same(found, expected)
    expected = averages(seen.steps, 0.8)[STEPS - 1 :: STEPS]
    for found, average in zip(seen.ends, expected, strict=True):
        assert_same(found, average)
    assert_same(values(defense.model), expected[-1])
    for epoch, average in enumerate(expected):
        model = tiny_cnn()
        model.set_weights(average)
        right = to_numpy(model(X)).argmax(-1) == Y
        accuracy = history["val_clean_accuracy"][epoch]
        assert accuracy == pytest.approx(right.mean(), abs=1e-6)
        loaded = keras.saving.load_model(tmp_path / f"{epoch + 1}.keras")
        assert_same(values(loaded.model), average)
        x_adv = ATTACK(model, X, Y)
        robust = to_numpy(model(x_adv)).argmax(-1) == Y
        assert history["robust_accuracy"][epoch] == robust.mean()


def test_a_network_with_batch_normalization_gains(rng):
    centers = rng.normal(size=(3, 4))
    y = rng.integers(0, 3, 300)
    x = centers[y] + rng.normal(size=(300, 4))
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    seen, averaging = Seen(), WeightAveraging(0.95)
    model.fit(
        *(x[:150], y[:150]),
        batch_size=10,
        epochs=5,
        callbacks=[seen, averaging],
        verbose=0,
    )
    test = x[150:].astype("float32"), y[150:]

    def accuracy():
        return (to_numpy(model(test[0])).argmax(-1) == test[1]).mean()

    averaged, raw = accuracy(), []
    for weights in seen.steps[-15:]:
        model.set_weights(weights)
        raw.append(accuracy())
    assert averaged >= np.mean(raw)
    assert averaged > 0.5


@pytest.mark.once
@pytest.mark.parametrize("decay", [1.0, -0.1, "0.9"])
def test_an_odd_decay_is_refused(decay):
    assert message_of(WeightAveraging, decay) == (
        "Argument `decay` must be a number of at least 0 and below 1. "
        f"Received: decay={decay!r}"
    )
