"""The best weights under attack are those that are kept."""

import functools

import keras
import numpy as np
import pytest
from helpers import linear_model, message_of, plainly, random_images, to_numpy

from keras_wp import attacks
from keras_wp.callbacks import BestRobust, WeightAveraging
from keras_wp.defenses import AdversarialTraining

SHAPE, CLASSES = (2, 2, 1), 3
X = random_images(30, SHAPE)
KERNEL = np.random.default_rng(0).normal(size=(*SHAPE, CLASSES))
Y = (X.reshape(30, -1) @ KERNEL.reshape(-1, CLASSES)).argmax(-1)
ATTACK = attacks.PGD(eps=0.05, steps=3)
# How far the weights of each epoch are from those that made the labels.
NOISES = (2.0, 0.3, 0.0, 0.0, 1.0)


def kernels():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(*SHAPE, CLASSES))
    return [(KERNEL + size * noise).astype("float32") for size in NOISES]


@functools.cache  # It is compiled once.
def model_of_labels():
    return linear_model(KERNEL.astype("float32"))


def robust(kernel, attack=ATTACK):
    model = model_of_labels()
    model.layers[-1].kernel.assign(kernel.reshape(-1, CLASSES))
    report = plainly(model, (X, Y), [attack], progress=False)
    return report.robust_accuracy


def defended(kernel=-KERNEL):
    model = linear_model(kernel.astype("float32"))
    defense = AdversarialTraining(model, attacks.PGD(eps=0.05, steps=1))
    defense.compile(keras.optimizers.SGD(0.0))
    return defense


class Given(keras.callbacks.Callback):
    """Puts the weights of each epoch in place, whatever was learned."""

    def on_epoch_end(self, epoch, logs=None):
        kernel = kernels()[epoch].reshape(-1, CLASSES)
        self.model.model.layers[-1].set_weights([kernel, np.zeros(CLASSES)])


def train(model, *callbacks, epochs=5, **given):
    return model.fit(
        X, Y, epochs=epochs, callbacks=callbacks, verbose=0, **given
    ).history


def kernel_of(defense):
    return to_numpy(defense.model.layers[-1].kernel).reshape(KERNEL.shape)


def test_the_first_of_the_best_weights_are_kept_and_written(tmp_path):
    path = tmp_path / "runs" / "best.keras"
    best = BestRobust((X, Y), ATTACK, path=path)
    defense = defended()
    history = train(defense, Given(), best)
    expected = [robust(kernel) for kernel in kernels()]
    assert history["val_robust_accuracy"] == expected
    assert expected[2] == expected[3] == max(expected)
    assert (best.best, best.best_epoch) == (expected[2], 2)
    np.testing.assert_array_equal(kernel_of(defense), kernels()[2])
    loaded = keras.saving.load_model(path)
    found = to_numpy(loaded.layers[-1].kernel).reshape(KERNEL.shape)
    np.testing.assert_array_equal(found, kernels()[2])
    assert [file.name for file in path.parent.iterdir()] == ["best.keras"]


def test_by_default_it_is_pgd_within_the_budget_of_the_defense(tmp_path):
    path = tmp_path / "best.weights.h5"
    best = BestRobust((X, Y), every=2, path=path)
    history = train(defended(), Given(), best)
    attack = attacks.PGD(eps=0.05, steps=10)
    every = [robust(kernel, attack) for kernel in [-KERNEL, *kernels()]]
    expected = [every[0], every[2], every[2], every[4], every[4]]
    assert history["val_robust_accuracy"] == expected
    assert best.best_epoch == 3
    model = linear_model(KERNEL)
    model.load_weights(path)
    found = to_numpy(model.layers[-1].kernel).reshape(KERNEL.shape)
    np.testing.assert_array_equal(found, kernels()[3])


@pytest.mark.once
def test_weights_from_before_the_training_may_be_the_best():
    defense = defended(KERNEL)
    best = BestRobust((X, Y), ATTACK, patience=2)
    with pytest.warns(UserWarning, match="No epoch has made the model more"):
        history = train(defense, Given(), best, initial_epoch=1)
    assert best.best_epoch == -1
    np.testing.assert_array_equal(kernel_of(defense), np.float32(KERNEL))
    # Two epochs without a better value.
    assert len(history["loss"]) == 2


@pytest.mark.once
def test_after_averaging_averaged_weights_are_kept():
    kept = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept.append(self.model.model.get_weights())

    defense = defended(np.random.default_rng(2).normal(size=KERNEL.shape))
    defense.compile(keras.optimizers.SGD(1.0))
    best = BestRobust((X, Y), ATTACK)
    history = train(defense, WeightAveraging(0.5), Keep(), best, batch_size=5)
    given_back = defense.model.get_weights()
    values = history["val_robust_accuracy"]
    expected = []
    for weights in kept:
        defense.model.set_weights(weights)
        report = plainly(defense.model, (X, Y), [ATTACK], progress=False)
        expected.append(report.robust_accuracy)
    assert values == expected
    assert best.best_epoch == int(np.argmax(values))
    for found, one in zip(given_back, kept[best.best_epoch], strict=True):
        np.testing.assert_array_equal(found, one)


@pytest.mark.once
def test_before_averaging_it_warns():
    best = BestRobust((X, Y), ATTACK)
    told = "BestRobust comes before WeightAveraging"
    with pytest.warns(UserWarning, match=told) as found:
        train(defended(), Given(), best, WeightAveraging(0.5))
    assert sum(told in str(each.message) for each in found) == 1


@pytest.mark.once
def test_wrong_arguments_are_refused():
    assert message_of(BestRobust, (X, Y), path="best.h5") == (
        "Argument `path` must end in '.keras' or '.weights.h5'. Received: "
        "path='best.h5'"
    )
    assert message_of(BestRobust, (X, Y), patience=0) == (
        "Argument `patience` must be an integer of at least 1. Received: "
        "patience=0"
    )
    assert message_of(BestRobust, (X, Y), "pgd20") == (
        "Argument `attack` must be a keras_wp.attacks.Attack. Received: str"
    )
    model = linear_model(KERNEL)
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    assert message_of(train, model, BestRobust((X, Y))) == (
        "`BestRobust` needs an `attack` for a model that is trained without a "
        "defense. Received: attack=None for a model of type Functional"
    )
