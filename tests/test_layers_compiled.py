"""Heads of logits that are trained with a loss of probabilities."""

import functools

import keras
import numpy as np
import pytest
from helpers import message_of, to_numpy

from keras_wp import attacks, layers
from keras_wp.defenses import AdversarialTraining

X = np.random.default_rng(0).random((12, 6), dtype=np.float32)
Y = np.arange(12) % 3


def sequential(head):
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), head])


def functional(head):
    inputs = keras.Input((6,))
    return keras.Model(inputs, head(keras.layers.Dense(4)(inputs)))


def nested(head):
    inputs = keras.Input((6,))
    return keras.Model(inputs, sequential(head)(inputs))


@pytest.mark.parametrize("make", [sequential, functional, nested])
@pytest.mark.parametrize("kind", [layers.RobustHead, layers.HypersphereHead])
@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
        [keras.losses.SparseCategoricalCrossentropy()],
    ],
    ids=["name", "short name", "function", "object", "list"],
)
def test_a_loss_of_probabilities_is_refused_before_a_step(make, kind, loss):
    model = make(kind(3))
    model.compile(keras.optimizers.SGD(1.0), loss)
    before = [to_numpy(w) for w in model.trainable_weights]
    shown = loss[0] if isinstance(loss, list) else loss
    for train in (model.fit, model.train_on_batch):
        assert message_of(train, X, Y) == (
            f"A {kind.__name__} returns logits, and needs a loss of logits, "
            "such as keras.losses.SparseCategoricalCrossentropy("
            f"from_logits=True). Received: loss={shown!r}"
        )
    for old, new in zip(before, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, to_numpy(new))


def softmaxed(head):
    return keras.Sequential([sequential(head), keras.layers.Softmax()])


def own(y_true, y_pred):
    return keras.ops.sum(keras.ops.square(y_pred), axis=-1)


@pytest.mark.parametrize(
    "make, loss",
    [
        (sequential, keras.losses.SparseCategoricalCrossentropy(True)),
        (
            sequential,
            functools.partial(
                keras.losses.sparse_categorical_crossentropy, from_logits=True
            ),
        ),
        (sequential, own),
        (softmaxed, "sparse_categorical_crossentropy"),
    ],
    ids=["object", "partial", "own", "softmax"],
)
def test_other_losses_are_not(make, loss):
    model = make(layers.RobustHead(3))
    model.compile(keras.optimizers.SGD(0.1), loss)
    history = model.fit(X, Y, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_what_the_model_was_compiled_with_is_nothing_to_a_defense():
    model = sequential(layers.RobustHead(3))
    model.compile("sgd", "sparse_categorical_crossentropy")
    defense = AdversarialTraining(model, attacks.PGD(eps=0.1, steps=1))
    defense.compile(keras.optimizers.SGD(0.1))
    history = defense.fit(X, Y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
