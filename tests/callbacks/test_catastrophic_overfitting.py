import keras
import numpy as np
import pytest
from helpers import (
    linear_model,
    message_of,
    plainly,
    random_images,
    to_numpy,
)
from trained import CLASSES, SHAPE, X, Y, compiled

import keras_wp
from keras_wp import attacks
from keras_wp.callbacks import CatastrophicOverfitting
from keras_wp.callbacks.catastrophic_overfitting import collapsed
from keras_wp.defenses import (
    AWP,
    TRADES,
    AdversarialTraining,
    FastAdversarialTraining,
)

EPS = 0.1


@pytest.fixture
def kernel(rng):
    return rng.normal(size=(*SHAPE, CLASSES)).astype(np.float32)


class Scripted(CatastrophicOverfitting):
    """What it measures was written before: (FGSM, PGD), again and again."""

    def __init__(self, *script, **arguments):
        super().__init__((X, Y), **arguments)
        self.script = list(script)

    def _measured(self):
        names = ("fgsm_accuracy", "pgd_accuracy")
        return dict(zip(names, self.script.pop(0), strict=True))


class Seen(keras.callbacks.Callback):
    """The state at the end of each epoch, for callbacks further on."""

    def __init__(self):
        super().__init__()
        self.kernels, self.momenta, self.attacks = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        self.kernels.append(to_numpy(self.model.model.layers[-1].kernel))
        self.momenta.append(to_numpy(optimizer.momentums[0]))
        self.attacks.append(self.model.attack)


def fit(alarm, epochs, kernel):
    defense = FastAdversarialTraining(linear_model(kernel), EPS)
    compiled(defense, keras.optimizers.SGD(0.1, momentum=0.9))
    before, seen = Seen(), Seen()
    defense.fit(X, Y, epochs=epochs, callbacks=[before, alarm, seen], verbose=0)
    return defense, before, seen


def test_it_goes_back_and_continues_against_more_steps(kernel):
    good, bad = (0.6, 0.5), (0.9, 0.1)
    alarm = Scripted((0.2, 0.1), good, bad, (0.5, 0.45), bad)
    with pytest.warns(UserWarning) as warned:
        defense, before, seen = fit(alarm, 6, kernel)
    messages = [str(w.message) for w in warned if w.category is UserWarning]
    assert messages == [
        "Catastrophic overfitting: the accuracy under PGD has fallen from "
        "50.0% to 10.0%, that under FGSM is 90.0%. The weights go back to the "
        "best measured, and training continues against PGD5."
    ]
    given, stronger = defense.attack, attacks.PGD(eps=EPS, steps=5)
    # The second alarm stops it; the defense is what it was.
    assert seen.attacks == [given, stronger, stronger, stronger]
    assert FastAdversarialTraining(defense.model, EPS).attack == given
    assert np.abs(before.kernels[1] - seen.kernels[0]).max() > 0
    for epoch in (1, 3):
        np.testing.assert_array_equal(seen.kernels[epoch], seen.kernels[0])
        np.testing.assert_array_equal(seen.momenta[epoch], seen.momenta[0])
    assert np.abs(before.kernels[2] - seen.kernels[1]).max() > 0
    assert int(defense.optimizer.iterations) == 4


@pytest.mark.once
def test_steps_that_add_up_are_counted_on(kernel):
    alarm = Scripted((0.2, 0.1), (0.6, 0.5), (0.9, 0.1))
    defense = FastAdversarialTraining(linear_model(kernel), EPS)
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    compiled(defense, optimizer)
    with pytest.warns(UserWarning, match="Catastrophic overfitting"):
        defense.fit(X, Y, epochs=2, batch_size=2, callbacks=[alarm], verbose=0)
    assert int(optimizer._iterations) == 2 * -(-len(X) // 2)


@pytest.mark.parametrize("action", ["stop", "warn"])
def test_it_stops_or_only_warns(action, kernel):
    alarm = Scripted((0.5, 0.5), *[(0.9, 0.1)] * 3, action=action)
    with pytest.warns(UserWarning, match="training stops|Training continues"):
        _, before, seen = fit(alarm, 3, kernel)
    last = to_numpy(seen.kernels[-1])
    if action == "stop":
        assert len(seen.kernels) == 1
        np.testing.assert_array_equal(last, kernel.reshape(-1, CLASSES))
        assert np.abs(before.momenta[0]).max() > 0
        np.testing.assert_array_equal(seen.momenta[0], 0.0)
    else:
        assert len(seen.kernels) == 3
        np.testing.assert_array_equal(last, before.kernels[-1])


@pytest.mark.once
@pytest.mark.parametrize(
    "best, now, alarm",
    [
        ((0.6, 0.5), (0.9, 0.1), True),
        ((0.6, 0.5), (0.6, 0.39), True),
        ((0.6, 0.5), (0.6, 0.41), False),
        # Both fall: the training diverges.
        ((0.6, 0.5), (0.2, 0.1), False),
        ((0.6, 0.5), (0.5, 0.2), True),
        ((0.85, 0.52), (0.54, 0.03), True),
        ((0.85, 0.52), (0.5, 0.09), False),
        ((0.6, 0.5), (float("nan"), float("nan")), False),
    ],
)
def test_what_is_an_alarm(best, now, alarm):
    names = ("fgsm_accuracy", "pgd_accuracy")
    best, now = (dict(zip(names, pair, strict=True)) for pair in (best, now))
    assert collapsed(best, now, drop=0.1) == alarm


def test_it_measures_what_evaluate_does_also_between_epochs(kernel):
    x, y = random_images(40, SHAPE), np.arange(40) % CLASSES
    model = linear_model(kernel)
    inner = AdversarialTraining(model, attacks.FGSM(eps=EPS))
    defense = compiled(AWP(inner), keras.optimizers.SGD(0.1))
    count = []

    class Counting(CatastrophicOverfitting):
        def _measured(self):
            count.append(1)
            return super()._measured()

    alarm = Counting((x, y), steps=2, drop=0.9)
    logs = defense.fit(X, Y, batch_size=2, callbacks=[alarm], verbose=0).history
    assert len(count) == 1 + 4 // 2 + 1
    for name, attack in {
        "fgsm_accuracy": attacks.FGSM(eps=EPS),
        "pgd_accuracy": attacks.PGD(eps=EPS, steps=10, step_size=EPS / 4),
    }.items():
        report = keras_wp.evaluate(
            model, (x, y), [attack], progress=False, adaptive=False, audit=False
        )
        assert logs[name] == [report.robust_accuracy]


def test_a_defense_keeps_its_objective_with_more_steps(kernel):
    attack = attacks.PGD(eps=EPS, steps=1)
    defense = compiled(TRADES(linear_model(kernel), attack))
    alarm = Scripted((0.5, 0.5))
    alarm.set_model(defense)
    alarm.on_train_begin()
    assert alarm._next.loss == "kl_divergence"
    assert (alarm._next.steps, alarm._next.random_start) == (5, "normal")


def test_what_it_cannot_watch_over_is_refused(kernel):
    model = linear_model(kernel)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
    alarm = CatastrophicOverfitting((X, Y))
    assert message_of(model.fit, X, Y, callbacks=[alarm], verbose=0) == (
        "CatastrophicOverfitting watches over a defense whose attack has an "
        f"`eps`. Received: {type(model).__name__}"
    )
    assert message_of(CatastrophicOverfitting, (X, Y), fallback="pgd") == (
        "Argument `fallback` must be a keras_wp.attacks.Attack. Received: str"
    )
    assert message_of(CatastrophicOverfitting, (X, Y), drop=0) == (
        "Argument `drop` must be a finite number greater than 0. Received: "
        "drop=0"
    )


@pytest.mark.slow
def test_a_run_that_would_collapse_ends_as_one_that_does_not():
    train, (x_test, y_test) = keras_wp.datasets.load("mnist5k")
    eps = 0.3
    pgd20 = attacks.PGD(eps=eps, steps=20, step_size=eps / 10)

    def robust_accuracy(step_size, *callbacks):
        keras.utils.set_random_seed(0)
        model = keras_wp.models.small_cnn(
            (28, 28, 1),
            10,
            head="plain",
            widths=(8, 8, 16, 16),
            dense=(64, 64),
        )
        defense = FastAdversarialTraining(model, eps, step_size, noise=1.0)
        compiled(defense, keras.optimizers.Adam(0.003))
        options = {"batch_size": 64, "epochs": 10, "verbose": 0}
        defense.fit(*train, callbacks=list(callbacks), **options)
        data = (x_test[:500], y_test[:500])
        return plainly(model, data, [pgd20], progress=False).robust_accuracy

    alarm = CatastrophicOverfitting((x_test[-300:], y_test[-300:]))
    with pytest.warns(UserWarning, match="Catastrophic overfitting"):
        rescued = robust_accuracy(eps, alarm)
    left, sound = robust_accuracy(eps), robust_accuracy(eps / 2)
    assert left < 0.1, (left, sound, rescued)
    assert sound > 0.5
    assert rescued >= 0.8 * sound, (left, sound, rescued)
