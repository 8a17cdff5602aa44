"""AutoAttack's parts and constants, and Table 1's attacks by name."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest

from keras_wp.attacks import named
from keras_wp.attacks.apgd import APGD
from keras_wp.attacks.carlini_wagner import CarliniWagner
from keras_wp.attacks.deepfool import DeepFool
from keras_wp.attacks.fab import FAB
from keras_wp.attacks.multi_target import MultiTarget
from keras_wp.attacks.named import AutoAttack
from keras_wp.attacks.pgd import FGSM, PGD
from keras_wp.attacks.square import Square
from keras_wp.engine import arrays

EPS = 0.1


def linear_model(weights):
    pixels, classes = weights.shape
    model = keras.Sequential(
        [keras.Input((pixels,)), keras.layers.Dense(classes, use_bias=False)]
    )
    model.layers[-1].set_weights([weights])
    return model


@pytest.fixture
def linear_case(rng):
    """A linear model, images, labels, and their distances (l-infinity)."""
    count, rows = 24, np.arange(24)
    weights = rng.normal(size=(16, 5)).astype("float32")
    x = rng.uniform(0.4, 0.6, (count, 16)).astype("float32")
    logits = x @ weights
    y = logits.argmax(1)
    gaps = logits[rows, y][:, None] - logits
    slopes = np.abs(weights.T[y][:, :, None] - weights[None]).sum(axis=1)
    gaps[rows, y], slopes[rows, y] = np.inf, 1.0
    return linear_model(weights), x, y, (gaps / slopes).min(axis=1)


def test_parts_are_the_standard_version():
    # Croce and Hein, ICML 2020, section 6; the authors' package,
    # `AutoAttack.set_version("standard")` and its constructor.
    shared = {"eps": EPS, "norm": "l2", "bounds": (-1.0, 2.0), "seed": 3}
    found = AutoAttack(**shared).parts
    assert found == (
        APGD(steps=100, loss="cross_entropy", restarts=1, rho=0.75, **shared),
        APGD(steps=100, loss="dlr", targets=9, restarts=1, rho=0.75, **shared),
        FAB(
            steps=100,
            targets=9,
            restarts=1,
            alpha_max=0.1,
            eta=1.05,
            beta=0.9,
            final_search=0,
            early_stop=True,
            **shared,
        ),
        Square(
            steps=5000,
            p_init=0.8,
            restarts=1,
            loss="margin",
            rescale_schedule=False,
            **shared,
        ),
    )


@pytest.mark.parametrize("classes, targets", [(4, 3), (10, 9), (100, 9)])
def test_every_wrong_class_is_a_target_up_to_nine(classes, targets):
    runs = [part.runs(classes) for part in AutoAttack(eps=EPS).parts]
    assert runs == [1, targets, targets, 1]


def test_linear_cases_within_eps_are_fooled_and_no_others(linear_case):
    model, x, y, distance = linear_case
    eps = float(np.median(distance))
    x_adv = AutoAttack(eps=eps, steps=30, queries=40)(model, x, y)
    fooled = model.predict(x_adv, verbose=0).argmax(1) != y
    assert fooled[distance < 0.998 * eps].all()
    assert not fooled[distance > 1.0001 * eps].any()
    assert np.abs(x_adv - x).max() <= eps + 1e-6


@pytest.mark.once
def test_each_part_meets_the_survivors_only(linear_case, monkeypatch):
    model, x, y, distance = linear_case
    eps = float(np.median(distance))
    met, fooled = {}, {}
    run = arrays.run

    def recorded(attack, model, images, **options):
        images = list(images)
        met[attack.label] = {image.index for image in images}
        fooled[attack.label] = set()
        for outcome in run(attack, model, images, **options):
            if outcome.success:
                fooled[attack.label].add(outcome.index)
            yield outcome

    monkeypatch.setattr(arrays, "run", recorded)
    AutoAttack(eps=eps, steps=10, queries=20)(model, x, y)
    labels = [p.label for p in AutoAttack(eps=eps, steps=10, queries=20).parts]
    assert list(met) == labels
    assert met[labels[0]] == set(range(len(x)))
    for before, after in itertools.pairwise(labels):
        assert met[after] == met[before] - fooled[before]
    assert fooled[labels[0]]
    assert met[labels[-1]]


def test_fewer_than_four_classes_are_refused(rng):
    model = linear_model(rng.normal(size=(16, 3)).astype("float32"))
    with pytest.raises(ValueError) as error:
        AutoAttack(eps=EPS)(model, np.zeros((1, 16), np.float32), [0])
    assert str(error.value) == (
        "AutoAttack needs a model of at least 4 classes. Received: 3"
    )


def test_config_tells_what_was_run():
    config = json.loads(json.dumps(AutoAttack(eps=EPS, seed=5).config()))
    assert config["attack"] == "AutoAttack"
    assert (config["eps"], config["seed"]) == (EPS, 5)
    kinds = [part["attack"] for part in config["parts"]]
    assert kinds == ["APGD", "APGD", "FAB", "Square"]
    assert [part["eps"] for part in config["parts"]] == [EPS] * 4
    assert [part["seed"] for part in config["parts"]] == [5] * 4


@pytest.mark.parametrize(
    "options, label",
    [
        ({}, "AutoAttack"),
        ({"norm": "l2"}, "AutoAttack-l2"),
        ({"steps": 20}, "AutoAttack(20, 5000)"),
        ({"queries": 100, "norm": "l2"}, "AutoAttack(100, 100)-l2"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_label_says_what_is_not_standard(options, label):
    assert AutoAttack(eps=EPS, **options).label == label


def test_parts_have_labels_of_their_own():
    labels = [part.label for part in AutoAttack(eps=EPS).parts]
    assert labels == ["APGD-CE", "APGD-T", "FAB-T100", "Square"]


def test_a_training_step_is_refused():
    suite = AutoAttack(eps=EPS)
    with pytest.raises(ValueError) as error:
        suite.perturb(None)
    assert str(error.value) == (
        "AutoAttack is 4 attacks, each for the images that have resisted "
        "those before it, so it cannot run inside a training step: use one "
        "of its `parts`, or PGD"
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"eps": 0},
            "Argument `eps` must be a finite number greater than 0. "
            "Received: eps=0",
        ),
        (
            {"steps": 0},
            "Argument `steps` must be an integer of at least 1. "
            "Received: steps=0",
        ),
        (
            {"queries": 0},
            "Argument `queries` must be an integer of at least 1. "
            "Received: queries=0",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError) as error:
        AutoAttack(**{"eps": EPS, **options})
    assert str(error.value) == message


# Table 1 of the paper, and the budgets of its section 4.
@pytest.mark.parametrize(
    "dataset, linf, l2",
    [
        ("mnist", 0.3, 3.0),
        ("mnist5k", 0.3, 3.0),
        ("cifar10", 8 / 255, 1.0),
        ("cifar100", 8 / 255, 1.0),
    ],
)
def test_names_give_the_attacks_of_table_1(dataset, linf, l2):
    wanted = {
        "fgsm": FGSM(eps=linf),
        "pgd20": PGD(eps=linf, steps=20, step_size=0.0031),
        "pgd40": PGD(eps=linf, steps=40, step_size=0.01),
        "pgd100": PGD(eps=linf, steps=100, step_size=0.0031),
        "pgd200": PGD(eps=linf, steps=200, step_size=0.01),
        "cw1000": CarliniWagner(eps=l2, steps=1000, learning_rate=0.01),
        "mta100": MultiTarget(eps=linf, steps=100, step_size=0.0031),
        "mta200": MultiTarget(eps=linf, steps=200, step_size=0.01),
        "deepfool50": DeepFool(eps=linf, steps=50, overshoot=0.02),
        "autoattack": AutoAttack(eps=linf),
    }
    for name, attack in wanted.items():
        assert named.get(name, dataset=dataset) == attack
    assert sorted(wanted) == sorted(named._SETUPS)


def test_the_default_budget_is_that_of_cifar():
    assert named.get("pgd20").eps == 8 / 255


def test_what_should_differ_can_be_replaced():
    attack = dataclasses.replace(named.get("pgd40", "mnist"), loss="margin")
    assert (attack.steps, attack.loss) == (40, "margin")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("pgd30", "mnist"),
            "Invalid value for argument `name`. Expected one of "
            "['autoattack', 'cw1000', 'deepfool50', 'fgsm', 'mta100', "
            "'mta200', 'pgd100', 'pgd20', 'pgd200', 'pgd40']. "
            "Received: name='pgd30'",
        ),
        (
            ("pgd20", "imagenet"),
            "Invalid value for argument `dataset`. Expected one of "
            "['cifar10', 'cifar100', 'mnist', 'mnist5k']. "
            "Received: dataset='imagenet'",
        ),
        (
            (["pgd20"], "mnist"),
            "Invalid value for argument `name`. Expected one of "
            "['autoattack', 'cw1000', 'deepfool50', 'fgsm', 'mta100', "
            "'mta200', 'pgd100', 'pgd20', 'pgd200', 'pgd40']. "
            "Received: name=['pgd20']",
        ),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(arguments, message):
    with pytest.raises(ValueError) as error:
        named.get(*arguments)
    assert str(error.value) == message
