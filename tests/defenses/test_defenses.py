import dataclasses
import json

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
from processes import run_python

import keras_wp
from keras_wp import attacks
from keras_wp.defenses import MART, TRADES, AdversarialTraining

DEFENSES = [AdversarialTraining, TRADES, MART]
SHAPE, CLASSES, COUNT = (3, 2, 1), 4, 7
BETA = {TRADES: 6.0, MART: 5.0}
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 1.0, 3.0, 0.1], np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift(attacks.PGD):
    """Adds 0.25 to every pixel, whatever the model."""

    steps: int = 1

    def init(self, problem, run):
        return {"x_adv": problem.x}

    def step(self, problem, state):
        x_adv = state["x_adv"]
        return {**state, "x_adv": x_adv + 0.25}, (x_adv, None)


SHIFT = Shift(eps=0.3)


@pytest.fixture
def kernel(rng):
    return rng.normal(size=(*SHAPE, CLASSES)).astype(np.float32)


@pytest.fixture
def bias(rng):
    return rng.normal(size=CLASSES).astype(np.float32)


X, X_ADV = random_images(COUNT, SHAPE), random_images(COUNT, SHAPE, seed=2)
Y = np.arange(COUNT) % CLASSES


def compiled(defense, optimizer=None, **arguments):
    # Without a learning rate each step sees the same weights.
    optimizer = optimizer or keras.optimizers.SGD(0.0)
    defense.compile(optimizer, **arguments)
    return defense


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
    measured = clean if kind is TRADES else attacked
    accuracy = np.average(measured.argmax(-1) == Y, weights=WEIGHTS)
    np.testing.assert_allclose(logs["accuracy"], accuracy, rtol=1e-6)


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
    expected += 0.3 * (kernel**2).sum()
    expected += 0.01 * (activity**2).sum() / COUNT
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
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
        np.testing.assert_allclose(history[f"val_{name}"], value, rtol=1e-5)
    np.testing.assert_allclose(
        defense.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6
    )


def steps(defense, count=3):
    return [float(defense.train_on_batch(X, Y)) for _ in range(count)]


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


def test_saving_writes_the_inner_model(tmp_path):
    model, x = tiny_cnn(), random_images(4)
    defense = compiled(MART(model, SHIFT))
    defense.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_allclose(
        to_numpy(loaded(x)), to_numpy(model(x)), atol=1e-6
    )


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


def test_saving_the_defense_itself_is_refused():
    assert message_of(TRADES(tiny_cnn(), SHIFT).get_config) == (
        "A defense has no configuration of its own: save its inner model, by "
        "`defense.save(path)` or `defense.model.save(path)`, and wrap that "
        "after loading. Received: a call of `get_config` of TRADES"
    )


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


@pytest.mark.parametrize(
    "attack, message",
    [
        (
            "pgd20",
            "Argument `attack` must be a keras_wp.attacks.Attack. Received: "
            "str",
        ),
        (
            attacks.DeepFool(),
            "A defense needs an attack of one part with a budget of its own, "
            "such as PGD. Received: DeepFool50",
        ),
        (
            attacks.AutoAttack(eps=0.1),
            "A defense needs an attack of one part with a budget of its own, "
            "such as PGD. Received: AutoAttack",
        ),
        (
            attacks.PGD(eps=0.1, steps=2, targeted=True),
            "A defense needs an untargeted attack. Received: PGD2-targeted "
            "with targeted=True",
        ),
    ],
)
def test_attacks_that_cannot_train_are_refused(attack, message):
    assert message_of(AdversarialTraining, tiny_cnn(), attack) == message


def test_trades_wants_pgd():
    assert message_of(TRADES, tiny_cnn(), attacks.FGSM(eps=0.1)) == (
        "TRADES needs an attack of the type keras_wp.attacks.PGD. Received: "
        "FGSM"
    )


@pytest.mark.parametrize("kind", [TRADES, MART])
@pytest.mark.parametrize("beta", [0, -1.0, float("nan"), "6"])
def test_a_weight_that_is_not_positive_is_refused(kind, beta):
    assert message_of(kind, tiny_cnn(), SHIFT, beta=beta) == (
        "Argument `beta` must be a finite number greater than 0. Received: "
        f"beta={beta!r}"
    )


def test_a_loss_of_probabilities_is_refused():
    defense = MART(tiny_cnn(), SHIFT)
    loss = keras.losses.SparseCategoricalCrossentropy()
    assert message_of(defense.compile, "adam", loss) == (
        "Argument `loss` must take logits: give it `from_logits=True`. "
        "Received: SparseCategoricalCrossentropy with from_logits=False"
    )
    name = "sparse_categorical_crossentropy"
    assert message_of(defense.compile, "adam", name) == (
        "Argument `loss` must be a keras.losses.Loss of integer labels and "
        "logits, such as SparseCategoricalCrossentropy(from_logits=True). "
        f"Received: loss={name!r}"
    )
    assert message_of(defense.compile, "adam", loss_weights=[2.0]) == (
        "A defense has one loss, and takes no `loss_weights`. Received: "
        "loss_weights=[2.0]"
    )


def test_labels_that_are_no_integers_are_refused():
    defense = compiled(AdversarialTraining(tiny_cnn(), SHIFT))
    x = random_images(5)
    assert message_of(defense.train_on_batch, x, np.eye(5)) == (
        "Labels must be integers of the shape (N,). Received: shape (5, 5) "
        "(one-hot labels? take their argmax)"
    )


def test_labels_may_be_a_column(kernel, bias):
    losses = [
        float(
            compiled(
                AdversarialTraining(linear_model(kernel, bias), SHIFT)
            ).train_on_batch(X, y)
        )
        for y in (Y, Y[:, None])
    ]
    assert losses[0] == pytest.approx(losses[1])


def test_images_of_integers_are_refused():
    defense = compiled(AdversarialTraining(linear_model(KERNEL), SHIFT))
    pixels = np.zeros((2, *SHAPE), np.uint8)
    assert message_of(defense.train_on_batch, pixels, np.zeros(2)) == (
        "Images must be one tensor of floating-point numbers within the "
        "attack's bounds. Received: uint8"
    )


@pytest.mark.parametrize(
    "last",
    [
        keras.layers.Softmax(name="last"),
        keras.layers.Activation("sigmoid", name="last"),
        keras.layers.Dense(3, activation="softmax", name="last"),
    ],
)
def test_models_of_probabilities_are_refused(last):
    model = keras.Sequential([tiny_cnn(), last])
    assert message_of(AdversarialTraining, model, SHIFT) == (
        "Argument `model` must return logits, not probabilities: remove its "
        "final activation. Received: a model that ends in 'last'"
    )


def test_what_only_looks_like_probabilities_is_not_refused():
    images = keras.Input((4,))
    squashed = keras.layers.Dense(3, activation="softmax")(images)
    head = keras_wp.RobustHead(3, activation="sigmoid")
    for model in (
        keras.Model(images, ops.log(squashed)),
        keras.Sequential([keras.Input((4,)), head]),
    ):
        assert AdversarialTraining(model, SHIFT).model is model


def test_a_class_to_ignore_and_bool_labels_are_not_refused():
    x = np.zeros((2, *SHAPE), np.float32)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    defense = AdversarialTraining(linear_model(KERNEL), SHIFT)
    defense.compile("sgd", loss)
    (loss,) = defense.fit(x, np.array([0, -1]), verbose=0).history["loss"]
    assert np.isfinite(loss)
    defense = compiled(AdversarialTraining(linear_model(KERNEL), SHIFT))
    labels = np.array([False, True])
    (loss,) = defense.fit(x, labels, verbose=0).history["loss"]
    assert np.isfinite(loss)


def test_images_outside_the_bounds_are_refused():
    defense = compiled(AdversarialTraining(linear_model(KERNEL), SHIFT))
    assert message_of(defense.fit, 255 * np.ones((2, *SHAPE)), [0, 1]) == (
        "Images must lie within the bounds (0.0, 1.0). Received: values from "
        "255 to 255"
    )


def test_arrays_of_another_shape_or_class_are_refused():
    defense = compiled(AdversarialTraining(linear_model(KERNEL), SHIFT))
    x = np.zeros((2, *SHAPE), np.float32)
    assert message_of(defense.fit, x, np.array([0, CLASSES])) == (
        f"Labels must lie in [0, {CLASSES}), as the model has {CLASSES} "
        f"classes. Received: labels from 0 to {CLASSES}"
    )
    wide = np.repeat(x, 2, axis=1)
    assert message_of(defense.fit, wide, np.array([0, 1])) == (
        f"The model takes images of the shape {SHAPE}. Received: images of "
        f"the shape {wide.shape[1:]}"
    )


KERNEL = np.ones((*SHAPE, CLASSES), np.float32)


def test_outputs_that_are_no_logits_are_refused():
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Dense(2)])
    defense = compiled(AdversarialTraining(model, SHIFT))
    assert (
        "`model` must return logits of shape (N, K). Received: shape "
    ) in message_of(defense.train_on_batch, X, Y)


def test_too_few_classes_for_the_attack_are_refused():
    model = linear_model(KERNEL[..., :3])
    attack = attacks.PGD(eps=0.1, steps=1, loss="dlr")
    defense = compiled(AdversarialTraining(model, attack))
    assert message_of(defense.train_on_batch, X, Y % 3) == (
        "PGD1-dlr needs a model of at least 4 classes. Received: 3"
    )


TWO_DEVICES = """
import contextlib, json, sys
import keras, numpy as np

import keras_wp as kwp

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
else:
    scope = keras.distribution.DataParallel().scope

rng = np.random.default_rng(0)
x = rng.random((32, 12), dtype="float32")
y = rng.integers(0, 3, 32)
weights = rng.random(32, dtype="float32")
attack = kwp.attacks.PGD(eps=0.2, steps=1)


def train(kind, where):
    keras.utils.set_random_seed(0)
    with where():
        model = keras.Sequential(
            [
                keras.Input((12,)),
                keras.layers.Dense(8, "relu", kernel_regularizer="l2"),
                keras.layers.Dense(3),
            ]
        )
        defense = kind(model, attack)
        defense.compile(
            keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"]
        )
    history = defense.fit(
        x, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False,
        verbose=0,
        callbacks=[kwp.callbacks.RobustAccuracy((x, y), attack, every=2)]
        if kind is kwp.defenses.MART
        else [],
    ).history
    return history, [np.asarray(w).tolist() for w in model.get_weights()]


results = {}
for name in sys.argv[1:]:
    kind = getattr(kwp.defenses, name)
    one = train(kind, contextlib.nullcontext)
    two = train(kind, scope)
    results[name] = [one, two]
print(json.dumps(results))
"""


@pytest.mark.parametrize(
    "kinds",
    [
        # It has all that the others have.
        [MART],
        pytest.param([AdversarialTraining, TRADES], marks=pytest.mark.slow),
    ],
)
def test_two_devices_train_as_one_does(kinds):
    names = [kind.__name__ for kind in kinds]
    flags = "--xla_force_host_platform_device_count=2"
    done = run_python("-c", TWO_DEVICES, *names, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert list(results) == names
    for (history, weights), (histories, shared) in results.values():
        assert histories.keys() == history.keys()
        for name, values in history.items():
            np.testing.assert_allclose(histories[name], values, rtol=1e-5)
        for one, two in zip(weights, shared, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


class Free(AdversarialTraining):
    """Whose ordinary forward pass costs nothing, as it is left out."""

    def call(self, inputs):
        return ops.zeros((ops.shape(inputs)[0], 5))


def work(defense, x, y):
    """What a compiled training step computes, in units of its backend."""
    if keras.backend.backend() == "jax":
        return jax_work(defense, x, y)
    return tensorflow_work(defense, x, y)


def jax_work(defense, x, y):
    import jax

    defense.test_on_batch(x, y)
    defense.optimizer.build(defense.trainable_variables)
    state = (
        [v.value for v in defense.trainable_variables],
        [v.value for v in defense.non_trainable_variables],
        [v.value for v in defense.optimizer.variables],
        [v.value for v in defense.metrics_variables],
    )
    step = jax.jit(defense.train_step).lower(state, (x, y)).compile()
    return step.cost_analysis()["flops"]


def tensorflow_work(defense, x, y):
    import tensorflow as tf

    step = tf.function(defense.train_step).get_concrete_function(
        (tf.constant(x), tf.constant(y))
    )
    return len(convolutions(step.graph, step.graph.outputs))


def convolutions(graph, outputs):
    """The convolutions that a graph's results depend on, loops left out."""
    waiting = [t.op for t in outputs] + list(graph.control_outputs)
    seen = set()
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            waiting += [t.op for t in op.inputs] + list(op.control_inputs)
    return [op for op in seen if op.type.startswith("Conv2D")]


def test_the_ordinary_forward_pass_is_not_paid_for():
    x, y = random_images(4), np.arange(4)
    attack = attacks.PGD(eps=0.1, steps=1)
    costs = [
        work(compiled(kind(tiny_cnn(), attack), metrics=["accuracy"]), x, y)
        for kind in (AdversarialTraining, Free)
    ]
    assert costs[0] == costs[1] > 0


def digits_model():
    keras.utils.set_random_seed(0)
    return keras_wp.models.small_cnn(
        (28, 28, 1),
        10,
        head="plain",
        widths=(8, 8, 16, 16),
        dense=(64, 64),
    )


def fit_digits(model, x, y):
    keras.utils.set_random_seed(1)
    model.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=64, epochs=4, verbose=0)


@pytest.mark.slow
def test_every_defense_makes_digits_robust():
    train, (x_test, y_test) = keras_wp.datasets.load("mnist5k")
    pgd20 = attacks.PGD(eps=0.1, steps=20, step_size=0.01)
    data = (x_test[:300], y_test[:300])

    def accuracies(model):
        report = keras_wp.evaluate(model, data, [pgd20], progress=False)
        return report.clean_accuracy, report.robust_accuracy

    plain = digits_model()
    fit_digits(plain, *train)
    _, undefended = accuracies(plain)
    attack = attacks.PGD(eps=0.1, steps=5, step_size=0.03)
    found = {}
    for kind in DEFENSES:
        model = digits_model()
        fit_digits(kind(model, attack), *train)
        found[kind.__name__] = accuracies(model)
    assert all(clean > 0.85 for clean, _ in found.values()), found
    gain = {name: robust - undefended for name, (_, robust) in found.items()}
    assert min(gain.values()) > 0.3, (undefended, found)
