"""Other ends for existing networks."""

import doctest

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, to_numpy
from keras import ops

import keras_wp
from keras_wp import convert

pytestmark = pytest.mark.once


SHAPE, CLASSES = (6, 6, 1), 3
X = random_images(7, SHAPE)


def backbone():
    return [
        keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5),
    ]


def called(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def sequential(*end):
    return keras.Sequential([keras.Input(SHAPE), *backbone(), *end])


def functional(*end):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, called([*backbone(), *end], inputs))


def nested(*end):
    """Whose end is in a model within a model."""
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, sequential(*end)(inputs))


def ended(*end):
    """Whose end is a model by itself."""
    return sequential(keras.Sequential(end))


def branched(*end):
    """Whose features come from two branches."""
    inputs = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(inputs)
    features = keras.layers.Concatenate()([flat, ops.square(flat)])
    return keras.Model(inputs, called(end, features))


MAKES = [sequential, functional, nested, ended, branched]
# By its name: what ends a model, and its function.
ENDS = {
    "activation": lambda: [keras.layers.Dense(CLASSES, activation="softmax")],
    "layer": lambda: [keras.layers.Dense(CLASSES), keras.layers.Softmax()],
    "Activation": lambda: [
        keras.layers.Dense(CLASSES),
        keras.layers.Activation("softmax"),
    ],
    "identity": lambda: [
        keras.layers.Dense(CLASSES, activation="softmax"),
        keras.layers.Activation("linear"),
    ],
    "sigmoid": lambda: [keras.layers.Dense(CLASSES, activation="sigmoid")],
}


def squash(name, logits):
    return to_numpy(
        ops.sigmoid(logits) if name == "sigmoid" else ops.softmax(logits)
    )


def reloaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("name", ENDS)
def test_logits_are_those_of_the_model(make, name, tmp_path):
    model = make(*ENDS[name]())
    before = to_numpy(model(X))
    logits = convert.to_logits(model)
    np.testing.assert_allclose(
        squash(name, logits(X)), before, rtol=1e-5, atol=1e-7
    )
    assert not np.allclose(to_numpy(logits(X)).sum(-1), 1)
    assert {id(w) for w in logits.weights} == {id(w) for w in model.weights}
    np.testing.assert_array_equal(to_numpy(model(X)), before)
    again = reloaded(logits, tmp_path)
    np.testing.assert_allclose(to_numpy(again(X)), to_numpy(logits(X)))
    assert convert.to_logits(logits) is logits


def test_weights_are_trained_in_both():
    model = sequential(keras.layers.Dense(CLASSES, activation="softmax"))
    logits = convert.to_logits(model)
    logits.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    before = to_numpy(model.layers[-1].kernel)
    logits.fit(X, np.arange(7) % CLASSES, verbose=0)
    assert np.abs(to_numpy(model.layers[-1].kernel) - before).max() > 1e-4
    np.testing.assert_allclose(
        to_numpy(ops.softmax(logits(X))), to_numpy(model(X)), atol=1e-6
    )


@pytest.mark.parametrize("whole", [False, True])
def test_a_frozen_end_can_be_unfrozen(whole):
    model = sequential(keras.layers.Dense(CLASSES, activation="softmax"))
    frozen = model if whole else model.layers[-1]
    frozen.trainable = False
    last = convert.to_logits(model).layers[-1]
    assert not last.trainable_variables
    last.trainable = True
    assert last.trainable_variables == [last.kernel, last.bias]


def test_an_end_keeps_a_frozen_variable():
    model = sequential(keras.layers.Dense(CLASSES, activation="softmax"))
    model.layers[-1].kernel.trainable = False
    last = convert.to_logits(model).layers[-1]
    assert last.trainable_variables == [last.bias]


def test_an_operation_at_the_end_is_left_out():
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, ops.softmax(dense))
    logits = convert.to_logits(model)
    np.testing.assert_allclose(
        to_numpy(ops.softmax(logits(X))), to_numpy(model(X)), rtol=1e-5
    )


def test_logits_keep_the_type_of_the_probabilities():
    keras.config.set_dtype_policy("mixed_bfloat16")
    softmax = keras.layers.Activation("softmax", dtype="float32")
    model = functional(keras.layers.Dense(CLASSES), softmax)
    assert convert.to_logits(model).outputs[0].dtype == "float32"
    head = convert.to_robust_head(model).layers[-1]
    assert head.compute_dtype == "float32"


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("name", [*ENDS, "logits"])
def test_a_robust_head_sees_the_same_features(make, name, tmp_path):
    end = ENDS.get(name, lambda: [keras.layers.Dense(CLASSES)])()
    model = make(*end)
    before = to_numpy(model(X))
    robust = convert.to_robust_head(model, s=0.3, alpha=2.0)
    heads = [
        layer
        for layer in robust._flatten_layers()
        if isinstance(layer, keras_wp.RobustHead)
    ]
    (head,) = heads
    assert (head.units, head.s, head.alpha) == (CLASSES, 0.3, 2.0)
    assert len(robust.losses) == 1
    kept = {id(w) for w in robust.weights} & {id(w) for w in model.weights}
    assert len(kept) == len(model.weights) - 2 == len(robust.weights) - 1
    # With the old class weights and no activation, it is the old model.
    plain = convert.to_robust_head(model, activation=None)
    dense = next(
        layer
        for layer in model._flatten_layers()
        if type(layer) is keras.layers.Dense
    )
    plain.trainable_weights[-1].assign(dense.kernel)
    logits = plain(X) + dense.bias
    found = to_numpy(logits) if name == "logits" else squash(name, logits)
    np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-6)
    again = reloaded(robust, tmp_path)
    np.testing.assert_allclose(
        to_numpy(again(X)), to_numpy(robust(X)), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_array_equal(to_numpy(model(X)), before)


def test_a_head_by_conversion_trains_against_attacks():
    attack = keras_wp.attacks.PGD(eps=0.1, steps=1)
    model = sequential(keras.layers.Dense(CLASSES, activation="softmax"))
    robust = convert.to_robust_head(model)
    defense = keras_wp.defenses.TRADES(robust, attack)
    defense.compile(keras.optimizers.Adam(0.01))
    penalty = defense.fit(
        X, np.arange(7) % CLASSES, epochs=3, verbose=0
    ).history["penalty"]
    assert penalty[-1] < penalty[0]
    assert robust.layers[0] is model.layers[0]
    assert convert.to_logits(defense) is robust


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(ops.reshape(x, (-1, 36)))


def two_outputs():
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(3)
    return keras.Model(inputs, [dense(inputs), inputs])


@pytest.mark.parametrize(
    "make", [Subclassed, two_outputs, lambda: keras.Sequential([])]
)
@pytest.mark.parametrize(
    "function", [convert.to_logits, convert.to_robust_head]
)
def test_what_has_no_end_to_change_is_refused(make, function):
    model = make()
    assert message_of(function, model) == (
        "The model must be a sequential or functional Keras model of "
        f"one output. Received: a {type(model).__name__}"
    )


def test_other_ends_are_refused():
    lambda_end = [
        keras.layers.Dense(3),
        keras.layers.Lambda(ops.softmax, name="own"),
    ]
    assert message_of(convert.to_logits, sequential(*lambda_end)) == (
        "The model must end in a softmax or a sigmoid that is a layer or the "
        "activation of one. Received: 'own' of type Lambda at its end"
    )
    told = (
        "The model must end in a Dense layer on features (N, P), after which "
        "there is at most a softmax or a sigmoid. Received: {} at its end"
    )
    relu = keras.layers.Dense(3, activation="relu", name="last")
    assert message_of(convert.to_robust_head, sequential(relu)) == told.format(
        "'last' of type Dense"
    )
    pooled = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(3, 3),
            keras.layers.GlobalAveragePooling2D(name="pool"),
        ]
    )
    assert message_of(convert.to_robust_head, pooled) == told.format(
        "'pool' of type GlobalAveragePooling2D"
    )
    one = sequential(keras.layers.Dense(1, activation="sigmoid"))
    assert "units" in message_of(convert.to_robust_head, one)
    assert (
        message_of(
            convert.to_robust_head,
            keras.Sequential([keras.Input((3,)), keras.layers.Softmax()]),
        )
        == "The model must end in a Dense layer. Received: one without"
    )


def test_examples_of_the_docstrings():
    result = doctest.testmod(
        convert, extraglobs={"keras_wp": keras_wp, "keras": keras}
    )
    assert result == doctest.TestResults(failed=0, attempted=10)
