"""A perturbed defense with all of Keras's callbacks, in one training."""

import csv
import functools

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

import keras_wp
from keras_wp import callbacks, defenses

pytestmark = pytest.mark.once


EPS, EPOCHS = 0.1, 6


def images(count=96):
    """Bright and dark images, and whether they are bright."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 2
    x = rng.uniform(0.1, 0.4, (count, 2, 2, 1)) + 0.5 * y[:, None, None, None]
    return x.astype("float32"), y


def defense(optimizer=keras.optimizers.Adam):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2),
        ]
    )
    attack = keras_wp.attacks.PGD(eps=EPS, steps=2)
    found = defenses.AWP(defenses.TRADES(model, attack), gamma=0.01)
    found.compile(optimizer(0.1), metrics=["accuracy"])
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`(defense, history, folder)` of a training that stops early."""
    folder = tmp_path_factory.mktemp("together")
    robust = "val_robust_accuracy"
    model = defense()
    history = model.fit(
        *images(),
        batch_size=32,
        epochs=EPOCHS,
        validation_data=images(),
        class_weight={0: 1.0, 1: 1.0},
        verbose=0,
        callbacks=[
            keras.callbacks.BackupAndRestore(
                str(folder / "backup"), delete_checkpoint=False
            ),
            callbacks.WeightAveraging(0.5),
            callbacks.BestRobust(images()),
            keras.callbacks.CSVLogger(str(folder / "log.csv")),
            keras.callbacks.ModelCheckpoint(
                str(folder / "best.keras"),
                monitor=robust,
                mode="max",
                save_best_only=True,
            ),
            keras.callbacks.EarlyStopping(robust, mode="max", patience=1),
        ],
    ).history
    return model, history, folder


def test_early_stopping_sees_the_robust_accuracy(trained):
    _, history, _ = trained
    values = history["val_robust_accuracy"]
    assert len(values) < EPOCHS and values[-1] <= max(values[:-1])


def test_the_log_has_what_the_history_has(trained):
    _, history, folder = trained
    with open(folder / "log.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"clean_accuracy", "robust_accuracy", "val_loss"} <= set(rows[0])
    for name, values in history.items():
        np.testing.assert_allclose(
            [float(row[name]) for row in rows], values, err_msg=name
        )


def test_a_checkpoint_continues_as_what_it_was(trained):
    model, _, folder = trained
    loaded = keras.saving.load_model(folder / "best.keras")
    assert type(loaded) is defenses.AWP and loaded.gamma == model.gamma
    assert type(loaded.defense) is defenses.TRADES
    for mine, theirs in zip(
        loaded.model.get_weights(), model.model.get_weights(), strict=True
    ):  # The best averages, in both.
        np.testing.assert_array_equal(mine, theirs)
    loaded.fit(*images(), verbose=0)


def test_a_backup_has_the_weights_as_they_were_trained(trained):
    model, history, folder = trained
    other = defense()
    other.optimizer.build(other.trainable_variables)
    other.load_weights(folder / "backup" / "latest.weights.h5")
    steps = int(keras.ops.convert_to_numpy(other.optimizer.iterations))
    assert steps == 3 * len(history["loss"])
    assert any(
        not np.array_equal(mine, theirs)
        for mine, theirs in zip(
            other.model.get_weights(), model.model.get_weights(), strict=True
        )
    )


def test_weights_of_classes_are_those_of_their_images():
    x, y = images(16)
    # Of Adam's first step, the gradient's length has no part.
    made = functools.partial(defense, keras.optimizers.SGD)
    by_class, by_image, unweighted = made(), made(), made()
    by_class.train_on_batch(x, y, class_weight={0: 2.0, 1: 0.0})
    by_image.train_on_batch(x, y, sample_weight=np.where(y == 0, 2.0, 0.0))
    unweighted.train_on_batch(x, y)
    found = [m.model.get_weights()[-2] for m in (by_class, by_image)]
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert not np.allclose(found[0], unweighted.model.get_weights()[-2])


def test_tensorboard_has_the_robust_accuracy(tmp_path):
    history = defense().fit(
        *images(),
        verbose=0,
        callbacks=[keras.callbacks.TensorBoard(str(tmp_path))],
    )
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    (event,) = events.Tensors("epoch_robust_accuracy")
    found = np.frombuffer(event.tensor_proto.tensor_content, np.float32)
    np.testing.assert_allclose(found, history.history["robust_accuracy"])
