"""A defense that is saved and loaded continues as what it was."""

import dataclasses

import keras
import numpy as np
import pytest
from commands import run
from helpers import (
    linear_model,
    message_of,
    mixed_labels,
    random_images,
    tiny_cnn,
    to_numpy,
)
from trained import CLASSES, DEFENSES, SHAPE, SHIFT, Shift, X, Y, compiled

import keras_wp
from keras_wp import attacks
from keras_wp.defenses import MART, TRADES, AdversarialTraining

pytestmark = pytest.mark.once


ATTACK = attacks.PGD(eps=0.3, steps=2, step_size=0.1, bounds=(0.0, 1.0))


def trained(kind, attack=ATTACK, **arguments):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(*SHAPE, CLASSES)).astype(np.float32)
    defense = kind(linear_model(kernel), attack, **arguments)
    compiled(
        defense,
        keras.optimizers.Adam(0.05),
        metrics=["accuracy"],
        weighted_metrics=[
            keras.metrics.SparseTopKCategoricalAccuracy(2, name="two")
        ],
    )
    defense.fit(X, Y, epochs=2, verbose=0)
    return defense


@pytest.mark.parametrize("kind", DEFENSES)
def test_a_loaded_defense_continues_as_it_was(kind, tmp_path):
    beta = {} if kind is AdversarialTraining else {"beta": 2.0}
    defense = trained(kind, **beta)
    defense.save(tmp_path / "defense.keras")
    loaded = keras.saving.load_model(tmp_path / "defense.keras")
    assert type(loaded) is kind
    assert loaded.name == defense.name
    assert loaded.attack == defense.attack
    assert getattr(loaded, "beta", None) == getattr(defense, "beta", None)
    for _ in range(3):
        expected = defense.train_on_batch(X, Y, return_dict=True)
        found = loaded.train_on_batch(X, Y, return_dict=True)
        assert found.keys() == expected.keys()
        assert "robust_two" in found
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6)
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(
        defense.evaluate(X, Y, verbose=0), rel=1e-6
    )


def test_what_a_checkpoint_saves_continues(tmp_path):
    path = tmp_path / "{epoch}.keras"
    keras.utils.set_random_seed(0)
    defense = compiled(
        AdversarialTraining(tiny_cnn((*SHAPE[:1], 3, 1), CLASSES), ATTACK),
        keras.optimizers.Adam(0.01),
        metrics=["accuracy"],
    )
    x = random_images(len(Y), (3, 3, 1))
    monitor = keras.callbacks.EarlyStopping("val_clean_accuracy", patience=9)
    checkpoint = keras.callbacks.ModelCheckpoint(str(path))
    history = defense.fit(
        x,
        Y,
        epochs=4,
        shuffle=False,
        validation_data=(x, Y),
        callbacks=[checkpoint, monitor],
        verbose=0,
    ).history
    loaded = keras.saving.load_model(tmp_path / "2.keras")
    again = loaded.fit(
        x,
        Y,
        epochs=4,
        initial_epoch=2,
        shuffle=False,
        validation_data=(x, Y),
        verbose=0,
    ).history
    assert again.keys() == history.keys()
    for name, values in again.items():
        np.testing.assert_allclose(values, history[name][2:], rtol=1e-4)


def test_evaluations_and_attacks_see_the_model_inside(tmp_path):
    model, x = tiny_cnn(), random_images(12)
    y = mixed_labels(model, x)
    MART(model, ATTACK).save(tmp_path / "defense.keras")
    loaded = keras.saving.load_model(tmp_path / "defense.keras")
    attack = attacks.PGD(eps=0.05, steps=3)
    reports = [
        keras_wp.evaluate(
            some,
            (x, y),
            [attack],
            progress=False,
            adaptive=False,
            audit=False,
        )
        for some in (model, loaded)
    ]
    assert reports[0].robust_accuracy == reports[1].robust_accuracy
    np.testing.assert_allclose(
        to_numpy(attack(loaded, x, y)), to_numpy(attack(model, x, y)), atol=1e-6
    )
    first, second = (keras_wp.head_geometry(some) for some in (model, loaded))
    assert first.summary() == second.summary()


@pytest.mark.once
def test_the_command_line_reads_a_defense(tmp_path, capsys):
    path = tmp_path / "defense.keras"
    MART(tiny_cnn(), ATTACK).save(path)
    assert run("info", path) == 0
    assert "Last layer" in capsys.readouterr().out


def test_a_model_saved_from_inside_is_that_model(tmp_path):
    model, x = tiny_cnn(), random_images(4)
    compiled(MART(model, SHIFT)).model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_allclose(
        to_numpy(loaded(x)), to_numpy(model(x)), atol=1e-6
    )


def test_an_attack_of_somebody_else_is_asked_for(tmp_path):
    defense = trained(MART, dataclasses.replace(SHIFT, eps=0.2))
    defense.save(tmp_path / "defense.keras")
    assert (
        "A defense needs the class of its attack: register it by "
        "`@keras.saving.register_keras_serializable()`, or pass it in "
        "`custom_objects`. Received: the attack 'Shift'"
    ) in message_of(keras.saving.load_model, tmp_path / "defense.keras")
    loaded = keras.saving.load_model(
        tmp_path / "defense.keras", custom_objects={"Shift": Shift}
    )
    assert loaded.attack == defense.attack


def test_a_namesake_of_an_attack_is_not_taken_for_it(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class PGD(attacks.PGD):
        pass

    defense = AdversarialTraining(tiny_cnn(), PGD(eps=0.1, steps=1))
    defense.save(tmp_path / "defense.keras")
    message = message_of(keras.saving.load_model, tmp_path / "defense.keras")
    assert "Received: the attack 'PGD'" in message


def test_a_surrogate_is_saved_with_its_attack(tmp_path):
    attack = attacks.PGD(
        eps=0.1, steps=2, surrogate=keras_wp.Surrogate(standardize=True)
    )
    AdversarialTraining(tiny_cnn(), attack).save(tmp_path / "defense.keras")
    loaded = keras.saving.load_model(tmp_path / "defense.keras")
    assert loaded.attack == attack


def test_gradients_of_another_model_cannot_be_saved(tmp_path):
    other = keras_wp.Surrogate(model=tiny_cnn())
    attack = attacks.PGD(eps=0.1, steps=2, surrogate=other)
    defense = AdversarialTraining(tiny_cnn(), attack)
    message = message_of(defense.save, tmp_path / "defense.keras")
    assert message.startswith(
        "A defense whose attack takes the gradients of another model cannot "
        "be saved: save `defense.model`. Received: keras_wp.attacks.PGD("
    )


def test_metrics_that_cannot_be_made_twice_are_refused():
    class Odd(keras.metrics.Mean):
        def __init__(self, size):
            super().__init__()

    defense = TRADES(tiny_cnn(), attacks.PGD(eps=0.1, steps=1))
    message = message_of(defense.compile, "adam", metrics=[Odd(3)])
    assert message.startswith(
        "A defense measures each metric on the clean and on the attacked "
        "images, and must be able to make it twice, by `from_config` of its "
        "`get_config`. Received: "
    )
    assert message_of(defense.compile, "adam", metrics="accuracy") == (
        "Argument `metrics` of a defense must be a list. Received: "
        "metrics='accuracy'"
    )


def test_a_function_may_be_a_metric():
    def margin(y_true, y_pred):
        return keras.ops.max(y_pred, axis=-1)

    defense = trained(MART)
    compiled(defense, metrics=[margin, "acc"])
    logs = defense.train_on_batch(X, Y, return_dict=True)
    assert {"clean_margin", "robust_margin", "clean_acc"} <= set(logs)
