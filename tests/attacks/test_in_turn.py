"""Several attacks in turn."""

import keras
import numpy as np
import pytest
from helpers import (
    to_numpy,
)
from keras import ops

import keras_wp as kwp


def test_attacks_in_turn_look_for_any_perturbation():
    for member in (
        kwp.attacks.FAB(eps=0.1, steps=5),
        kwp.attacks.PGD(eps=0.1, steps=5, targeted=True),
    ):
        with pytest.raises(ValueError) as error:
            kwp.attacks.InTurn(members=[member])
        assert str(error.value) == (
            "`members` must be single attacks that look for any perturbation "
            "within their budget, to any wrong class. Received: "
            f"{member.label}"
        )


def test_noise_stays_within_the_bounds():
    inputs = keras.Input((4, 4, 1))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    plain = keras.Model(inputs, logits)
    inside = ops.logical_and(inputs >= 0.0, inputs <= 1.0)
    undefined = keras.Model(inputs, plain(ops.where(inside, inputs, np.nan)))
    x = np.random.default_rng(0).uniform(size=(8, 4, 4, 1)).round(1)
    x = x.astype(np.float32)
    y = np.argmax(to_numpy(plain(x)), -1)
    surrogate = kwp.Surrogate(noise=1.0)
    attack = kwp.attacks.PGD(eps=0.3, steps=3, surrogate=surrogate)
    np.testing.assert_allclose(
        attack(undefined, x, y), attack(plain, x, y), atol=1e-6
    )
    assert (attack(undefined, x, y) != x).any()
