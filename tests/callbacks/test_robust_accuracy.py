import keras
import numpy as np
import pytest
from helpers import (
    compiled_functions,
    message_of,
    random_images,
    snapshot,
    tiny_cnn,
    to_numpy,
)

import keras_wp
from keras_wp import attacks
from keras_wp.callbacks import RobustAccuracy
from keras_wp.defenses import AdversarialTraining

pytestmark = pytest.mark.once


X, Y = random_images(20), np.arange(20) % 5
X_TEST, Y_TEST = random_images(15, seed=3), np.arange(15) % 5
ATTACK = attacks.PGD(eps=0.05, steps=2)


def robust_accuracies(model):
    """What the callback is to find, by the name in the logs."""
    data = {
        "robust_accuracy": (X, Y),
        "val_robust_accuracy": (X_TEST, Y_TEST),
    }
    return {
        name: keras_wp.evaluate(
            model, pair, [ATTACK], progress=False, adaptive=False, audit=False
        ).robust_accuracy
        for name, pair in data.items()
    }


class Seen(keras.callbacks.Callback):
    """The names in the logs of each epoch, for callbacks further on."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_epoch_end(self, epoch, logs=None):
        self.names.append({n for n in logs if n.endswith("robust_accuracy")})


def defended(model):
    return AdversarialTraining(model, ATTACK)


@pytest.mark.parametrize("wrap", [lambda model: model, defended])
def test_robust_accuracy_is_that_of_evaluate(wrap):
    model = tiny_cnn()
    trained = wrap(model)
    trained.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    curves = RobustAccuracy(
        (X, Y), ATTACK, every=2, validation_data=(X_TEST, Y_TEST)
    )
    seen, before = Seen(), robust_accuracies(model)
    history = trained.fit(
        X, Y, epochs=5, batch_size=10, verbose=0, callbacks=[curves, seen]
    ).history
    both = {"robust_accuracy", "val_robust_accuracy"}
    assert seen.names == [both] * 5
    for name in both:
        first, second, third, fourth, fifth = history[name]
        assert first == before[name]
        assert second == third
        assert fourth == fifth
    trained.fit(
        X,
        Y,
        batch_size=10,
        verbose=0,
        initial_epoch=5,
        epochs=6,
        callbacks=[curves],
    )
    last = trained.history.history
    for name, expected in robust_accuracies(model).items():
        assert last[name] == [expected]
    assert max(fn.traces for fn in compiled_functions(model).values()) == 1


def test_without_validation_data_there_is_one_curve():
    model = tiny_cnn()
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    history = model.fit(
        X, Y, verbose=0, callbacks=[RobustAccuracy((X, Y), ATTACK, every=1)]
    ).history
    assert set(history) == {"loss", "robust_accuracy"}


@pytest.mark.parametrize("every", [0, 1.5])
def test_an_odd_number_of_epochs_is_refused(every):
    with pytest.raises(ValueError) as error:
        RobustAccuracy((X, Y), ATTACK, every=every)
    assert str(error.value) == (
        "Argument `every` must be an integer of at least 1. Received: "
        f"every={every!r}"
    )


def test_what_is_no_attack_is_refused():
    with pytest.raises(ValueError) as error:
        RobustAccuracy((X, Y), "pgd20")
    assert str(error.value) == (
        "Argument `attack` must be a keras_wp.attacks.Attack. Received: str"
    )


def dataset(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(7)


def train(model, *callbacks, **arguments):
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model.fit(
        X, Y, verbose=0, callbacks=list(callbacks), **arguments
    ).history


@pytest.mark.parametrize("form", [lambda x, y: (x, y), dataset])
@pytest.mark.parametrize(
    "x, y, told",
    [
        (
            255 * X,
            Y,
            "Images must lie within the bounds (0.0, 1.0). Received: values "
            "from ",
        ),
        (X, Y + 1, "Labels must lie in [0, 5), as the model has 5 classes. "),
        (
            np.repeat(X, 2, axis=1),
            Y,
            "The model takes images of the shape ",
        ),
    ],
)
def test_unsound_data_are_refused_before_the_training(form, x, y, told):
    model = tiny_cnn()
    before = snapshot(model)
    curve = RobustAccuracy((X, Y), ATTACK, validation_data=form(x, y))
    assert message_of(train, model, curve).startswith(told)
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("form", [lambda x, y: (x, y), dataset])
def test_a_softmax_is_seen_through(form):
    model = tiny_cnn()
    ended = keras.Sequential([model, keras.layers.Softmax()])
    ended.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    curve = RobustAccuracy(form(X, Y), ATTACK, every=1)
    found = ended.fit(X, Y, verbose=0, callbacks=[curve]).history
    expected = robust_accuracies(model)["robust_accuracy"]
    assert found["robust_accuracy"] == [expected]


def test_attacks_that_do_not_fit_are_refused_before_the_training():
    attack = attacks.PGD(
        eps=0.1, steps=1, surrogate=keras_wp.Surrogate(activation="linear")
    )
    curve = RobustAccuracy((X, Y), attack)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    before = snapshot(model)
    assert "activation" in message_of(train, model, curve)
    np.testing.assert_array_equal(before[0], snapshot(model)[0])


def test_data_without_an_end_are_refused_at_once():
    assert message_of(RobustAccuracy, dataset(X, Y).repeat(), ATTACK) == (
        "`data` must end: take the `repeat()` out of it, or use `take`. "
        "Received: an endless dataset"
    )
    once = ((x, y) for x, y in [(X, Y)])
    assert message_of(RobustAccuracy, once, ATTACK) == (
        "`data` must be readable more than once, as each attack reads it. "
        "Received: a one-time generator"
    )


class Break(keras.callbacks.Callback):
    """Makes the weights NaN at the end of the third epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            model = getattr(self.model, "undefended", self.model)
            model.set_weights([w * np.nan for w in model.get_weights()])


@pytest.mark.parametrize("wrap", [lambda model: model, defended])
def test_weights_that_break_leave_the_history(wrap):
    curve = RobustAccuracy((X, Y), ATTACK, every=2)
    with pytest.warns(UserWarning, match="epoch 4 on: The model's weights"):
        history = train(wrap(tiny_cnn()), curve, Break(), epochs=6)
    assert len(history["loss"]) == 6
    values = np.array(history["robust_accuracy"])
    np.testing.assert_array_equal(np.isnan(values), [0, 0, 0, 1, 1, 1])


def test_a_logger_and_monitors_see_every_value(tmp_path):
    model = tiny_cnn()
    curve = RobustAccuracy(
        (X, Y), ATTACK, every=2, validation_data=(X_TEST, Y_TEST)
    )
    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    stop = keras.callbacks.EarlyStopping(
        "val_robust_accuracy", mode="max", patience=9
    )
    history = train(model, curve, logger, stop, epochs=4)
    head, *rows = (tmp_path / "log.csv").read_text().split()
    columns = dict(
        zip(
            head.split(","),
            zip(*(row.split(",") for row in rows), strict=True),
            strict=True,
        )
    )
    for name in ("robust_accuracy", "val_robust_accuracy"):
        assert [float(value) for value in columns[name]] == history[name]


def test_the_accuracy_of_the_training_keeps_a_name():
    defense = defended(tiny_cnn())
    defense.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    alone = defense.fit(X, Y, verbose=0, shuffle=False).history
    curve = RobustAccuracy((X, Y), ATTACK)
    both = defense.fit(X, Y, verbose=0, callbacks=[curve]).history
    assert set(both) == set(alone) | {"training_robust_accuracy"}
    expected = robust_accuracies(defense)["robust_accuracy"]
    assert both["robust_accuracy"] == [expected]


def test_the_penalty_is_told_apart_from_the_loss():
    head = keras_wp.RobustHead(5, alpha=3.0)
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), head]
    )
    history = train(
        model,
        keras_wp.callbacks.Penalty(),
        validation_data=(X_TEST, Y_TEST),
        epochs=2,
    )
    penalty = float(to_numpy(head.losses[0]))
    assert history["penalty"][1] == pytest.approx(penalty, rel=1e-6)
    assert history["penalty"][0] > history["penalty"][1]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(to_numpy(loss(Y_TEST, model(X_TEST))))
    entropy = history["val_loss"][1] - penalty
    assert entropy == pytest.approx(expected, abs=1e-3)


def test_a_defense_keeps_the_penalty_that_it_has_measured():
    defense = defended(tiny_cnn(kernel_regularizer=keras.regularizers.L2(0.1)))
    alone = train(defense)["penalty"]
    again = train(defense, keras_wp.callbacks.Penalty())["penalty"]
    assert alone[0] > again[0] > 0
