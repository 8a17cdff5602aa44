"""Defenses in training: what is refused, devices, saving."""

import json

import keras
import numpy as np
import pytest
from helpers import (
    linear_model,
    message_of,
    plainly,
    random_images,
    tiny_cnn,
)
from keras import ops
from processes import run_python
from trained import CLASSES, DEFENSES, SHAPE, SHIFT, X, Y, compiled

import keras_wp
from keras_wp import attacks
from keras_wp.defenses import (
    MART,
    TRADES,
    AdversarialTraining,
    FastAdversarialTraining,
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


@pytest.mark.parametrize(
    "last, kind",
    [
        ([keras.layers.Softmax()], "softmax"),
        ([keras.layers.Activation("sigmoid")], "sigmoid"),
        ([keras.layers.Dense(3, activation="softmax")], "softmax"),
        ([keras.layers.Dense(3), keras.layers.Lambda(ops.softmax)], "softmax"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_models_of_probabilities_are_refused(last, kind, nested):
    last = [keras.Sequential(last)] if nested else last
    model = keras.Sequential([tiny_cnn(), *last])
    assert message_of(AdversarialTraining, model, SHIFT) == (
        "Argument `model` must return logits, not probabilities: pass "
        "`keras_wp.convert.to_logits(model)`, which shares its weights. "
        f"Received: a model that ends in a {kind}"
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


KERNEL = np.ones((*SHAPE, CLASSES), np.float32)


def test_outputs_that_are_no_logits_are_refused():
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Dense(2)])
    defense = compiled(AdversarialTraining(model, SHIFT))
    assert (
        "`model` must return logits of shape (N, K). Received: shape "
    ) in message_of(defense.train_on_batch, X, Y)


def test_an_attack_on_few_classes_trains_on_the_margin():
    losses = []
    for loss in ("dlr", "margin"):
        model = linear_model(np.arange(18.0, dtype="f4").reshape(*SHAPE, 3))
        attack = attacks.PGD(eps=0.1, steps=1, loss=loss, random_start=False)
        defense = compiled(AdversarialTraining(model, attack))
        losses.append(float(defense.train_on_batch(X, Y % 3)))
    assert losses[0] == pytest.approx(losses[1])


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
                keras.layers.Dense(8, "relu", kernel_regularizer="l2"),
                keras.layers.Dense(3),
            ]
        )
        # Some are never called before they are trained.
        if kind is not kwp.defenses.AdversarialTraining:
            model.build((None, 12))
        fast = kind is kwp.defenses.FastAdversarialTraining
        defense = kind(model, attack.eps if fast else attack)
        if kind is kwp.defenses.MART:
            defense = kwp.defenses.AWP(defense, gamma=0.1)
        defense.compile(
            keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"]
        )
    history = defense.fit(
        x, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False,
        verbose=0,
        callbacks=[
            kwp.callbacks.RobustAccuracy((x, y), attack, every=2),
            kwp.callbacks.WeightAveraging(0.5),
            kwp.callbacks.BestRobust((x, y)),
        ]
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
        # It has all that the others have, and weights are perturbed.
        [MART],
        pytest.param(
            [AdversarialTraining, FastAdversarialTraining, TRADES],
            marks=pytest.mark.slow,
        ),
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
        report = plainly(model, data, [pgd20], progress=False)
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
