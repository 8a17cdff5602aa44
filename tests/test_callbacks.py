import keras
import numpy as np
import pytest
from helpers import compiled_functions, plainly, random_images, tiny_cnn

from keras_wp import attacks
from keras_wp.callbacks import RobustAccuracy
from keras_wp.defenses import AdversarialTraining

X, Y = random_images(20), np.arange(20) % 5
X_TEST, Y_TEST = random_images(15, seed=3), np.arange(15) % 5
ATTACK = attacks.PGD(eps=0.05, steps=2)


class Seen(keras.callbacks.Callback):
    """The names in the logs of each epoch, for callbacks further on."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_epoch_end(self, epoch, logs=None):
        self.names.append({name for name in logs if "robust" in name})


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
    seen = Seen()
    history = trained.fit(
        X, Y, epochs=5, batch_size=10, verbose=0, callbacks=[curves, seen]
    ).history
    both = {"robust_accuracy", "val_robust_accuracy"}
    assert seen.names == [set(), both, set(), both, set()]
    assert len(history["robust_accuracy"]) == 2
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
    for name, data in (
        ("robust_accuracy", (X, Y)),
        ("val_robust_accuracy", (X_TEST, Y_TEST)),
    ):
        report = plainly(model, data, [ATTACK], progress=False)
        assert last[name] == [report.robust_accuracy]
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


@pytest.mark.parametrize(
    "data, told",
    [
        (
            (255 * X, Y),
            "Images must lie within the bounds (0.0, 1.0). Received: values "
            "from ",
        ),
        (
            (X, np.eye(10)[Y]),
            f"Labels must be integers of the shape ({len(Y)},). Received: "
            f"shape ({len(Y)}, 10) (one-hot labels? take their argmax)",
        ),
        (
            (np.repeat(X, 2, axis=1), Y),
            "The model takes images of the shape ",
        ),
    ],
)
def test_unsound_data_are_refused_before_the_training(data, told):
    model = tiny_cnn()
    model.compile("adam", "mse")
    curve = RobustAccuracy((X, Y), ATTACK, validation_data=data)
    curve.set_model(model)
    with pytest.raises(ValueError) as error:
        curve.on_train_begin()
    assert str(error.value).startswith(told)
