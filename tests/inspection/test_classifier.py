import functools
import gc
import weakref

import keras
import numpy as np
import pytest
from helpers import (
    mixed_labels,
    predictions,
    random_images,
    snapshot,
    tiny_cnn,
    to_numpy,
)
from keras import ops

from keras_wp import _backend
from keras_wp.attacks import FGSM, PGD
from keras_wp.inspection.classifier import Classifier

ATTACK = PGD(eps=0.1, steps=3)


def attack_once(model, x, attack=ATTACK):
    logits = model(ops.convert_to_tensor(x))
    return attack(model, x, to_numpy(logits).argmax(-1))


def is_freed(reference):
    gc.collect()
    return reference() is None


class Owner:
    """A model that is none of Keras's: a NumPy kernel and two ways in."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.kernel = rng.normal(size=(36, 5)).astype(np.float32)

    def logits(self, x):
        flat = ops.reshape(x, (-1, 36))
        return ops.matmul(flat, ops.convert_to_tensor(self.kernel))

    def __call__(self, x):
        return self.logits(x)


def test_logits_are_those_of_the_model_in_inference():
    model, x = tiny_cnn(dropout=0.5), random_images(5)
    expected = to_numpy(model(ops.convert_to_tensor(x), training=False))
    np.testing.assert_array_equal(to_numpy(Classifier(model)(x)), expected)
    compiled = Classifier(model).compile("key", lambda: Classifier(model))
    np.testing.assert_allclose(to_numpy(compiled(x)), expected, atol=1e-5)


def test_a_keras_model_is_freed_after_an_attack():
    model, x = tiny_cnn(), random_images(5)
    attack_once(model, x)
    reference = weakref.ref(model)
    del model
    assert is_freed(reference)


def test_a_callable_is_freed_after_an_attack():
    owner, x = Owner(), random_images(5)
    attack_once(owner, x)
    reference = weakref.ref(owner)
    del owner
    assert is_freed(reference)


def test_the_owner_of_a_bound_method_is_freed_after_an_attack():
    owner, x = Owner(), random_images(5)
    attack_once(owner.logits, x)
    reference = weakref.ref(owner)
    del owner
    assert is_freed(reference)


@pytest.mark.once
def test_a_model_behind_a_lambda_is_freed_after_an_attack():
    def attacked():
        model = tiny_cnn()
        attack_once(lambda x: 2.0 * model(x), random_images(5))
        return weakref.ref(model)

    assert is_freed(attacked())


def test_a_classifier_keeps_no_keras_model_alive():
    model = tiny_cnn()
    classifier = Classifier(model)
    assert classifier.model is model
    reference = weakref.ref(model)
    del model
    assert is_freed(reference)


@pytest.mark.once
def test_a_classifier_keeps_a_callable_that_nobody_else_holds():
    owner, x = Owner(), random_images(3)
    expected = to_numpy(owner(ops.convert_to_tensor(x)))
    for classifier in (
        Classifier(owner.logits),
        Classifier(lambda x: owner(x)),
        Classifier(functools.partial(owner.logits)),
    ):
        gc.collect()
        np.testing.assert_array_equal(to_numpy(classifier(x)), expected)


@pytest.mark.parametrize("attack", [FGSM(eps=0.1), ATTACK])
def test_fresh_weights_of_a_keras_model_are_seen(attack):
    x = random_images(20)
    model, other = tiny_cnn(seed=0), tiny_cnn(seed=7)
    before = attack_once(model, x, attack)
    model.set_weights(other.get_weights())
    after = attack_once(model, x, attack)
    np.testing.assert_allclose(after, attack_once(other, x, attack), atol=1e-6)
    assert not np.allclose(before, after)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["object", "method", "lambda", "keras"])
def test_fresh_weights_behind_a_callable_are_seen(kind):
    x = random_images(20)
    owner, other = Owner(0), Owner(1)
    model = {
        "object": owner,
        "method": owner.logits,
        "lambda": lambda x: owner(x),
    }
    if kind == "keras":
        owner, other = tiny_cnn(seed=0), tiny_cnn(seed=7)
        model["keras"] = lambda x: owner(x)
    model = model[kind]
    before = attack_once(model, x)
    if kind == "keras":
        owner.set_weights(other.get_weights())
    else:
        owner.kernel = other.kernel
    after = attack_once(model, x)
    np.testing.assert_allclose(after, attack_once(other, x), atol=1e-6)
    assert not np.allclose(before, after)


def test_a_trained_step_is_seen():
    model, x = tiny_cnn(), random_images(64)
    y = mixed_labels(model, x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    attack_once(model, x)
    model.fit(x, y, verbose=0)
    twin = tiny_cnn()
    twin.set_weights(model.get_weights())
    np.testing.assert_allclose(
        attack_once(model, x), attack_once(twin, x), atol=1e-6
    )


def test_compiled_functions_are_kept_with_a_model():
    model, x = tiny_cnn(), random_images(5)
    made = []

    def make():
        made.append(1)
        return lambda x: 2.0 * x

    for _ in range(2):
        doubled = Classifier(model).compile(("double", 1), make)
        np.testing.assert_array_equal(to_numpy(doubled(x)), 2 * x)
    assert len(made) == 1
    Classifier(model).compile(("double", 2), make)
    Classifier(tiny_cnn()).compile(("double", 1), make)
    assert len(made) == 3


@pytest.mark.parametrize("change", ["pop", "activation"])
def test_other_layers_or_activations_are_seen(change):
    softmax = {"pop": None, "activation": "softmax"}[change]
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation=softmax),
        ]
    )
    if change == "pop":
        model.add(keras.layers.Softmax())
    x = random_images(5)

    def logits():
        classifier = Classifier(model)
        compiled = classifier.compile("key", lambda: classifier)
        return to_numpy(compiled(ops.convert_to_tensor(x)))

    np.testing.assert_allclose(logits().sum(-1), 1, rtol=1e-5)
    if change == "pop":
        model.pop()
    else:
        model.layers[-1].activation = keras.activations.linear
    expected = to_numpy(model.layers[-1](x.reshape(5, 36)))
    np.testing.assert_allclose(logits(), expected, atol=1e-5)


def test_another_configuration_is_seen():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Rescaling(2.0), Shapeless()]
    )

    def logits():
        classifier = Classifier(model)
        compiled = classifier.compile("key", lambda: classifier)
        return to_numpy(compiled(ops.ones((2, 3))))

    np.testing.assert_array_equal(logits(), 2)
    model.layers[0].scale = 30.0
    np.testing.assert_array_equal(logits(), 30)


class Shapeless(keras.layers.Layer):
    """A layer that cannot tell its configuration."""

    def __init__(self, unknown=None):
        super().__init__()

    def call(self, inputs):
        return inputs

    def get_config(self):
        raise NotImplementedError


@pytest.mark.parametrize("change", ["lora", "quantize"])
def test_other_variables_are_seen(change):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    x = random_images(5)

    def logits():
        classifier = Classifier(model)
        compiled = classifier.compile("key", lambda: classifier)
        return to_numpy(compiled(ops.convert_to_tensor(x)))

    before = logits()
    if change == "lora":
        dense = model.layers[-1]
        dense.enable_lora(2)
        dense.lora_kernel_b.assign(np.ones((2, 5)))
    else:
        model.layers[-1].quantize("int8")
    after = to_numpy(model(ops.convert_to_tensor(x)))
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(logits(), after, atol=1e-5)


def test_compiled_functions_of_a_callable_are_kept_with_its_classifier():
    owner = Owner()
    made = []

    def make():
        made.append(1)
        return owner

    classifier = Classifier(owner)
    classifier.compile("key", make)
    classifier.compile("key", make)
    assert len(made) == 1


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_nothing_in_a_model_changes(dropout):
    model, x = tiny_cnn(dropout=dropout), random_images(40)
    before = snapshot(model)
    attack_once(model, x)
    FGSM(eps=0.1, norm="l2")(model, x, np.zeros(40, int))
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_losses_of_a_model_are_those_of_its_next_call():
    model, x = tiny_cnn(activity_regularizer="l2"), random_images(5)
    attack_once(model, x)
    model(ops.convert_to_tensor(x))
    assert len(model.losses) == 1 and float(model.losses[0]) > 0


def test_dropout_is_off():
    model, x = tiny_cnn(dropout=0.9), random_images(20)
    np.testing.assert_array_equal(attack_once(model, x), attack_once(model, x))
    plain = tiny_cnn()
    plain.set_weights(model.get_weights()[: len(plain.get_weights())])
    np.testing.assert_allclose(
        attack_once(model, x), attack_once(plain, x), atol=1e-6
    )


def test_a_callable_with_a_training_switch_is_called_with_it_off():
    model, x = tiny_cnn(), random_images(5)
    switches = []

    def switched(x, training=True):
        switches.append(training)
        return model(x, training=training)

    ATTACK(switched, x, predictions(model, x))
    assert set(switches) == {False}
    Classifier(functools.partial(switched))(x)
    assert set(switches) == {False}


def test_a_callable_with_no_switch_is_called_without():
    class Silent(keras.layers.Layer):
        def call(self, x):
            return ops.reshape(x, (-1, 36))

    x = random_images(3)
    assert Classifier(Silent())(x).shape == (3, 36)
    assert Classifier(lambda x: ops.reshape(x, (-1, 36)))(x).shape == (3, 36)
    # Built-in functions have no signature to look at.
    assert Classifier(functools.partial(ops.reshape, newshape=(3, 36)))(
        x
    ).shape == (3, 36)


def test_a_model_that_was_never_called_is_built_outside_of_the_trace():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)])
    x = random_images(6)
    ATTACK(model, x, np.zeros(6, int))
    y = predictions(model, x)
    x_adv = ATTACK(model, x, y)
    assert (x_adv != x).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_models_give_float32_logits(policy):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((6, 6, 1))
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(inputs))
    model, x = keras.Model(inputs, outputs), random_images(20)
    assert keras.backend.standardize_dtype(model(x).dtype) != "float32"
    logits = Classifier(model)(x)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    _, pullback = _backend.vjp(Classifier(model), ops.convert_to_tensor(x))
    gradient = pullback(ops.ones_like(logits))
    assert keras.backend.standardize_dtype(gradient.dtype) == "float32"
    y = to_numpy(logits).argmax(-1)
    x_adv = ATTACK(model, x, y)
    assert x_adv.dtype == np.float32
    assert np.abs(x_adv - x).max() <= 0.1 + 1e-6
    assert (predictions(model, x_adv) != y).mean() > 0.5


def test_a_float64_model_gives_float32_logits(backend):
    if backend == "jax":
        pytest.skip("JAX computes in float32 unless told otherwise")
    model = tiny_cnn(dtype="float64")
    logits = Classifier(model)(random_images(3))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    attack_once(model, random_images(3))


@pytest.mark.once
@pytest.mark.parametrize("most", [1, 4])
def test_models_that_cut_their_images_are_attacked(most, monkeypatch):
    # Of the gradient of a slice, TensorFlow does not know the shape.
    monkeypatch.setattr(_backend, "steps_at_once", lambda: most)

    class Cut(keras.layers.Layer):
        def call(self, x):
            return ops.slice(x, (0, 1, 1, 0), (ops.shape(x)[0], 4, 4, 1))

    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            Cut(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = random_images(9)
    y = predictions(model, x)
    x_adv = PGD(eps=0.5, steps=5)(model, x, y)
    assert (predictions(model, x_adv) != y).any()
