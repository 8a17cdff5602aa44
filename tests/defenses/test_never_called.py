"""Models that have no weights yet when a defense is to train them."""

import keras
import numpy as np
import pytest
from helpers import message_of
from trained import CLASSES, SHAPE, SHIFT, X, Y, compiled

from keras_wp.defenses import AdversarialTraining


class Within(keras.Model):
    """A subclassed model of other layers, which has no weights yet."""

    def __init__(self, *inner):
        super().__init__()
        self.inner = keras.Sequential([keras.layers.Flatten(), *inner])

    def call(self, x):
        return self.inner(x)


def never_called(*inner):
    return keras.Sequential([keras.layers.Flatten(), *inner])


@pytest.mark.parametrize(
    "make, last, told",
    [
        (Within, "softmax", "The model must return logits"),
        (never_called, "softmax", "Argument `model` must return logits"),
        (never_called, "sigmoid", "Argument `model` must return logits"),
    ],
)
def test_models_never_called_are_looked_at_too(make, last, told):
    model = make(keras.layers.Dense(CLASSES, activation=last))
    defense = compiled(AdversarialTraining(model, SHIFT))
    for work in (defense.fit, defense.train_on_batch):
        assert message_of(work, X, Y).startswith(told)


@pytest.mark.parametrize("make", [Within, never_called])
def test_models_never_called_train_as_others_do(make):
    losses = []
    for built in (False, True):
        keras.utils.set_random_seed(0)
        drop = keras.layers.Dropout(0.5)
        model = make(drop, keras.layers.Dense(CLASSES))
        if built:
            model(X)
        defense = compiled(AdversarialTraining(model, SHIFT))
        losses += defense.fit(X, Y, verbose=0).history["loss"]
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])


@pytest.mark.filterwarnings("ignore:.*build:UserWarning")
def test_a_model_that_cannot_be_built_is_told_of():
    model = Within(keras.layers.Conv2D(2, 3))
    defense = compiled(AdversarialTraining(model, SHIFT))
    assert message_of(defense.fit, X, Y) == (
        f"The model must take images of the shape {SHAPE}. Received: one that "
        "was never called, and cannot be with them"
    )
