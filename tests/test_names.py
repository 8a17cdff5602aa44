"""How names of attacks are read, and that everything has a name."""

import dataclasses

import pytest

from keras_wp import _names, attacks
from keras_wp._kinds import KINDS
from keras_wp.attacks import named

pytestmark = pytest.mark.once

# What no text can say, and what is said beside a name.
UNNAMED = {"bounds", "name", "surrogate", "class_means"}


def classes():
    return {
        word: getattr(attacks, kind.made_by) for word, kind in KINDS.items()
    }


@pytest.mark.parametrize("word", KINDS)
def test_every_argument_of_a_class_has_a_name(word):
    fields = {f.name for f in dataclasses.fields(classes()[word])} - UNNAMED
    assert set(KINDS[word].arguments) == fields


def test_every_attack_has_a_name():
    made = {kind.__name__ for kind in classes().values()}
    assert made == set(attacks.__all__) - {"Attack", "InTurn", "get"}


@pytest.mark.parametrize("word", KINDS)
def test_what_a_class_has_no_default_for_is_usual(word):
    usual = KINDS[word].usual
    for field in dataclasses.fields(classes()[word]):
        if field.name != "eps" and field.default is dataclasses.MISSING:
            assert field.name in usual
        else:
            assert field.name not in usual
    named.get(word)


@pytest.mark.parametrize(
    "text, names",
    [
        ("pgd40", ["pgd40"]),
        (" pgd40 , fgsm,", ["pgd40", "fgsm"]),
        (
            "pgd:steps=50,restarts=3,autoattack:version=rand,fgsm",
            ["pgd:steps=50,restarts=3", "autoattack:version=rand", "fgsm"],
        ),
        (
            "pgd20-margin:step_size=0.01, restarts=2,square:queries=9",
            ["pgd20-margin:step_size=0.01,restarts=2", "square:queries=9"],
        ),
        ("", []),
    ],
)
def test_commas_separate_names_and_arguments(text, names):
    assert _names.split(text) == names


@pytest.mark.parametrize(
    "name, message",
    [
        *(
            (
                name,
                "An attack must be named as one of fgsm, pgd, apgd, mta, "
                "square, fab, deepfool, cw, autoattack, with steps, options "
                "or arguments, as in pgd40, apgd-dlr or square:queries=1000. "
                f"Received: {name!r}",
            )
            for name in ("pdg40", "", "40pgd", "pgd--l2", ["pgd20"], None)
        ),
        (
            "pgd40-dlt",
            "pgd has no option 'dlt': options are losses, norms and what sets "
            "an attack apart, as in pgd20-margin, fgsm-l2, apgd-t or "
            "pgd40-paper. Received: 'pgd40-dlt'",
        ),
        (
            "square:query=9",
            "The arguments of square must be among eps, norm, seed, loss, "
            "targeted, steps, restarts, p_init, rescale_schedule, queries. "
            "Received: 'query' in 'square:query=9'",
        ),
        (
            "pgd:steps=0",
            "The argument steps of pgd must be an integer of at least 1. "
            "Received: 'pgd:steps=0'",
        ),
        (
            "pgd:step_size=1/0",
            "The argument step_size of pgd must be a number or a fraction, as "
            "0.1 or 2/255. Received: 'pgd:step_size=1/0'",
        ),
        (
            "pgd:random_start=maybe",
            "The argument random_start of pgd must be true, false or normal. "
            "Received: 'pgd:random_start=maybe'",
        ),
        (
            "pgd40:margin",
            "Arguments of an attack must be given as in square:queries=1000. "
            "Received: 'pgd40:margin'",
        ),
        (
            "pgd40:steps=50",
            "The name of an attack must say each thing once. Received: steps "
            "twice in 'pgd40:steps=50'",
        ),
        (
            "pgd20-paper:step_size=0.01",
            "The name of an attack must say each thing once. Received: "
            "step_size twice in 'pgd20-paper:step_size=0.01'",
        ),
        (
            "pgd30-paper",
            "The paper's set-ups are pgd10-paper, pgd20-paper, pgd50-paper, "
            "pgd100-paper, pgd40-paper, pgd200-paper, mta100-paper, "
            "mta200-paper, deepfool50-paper, cw1000-paper. Received: "
            "'pgd30-paper'",
        ),
    ],
)
def test_a_wrong_name_gets_one_sentence(name, message):
    for read in (_names.read, named.get):
        with pytest.raises(ValueError) as error:
            read(name)
        assert str(error.value) == message
