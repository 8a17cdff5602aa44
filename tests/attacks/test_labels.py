"""The labels of attacks: short, one for each set-up, and names of them."""

import dataclasses

import pytest
from contracts import ATTACKS
from helpers import plainly, predictions, random_images, tiny_cnn

import keras_wp as kwp
from keras_wp import attacks
from keras_wp.attacks import APGD, FAB, PGD, MultiTarget

# Told beside a label, or not at all.
BESIDE = ("eps", "bounds", "seed", "name", "surrogate")
# Another value of every field that is in a label.
OTHER = {
    "norm": "l2",
    "steps": 7,
    "queries": 7,
    "restarts": 3,
    "targets": 3,
    "loss": "margin",
    "targeted": True,
    "step_size": 2 / 255,
    "random_start": True,
    "published_sign": True,
    "rho": 0.5,
    "p_init": 0.1,
    "rescale_schedule": False,
    "alpha_max": 0.3,
    "eta": 1.2,
    "beta": 0.7,
    "final_search": 2,
    "early_stop": True,
    "overshoot": 0.1,
    "candidates": 3,
    "binary_search_steps": 3,
    "learning_rate": 0.05,
    "initial_const": 0.5,
    "confidence": 1.0,
    "version": "rand",
}
# What must come with it.
ALONG = {(MultiTarget, "restarts"): {"random_start": True}}
KINDS = {
    name: attacks.get(name)
    for name in (
        *("fgsm", "pgd", "apgd", "mta", "square", "fab", "deepfool", "cw"),
        "autoattack",
    )
}
CASES = [
    (name, field.name)
    for name, attack in KINDS.items()
    for field in dataclasses.fields(attack)
    if field.name not in (*BESIDE, "class_means")
    and (name, field.name) != ("cw", "norm")
]


def test_labels_tell_the_table_apart():
    labels = [case().label for case in ATTACKS.values()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name, field", CASES)
def test_every_setting_has_a_label_which_is_a_name(name, field):
    attack = KINDS[name]
    more = ALONG.get((type(attack), field), {})
    before = dataclasses.replace(attack, **more)
    value = OTHER[field]
    if getattr(before, field) == value:
        value = "dlr" if field == "loss" else False
    changed = dataclasses.replace(before, **{field: value})
    assert changed.label != before.label
    again = dataclasses.replace(attacks.get(changed.label), eps=attack.eps)
    assert again == changed


@pytest.mark.parametrize("name", KINDS)
def test_a_default_label_has_no_arguments(name):
    assert ":" not in KINDS[name].label


@pytest.mark.parametrize(
    "attack, label",
    [
        (PGD(eps=1.0, steps=20, step_size=0.0031), "PGD20:step_size=0.0031"),
        (PGD(eps=1.0, steps=9, step_size=2 / 255), "PGD9:step_size=2/255"),
        (PGD(eps=1.0, steps=9, step_size=0.2), "PGD9:step_size=0.2"),
        (
            PGD(eps=1.0, steps=9, random_start="normal", norm="l2"),
            "PGD9-l2:random_start=normal",
        ),
        (APGD(eps=1.0, targets=4, loss="dlr"), "APGD-T4"),
        (FAB(steps=20, beta=0.5, targets=2), "FAB20-T2:beta=0.5"),
    ],
)
def test_labels_are_short(attack, label):
    assert attack.label == label


def test_a_call_begins_with_the_budget():
    attack = PGD(eps=0.1, steps=5, restarts=2, targeted=True)
    assert repr(attack) == (
        "keras_wp.attacks.PGD(eps=0.1, targeted=True, steps=5, restarts=2)"
    )


def test_two_step_sizes_are_told_apart_in_reports():
    x, model = random_images(4), tiny_cnn()
    y = predictions(model, x)
    pair = [PGD(eps=0.1, steps=2), PGD(eps=0.1, steps=2, step_size=0.01)]
    names = ["PGD2", "PGD2:step_size=0.01"]
    both = plainly(model, (x, y), pair, progress=False)
    assert [r.name for r in both.results] == names
    reports = [plainly(model, (x, y), [a], progress=False) for a in pair]
    found = kwp.compare(*reports).findings
    (finding,) = [f for f in found if f.check == "unequal_attacks"]
    assert finding.evidence == {
        f"only {letter}": [f"{name}, linf 0.1"]
        for letter, name in zip("AB", names, strict=True)
    }
