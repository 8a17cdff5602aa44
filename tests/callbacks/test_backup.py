"""A training that is killed and continued is the one that was not."""

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, to_numpy

from keras_wp import attacks
from keras_wp.callbacks import (
    Backup,
    BestRobust,
    CatastrophicOverfitting,
    RobustAccuracy,
    WeightAveraging,
)
from keras_wp.defenses import FastAdversarialTraining

pytestmark = pytest.mark.filterwarnings(
    "ignore:Catastrophic overfitting:UserWarning"
)

X, Y = random_images(24, (2, 2, 1)), np.arange(24) % 3
EPS, EPOCHS = 0.05, 5
# What is measured before the training and at the end of each epoch: the
# accuracy under FGSM and under PGD, on which there is an alarm in the third;
# and that of the averages.
ALARMS = [
    (0.2, 0.2),
    (0.6, 0.5),
    (0.6, 0.4),
    (0.9, 0.1),
    (0.5, 0.4),
    (0.5,) * 2,
]
ROBUST = [0.3, 0.2, 0.6, 0.1, 0.1, 0.5]
ATTACK = attacks.PGD(eps=EPS, steps=1)


class Killed(Exception):
    pass


class Alarm(CatastrophicOverfitting):
    def _measured(self):
        found = ALARMS[epochs_of(self.model)]
        return dict(zip(("fgsm_accuracy", "pgd_accuracy"), found, strict=True))


def epochs_of(model):
    """The epochs that a model has been trained for."""
    return int(to_numpy(model.optimizer.iterations)) // (len(X) // 8)


@pytest.fixture
def measured(monkeypatch):
    """What kills while it measures, by the epochs trained for."""
    kill = set()

    def scripted(self):
        epochs = epochs_of(self.model)
        if epochs in kill:
            kill.remove(epochs)
            raise Killed
        self.clean = {"robust_accuracy": 1.0}
        return {"robust_accuracy": ROBUST[epochs]}

    monkeypatch.setattr(RobustAccuracy, "_measured", scripted)
    return kill


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(X.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(3),
        ]
    )
    defense = FastAdversarialTraining(model, EPS)
    defense.compile(keras.optimizers.Adam(0.1))
    return defense


class Log(keras.callbacks.Callback):
    """The trained weights and the attack at the beginning of each epoch."""

    def __init__(self):
        super().__init__()
        self.begun = {}

    def on_epoch_begin(self, epoch, logs=None):
        weights = [to_numpy(w) for w in self.model.model.weights]
        self.begun[epoch] = weights, self.model.attack.label


def fit(folder=None, order=("alarm", "averaging", "best"), **given):
    made = {
        "alarm": Alarm((X, Y)),
        "averaging": WeightAveraging(0.9),
        "best": BestRobust((X, Y), ATTACK, **given),
    }
    callbacks, log = [made[name] for name in order], Log()
    if folder is not None:
        callbacks = [Backup(folder, callbacks)]
    defense, options = network(), {"batch_size": 8, "shuffle": False}
    defense.fit(
        X, Y, epochs=EPOCHS, callbacks=[*callbacks, log], verbose=0, **options
    )
    best = made["best"]
    found = [to_numpy(w) for w in defense.model.weights]
    return found, (best.best, best.best_epoch), log


@pytest.mark.parametrize("epoch", [2, 3, 4])
def test_killed_while_it_measures(tmp_path, measured, epoch):
    weights, best, log = fit()
    assert best == (0.6, 1)
    assert log.begun[2][1] != log.begun[3][1] == log.begun[4][1] == "PGD5"
    measured.add(epoch)
    with pytest.raises(Killed):
        fit(tmp_path)
    found, known, seen = fit(tmp_path)
    assert known == best
    assert min(seen.begun) == epoch - 1
    for each, (expected, attack) in seen.begun.items():
        assert log.begun[each][1] == attack
        compare(expected, log.begun[each][0])
    compare(found, weights)
    assert not list(tmp_path.iterdir())


def compare(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_an_alarm_goes_back_wherever_it_stands(measured):
    first = fit(order=("alarm", "averaging", "best"))
    last = fit(order=("averaging", "best", "alarm"))
    for epoch in range(EPOCHS):
        compare(first[2].begun[epoch][0], last[2].begun[epoch][0])
    compare(first[0], last[0])


@pytest.mark.once
def test_an_alarm_takes_averages_back():
    class Averages(WeightAveraging):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([to_numpy(each) for each in self._averages])
            super().on_epoch_end(epoch, logs)

    seen, defense = [], network()
    callbacks = [Alarm((X, Y)), Averages(0.9)]
    defense.fit(X, Y, batch_size=8, epochs=3, callbacks=callbacks, verbose=0)
    compare(seen[2], seen[0])
    assert np.abs(seen[1][-1] - seen[0][-1]).max() > 0


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:No epoch has made:UserWarning")
def test_weights_from_before_the_training_are_kept(
    tmp_path, measured, monkeypatch
):
    monkeypatch.setitem(globals(), "ROBUST", [0.7, *ROBUST[1:]])
    before = [to_numpy(w) for w in network().model.weights]
    measured.add(3)
    with pytest.raises(Killed):
        fit(tmp_path)
    weights, best, _ = fit(tmp_path)
    assert best == (0.7, -1)
    compare(weights, before)


@pytest.mark.once
def test_patience_is_what_it_was(tmp_path, measured):
    unbroken = fit(patience=2)
    measured.add(3)
    with pytest.raises(Killed):
        fit(tmp_path, patience=2)
    continued = fit(tmp_path, patience=2)
    assert max(continued[2].begun) == max(unbroken[2].begun) == 3
    compare(continued[0], unbroken[0])


@pytest.mark.once
def test_a_training_that_has_stopped_does_not_go_on(
    tmp_path, measured, monkeypatch
):
    def killed(self, logs=None):
        raise Killed

    with monkeypatch.context() as during, pytest.raises(Killed):
        during.setattr(BestRobust, "on_train_end", killed)
        fit(tmp_path, patience=2)
    weights, _, log = fit(tmp_path, patience=2)
    assert not log.begun
    compare(weights, fit(patience=2)[0])


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:No epoch has made:UserWarning")
def test_no_patience_before_it_has_measured(measured):
    _, (best, epoch), log = fit(order=("best",), every=3, patience=1)
    assert (best, epoch) == (ROBUST[0], -1) and max(log.begun) == 2


@pytest.mark.once
def test_another_training_s_backup_is_refused(tmp_path, measured):
    measured.add(2)
    with pytest.raises(Killed):
        fit(tmp_path)
    for order in (("averaging", "best"), ("averaging", "alarm", "best")):
        assert message_of(fit, tmp_path, order=order) == (
            "Argument `backup_dir` must be new, or have the backup of a "
            "training of the same model with the same callbacks. Received: "
            f"backup_dir={str(tmp_path)!r}"
        )
    assert Backup(tmp_path).epoch == 1
