import dataclasses

import keras
import numpy as np
import pytest
from helpers import (
    linear_logits,
    linear_model,
    message_of,
    random_images,
    tiny_cnn,
    to_numpy,
)
from keras import ops
from trained import (
    CLASSES,
    COUNT,
    DEFENSES,
    SHAPE,
    SHIFT,
    X_ADV,
    Shift,
    X,
    Y,
    compiled,
    steps,
)

import keras_wp
from keras_wp import attacks
from keras_wp.defenses import MART, TRADES, AdversarialTraining

BETA = {TRADES: 6.0, MART: 5.0}

WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 1.0, 3.0, 0.1], np.float32)


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def numpy_loss(kind, clean, attacked, y, weights=1.0):
    """The loss of a defense in float64, from logits."""
    rows = np.arange(len(y))
    log_q = log_softmax(attacked)
    if kind is AdversarialTraining:
        return (weights * -log_q[rows, y]).mean()
    log_p = log_softmax(clean)
    p, q = np.exp(log_p), np.exp(log_q)
    divergence = (p * (log_p - log_q)).sum(-1)
    if kind is TRADES:
        values = -log_p[rows, y] + BETA[kind] * divergence
    else:
        others = q.copy()
        others[rows, y] = 0
        values = -log_q[rows, y] - np.log(1 - others.max(-1))
        values += BETA[kind] * divergence * (1 - p[rows, y])
    return (weights * values).mean()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("kind", DEFENSES)
def test_loss_is_that_of_numpy_on_fixed_logits(kind, weights, kernel, bias):
    defense = compiled(kind(linear_model(kernel, bias), SHIFT))
    loss, _ = defense.training_loss(
        ops.convert_to_tensor(X),
        ops.convert_to_tensor(X_ADV),
        ops.convert_to_tensor(Y.astype(np.int32)),
        None if weights is None else ops.convert_to_tensor(weights),
    )
    expected = numpy_loss(
        kind,
        linear_logits(kernel, bias, X),
        linear_logits(kernel, bias, X_ADV),
        Y,
        1.0 if weights is None else weights,
    )
    np.testing.assert_allclose(to_numpy(loss), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", DEFENSES)
def test_a_step_trains_on_what_the_attack_makes_of_the_images(
    kind, kernel, bias
):
    defense = compiled(
        kind(linear_model(kernel, bias), SHIFT), weighted_metrics=["accuracy"]
    )
    logs = defense.train_on_batch(X, Y, WEIGHTS, return_dict=True)
    clean = linear_logits(kernel, bias, X)
    attacked = linear_logits(kernel, bias, X + 0.25)
    expected = numpy_loss(kind, clean, attacked, Y, WEIGHTS)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    passes = {"robust": attacked}
    if kind is not AdversarialTraining:
        passes["clean"] = clean
    rows = np.arange(COUNT)
    measured = {"loss", "penalty"}
    for name, logits in passes.items():
        accuracy = np.average(logits.argmax(-1) == Y, weights=WEIGHTS)
        found = logs[f"{name}_accuracy"]
        np.testing.assert_allclose(found, accuracy, rtol=1e-6)
        found = logs[f"{name}_cross_entropy"]
        expected = -log_softmax(logits)[rows, Y].mean()
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        measured |= {f"{name}_accuracy", f"{name}_cross_entropy"}
    assert set(logs) == measured
    listed = defense.train_on_batch(X, Y, WEIGHTS)
    names = [name for name in ("clean", "robust") if name in passes]
    np.testing.assert_allclose(
        listed,
        [logs["loss"], *(logs[f"{name}_accuracy"] for name in names)],
        rtol=1e-6,
    )


def test_pgd_runs_in_the_step_as_by_itself(kernel, bias):
    attack = attacks.PGD(eps=0.2, steps=3, step_size=0.05, random_start=False)
    model = linear_model(kernel, bias)
    labels = linear_logits(kernel, bias, X).argmax(-1)
    x_adv = X + 0.0
    weights = kernel.reshape(-1, CLASSES)
    for _ in range(3):
        p = np.exp(log_softmax(linear_logits(kernel, bias, x_adv)))
        slope = (p - np.eye(CLASSES)[labels]) @ weights.T
        x_adv = x_adv + 0.05 * np.sign(slope).reshape(x_adv.shape)
        x_adv = np.clip(X + np.clip(x_adv - X, -0.2, 0.2), 0, 1)
    logs = compiled(AdversarialTraining(model, attack)).train_on_batch(
        X, labels, return_dict=True
    )
    attacked = linear_logits(kernel, bias, x_adv)
    expected = numpy_loss(AdversarialTraining, None, attacked, labels)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_trades_maximizes_the_divergence_from_near_the_image(kernel, bias):
    given = attacks.PGD(eps=0.1, steps=10, step_size=0.02, bounds=(0.0, 2.0))
    defense = compiled(TRADES(linear_model(kernel, bias), given))
    assert defense.attack == dataclasses.replace(
        given, loss="kl_divergence", random_start="normal"
    )
    first = defense.train_on_batch(X, Y, return_dict=True)["loss"]
    clean = linear_logits(kernel, bias, X)
    least = numpy_loss(TRADES, clean, clean, Y)
    random = np.random.default_rng(0).uniform(-0.1, 0.1, (100, *X.shape))
    tried = [
        numpy_loss(TRADES, clean, linear_logits(kernel, bias, x), Y)
        for x in np.clip(X + random, 0, 2)
    ]
    assert least < max(tried) < first


@pytest.mark.parametrize("kind", DEFENSES)
def test_which_passes_move_batch_normalization(kind, rng):
    momentum = 0.8
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.BatchNormalization(momentum=momentum),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    norm = model.layers[0]
    defense = compiled(kind(model, SHIFT), metrics=["accuracy"])
    defense.evaluate(X, Y, verbose=0)
    defense(X, training=True)
    np.testing.assert_array_equal(to_numpy(norm.moving_mean), 0)
    defense.train_on_batch(X, Y)
    passes = [X + 0.25]
    if kind is not AdversarialTraining:
        passes = [X, X + 0.25]
    mean, variance = 0.0, 1.0
    for x in passes:
        mean = momentum * mean + (1 - momentum) * x.mean()
        variance = momentum * variance + (1 - momentum) * x.var()
    np.testing.assert_allclose(to_numpy(norm.moving_mean), mean, rtol=1e-5)
    np.testing.assert_allclose(
        to_numpy(norm.moving_variance), variance, rtol=1e-5
    )


@pytest.mark.once
@pytest.mark.parametrize("kind", DEFENSES)
def test_penalties_of_the_model_are_counted_once(kind, kernel, bias):
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(
        CLASSES,
        kernel_regularizer=keras.regularizers.L2(0.3),
        activity_regularizer=keras.regularizers.L2(0.01),
    )
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    dense.set_weights([kernel.reshape(-1, CLASSES), bias])
    defense = compiled(kind(model, SHIFT))
    logs = defense.train_on_batch(X, Y, return_dict=True)
    clean = linear_logits(kernel, bias, X)
    attacked = linear_logits(kernel, bias, X + 0.25)
    # Of the first pass: that of the clean images, if there is one.
    activity = attacked if kind is AdversarialTraining else clean
    expected = numpy_loss(kind, clean, attacked, Y)
    penalty = 0.3 * (kernel**2).sum() + 0.01 * (activity**2).sum() / COUNT
    np.testing.assert_allclose(logs["penalty"], penalty, rtol=1e-5)
    expected += penalty
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_the_penalty_of_a_robust_head_is_learned(rng):
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras_wp.RobustHead(CLASSES, alpha=100.0),
        ]
    )
    head = model.layers[-1]
    before = float(head.losses[0])
    defense = AdversarialTraining(model, SHIFT)
    compiled(defense, keras.optimizers.Adam(0.03))
    defense.fit(X, Y, epochs=40, verbose=0)
    assert float(head.losses[0]) < before / 10


@pytest.mark.once
@pytest.mark.parametrize("kind", DEFENSES)
def test_class_weights_are_weights_of_the_images(kind, kernel, bias):
    by_class = {0: 0.5, 1: 2.0, 2: 1.0, 3: 3.0}
    defense = compiled(kind(linear_model(kernel, bias), SHIFT))
    logs = defense.train_on_batch(X, Y, class_weight=by_class, return_dict=True)
    expected = numpy_loss(
        kind,
        linear_logits(kernel, bias, X),
        linear_logits(kernel, bias, X + 0.25),
        Y,
        np.array([by_class[label] for label in Y]),
    )
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


@pytest.mark.once
def test_evaluation_and_prediction_are_those_of_the_model():
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    defense = compiled(AdversarialTraining(model, SHIFT), metrics=["accuracy"])
    history = defense.fit(
        X, Y, batch_size=4, validation_data=(X, Y), verbose=0
    ).history
    expected = model.evaluate(X, Y, verbose=0, return_dict=True)
    found = defense.evaluate(X, Y, verbose=0, return_dict=True)
    assert found.keys() == {"loss", "clean_accuracy"}
    for name, value in found.items():
        expected_value = expected[name.removeprefix("clean_")]
        np.testing.assert_allclose(value, expected_value, rtol=1e-5)
        np.testing.assert_allclose(history[f"val_{name}"], value, rtol=1e-5)
    assert "clean_accuracy" not in history
    np.testing.assert_allclose(
        defense.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6
    )


def test_noise_differs_from_step_to_step_and_repeats_with_the_seed(
    kernel, bias
):
    attack = attacks.PGD(eps=0.3, steps=1, step_size=0.01)
    model = linear_model(kernel, bias)
    runs = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        runs.append(steps(compiled(AdversarialTraining(model, attack))))
    assert len(set(runs[0])) == 3
    assert runs[0] == runs[1]
    assert not set(runs[0]) & set(runs[2])


def test_the_seed_of_the_attack_has_no_part(kernel, bias):
    model, runs = linear_model(kernel, bias), []
    for seed in (0, 5):
        keras.utils.set_random_seed(0)
        attack = attacks.PGD(eps=0.3, steps=1, step_size=0.01, seed=seed)
        runs.append(steps(compiled(AdversarialTraining(model, attack))))
    assert runs[0] == runs[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftByLogits(Shift):
    """Adds a hundredth of the first clean logit to every pixel."""

    needs_clean_logits = True

    def step(self, problem, state):
        x_adv = state["x_adv"]
        shift = 0.01 * problem.clean_logits[:, 0]
        shift = ops.reshape(shift, (-1, 1, 1, 1))
        return {**state, "x_adv": x_adv + shift}, (x_adv, None)


def test_an_attack_may_read_the_clean_logits(kernel, bias):
    attack = ShiftByLogits(eps=0.3)
    defense = AdversarialTraining(linear_model(kernel, bias), attack)
    logs = compiled(defense).train_on_batch(X, Y, return_dict=True)
    shift = 0.01 * linear_logits(kernel, bias, X)[:, 0].reshape(-1, 1, 1, 1)
    attacked = linear_logits(kernel, bias, X + shift)
    expected = numpy_loss(AdversarialTraining, None, attacked, Y)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_training_works_under_a_mixed_policy(policy, backend):
    keras.config.set_dtype_policy(policy)
    model, x = tiny_cnn(), random_images(8)
    defense = TRADES(model, attacks.PGD(eps=0.1, steps=1))
    compiled(defense, keras.optimizers.Adam(0.01))
    assert defense.dtype_policy.name == policy
    scaled = isinstance(defense.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    before = to_numpy(model.layers[0].kernel)
    history = defense.fit(x, np.arange(8) % 5, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = to_numpy(model.layers[0].kernel)
    assert after.dtype == np.float32
    assert np.abs(after - before).max() > 0


def test_exporting_writes_the_inner_model(tmp_path, backend):
    if backend != "tensorflow":
        pytest.skip("test_layers exports from JAX too")
    import tensorflow as tf

    model, x = tiny_cnn(), random_images(4)
    AdversarialTraining(model, SHIFT).export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(
        to_numpy(loaded.serve(x)), to_numpy(model(x)), atol=1e-5
    )


def test_weights_of_a_defense_take_training_up_again(tmp_path, kernel, bias):
    attack = attacks.PGD(eps=0.3, steps=1, step_size=0.01)

    def fresh():
        model = linear_model(kernel, bias)
        defense = AdversarialTraining(model, attack)
        compiled(defense, keras.optimizers.Adam(0.01))
        defense.optimizer.build(defense.trainable_variables)
        return defense

    defense = fresh()
    defense.train_on_batch(X, Y)
    defense.save_weights(tmp_path / "defense.weights.h5")
    expected = steps(defense)
    again = fresh()
    again.load_weights(tmp_path / "defense.weights.h5")
    assert steps(again) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("model", [None, len, keras.layers.Dense(2)])
def test_what_is_no_model_is_refused(model):
    assert message_of(AdversarialTraining, model, SHIFT) == (
        "Argument `model` must be a Keras model, and no defense. Received: "
        f"{type(model).__name__}"
    )


def test_a_defense_within_a_defense_is_refused():
    inner = AdversarialTraining(tiny_cnn(), SHIFT)
    assert message_of(MART, inner, SHIFT) == (
        "Argument `model` must be a Keras model, and no defense. Received: "
        "AdversarialTraining"
    )
