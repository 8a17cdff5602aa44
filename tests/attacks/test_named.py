"""AutoAttack's parts and constants, and Table 1's attacks by name."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest

from keras_wp._kinds import KINDS
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

pytestmark = pytest.mark.once


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
            name="FAB-T",
            **shared,
        ),
        Square(
            steps=5000,
            p_init=0.8,
            restarts=1,
            loss="margin",
            rescale_schedule=False,
            name="Square",
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
        ({"steps": 20}, "AutoAttack:steps=20"),
        ({"queries": 100, "norm": "l2"}, "AutoAttack-l2:queries=100"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_label_says_what_is_not_standard(options, label):
    assert AutoAttack(eps=EPS, **options).label == label


def test_parts_have_labels_of_their_own():
    labels = [part.label for part in AutoAttack(eps=EPS).parts]
    assert labels == ["APGD-CE", "APGD-T", "FAB-T", "Square"]


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
        "pgd20-paper": PGD(eps=linf, steps=20, step_size=0.0031),
        "pgd40-paper": PGD(eps=linf, steps=40, step_size=0.01),
        "pgd100-paper": PGD(eps=linf, steps=100, step_size=0.0031),
        "pgd200-paper": PGD(eps=linf, steps=200, step_size=0.01),
        "cw1000-paper": CarliniWagner(eps=l2, steps=1000, learning_rate=0.01),
        "mta100-paper": MultiTarget(eps=linf, steps=100, step_size=0.0031),
        "mta200-paper": MultiTarget(eps=linf, steps=200, step_size=0.01),
        "deepfool50-paper": DeepFool(eps=linf, steps=50, overshoot=0.02),
        # Table 2.
        "pgd10-paper": PGD(eps=linf, steps=10, step_size=0.0031),
        "pgd50-paper": PGD(eps=linf, steps=50, step_size=0.0031),
    }
    for name, attack in wanted.items():
        assert named.get(name, dataset=dataset) == attack
    known = [f"{k}{n}-paper" for k in KINDS for n in KINDS[k].paper]
    assert sorted(wanted) == sorted(known)


@pytest.mark.parametrize(
    "name, attack",
    [
        ("fgsm", FGSM(eps=8 / 255)),
        ("fgsm-l2", FGSM(eps=1.0, norm="l2")),
        ("pgd20", PGD(eps=8 / 255, steps=20)),
        ("pgd", PGD(eps=8 / 255, steps=40)),
        ("pgd:steps=50,restarts=3", PGD(eps=8 / 255, steps=50, restarts=3)),
        (
            "pgd20x5-margin",
            PGD(eps=8 / 255, steps=20, restarts=5, loss="margin"),
        ),
        (
            "pgd10:step_size=2/255,random_start=false,eps=0.1",
            PGD(eps=0.1, steps=10, step_size=2 / 255, random_start=False),
        ),
        ("apgd", APGD(eps=8 / 255)),
        ("apgd-dlr", APGD(eps=8 / 255, loss="dlr")),
        ("apgd-t", APGD(eps=8 / 255, loss="dlr", targets=9)),
        ("apgd50-ce-t4", APGD(eps=8 / 255, steps=50, targets=4)),
        ("mta", MultiTarget(eps=8 / 255, steps=100)),
        ("mta:loss=margin", MultiTarget(eps=8 / 255, steps=100, loss="margin")),
        ("square:queries=1000", Square(eps=8 / 255, steps=1000)),
        ("fab", FAB(eps=8 / 255)),
        ("fab-t", FAB(eps=8 / 255, targets=9)),
        ("deepfool", DeepFool(eps=8 / 255)),
        ("cw", CarliniWagner(eps=1.0)),
        ("cw100", CarliniWagner(eps=1.0, steps=100)),
        ("autoattack", AutoAttack(eps=8 / 255)),
        ("autoattack:version=rand", AutoAttack(eps=8 / 255, version="rand")),
    ],
)
def test_names_are_read_as_they_look(name, attack):
    assert named.get(name) == attack


def test_a_named_attack_crosses_its_ball_whatever_the_budget(rng):
    # The paper's step of 0.0031 moves by 0.062 in 20 steps: on a model whose
    # boundary is at 0.2, it finds nothing within 0.3.
    model = linear_model(np.array([[1.0, -1.0]] * 16, "float32"))
    x = np.full((8, 16), 0.7, "float32")
    y = np.zeros(8, "int32")
    attack, paper = (
        dataclasses.replace(named.get(name, "mnist"), random_start=False)
        for name in ("pgd20", "pgd20-paper")
    )
    moved = [np.abs(a(model, x, y) - x).max() for a in (attack, paper)]
    assert moved == pytest.approx([0.3, 20 * 0.0031], abs=1e-5)


def test_what_should_differ_can_be_replaced():
    attack = dataclasses.replace(named.get("pgd40", "mnist"), loss="margin")
    assert (attack.steps, attack.loss) == (40, "margin")


def test_wrong_data_sets_are_answered_with_the_right_ones():
    with pytest.raises(ValueError) as error:
        named.get("pgd20", "imagenet")
    assert str(error.value) == (
        "Invalid value for argument `dataset`. Expected one of "
        "['cifar10', 'cifar100', 'mnist', 'mnist5k']. "
        "Received: dataset='imagenet'"
    )
