"""What is checked of logits and classes."""

import numpy as np
import pytest
from helpers import linear_model, message_of, random_images, tiny_cnn
from keras import ops

from keras_wp import _checks
from keras_wp.attacks import FGSM, PGD


@pytest.fixture
def x():
    return random_images(4)


@pytest.fixture
def y():
    return np.array([0, 1, 2, 3])


def test_small_logits_are_no_probabilities(rng):
    # Constant outputs and outputs near 0 are poor logits, but logits.
    for bias in (np.zeros(4), np.full(4, 0.3), np.array([0.2, 0.9, 0, 0])):
        logits = np.tile(bias, (3, 1))
        assert not _checks.are_probabilities(logits)
        _checks.logits(logits, None)
    kernel = rng.normal(size=(2, 2, 1, 4)).astype(np.float32)
    x = np.zeros((2, 2, 2, 1))
    x_adv = FGSM(eps=0.1)(linear_model(kernel * 1e-4), x, [0, 1])
    assert x_adv.shape == x.shape


@pytest.mark.once
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", None])
def test_batch_sizes_are_whole_and_positive(value):
    assert message_of(_checks.batch_size, value) == (
        "Argument `batch_size` must be an integer of at least 1. Received: "
        f"batch_size={value!r}"
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"eps": 0},
            "Argument `eps` must be a finite number greater than 0. Received: "
            "eps=0",
        ),
        (
            {"eps": float("nan")},
            "Argument `eps` must be a finite number greater than 0. Received: "
            "eps=nan",
        ),
        (
            {"eps": "8/255"},
            "Argument `eps` must be a finite number greater than 0. Received: "
            "eps='8/255'",
        ),
        (
            {"steps": 0},
            "Argument `steps` must be an integer of at least 1. Received: "
            "steps=0",
        ),
        (
            {"steps": 2.5},
            "Argument `steps` must be an integer of at least 1. Received: "
            "steps=2.5",
        ),
        (
            {"steps": True},
            "Argument `steps` must be an integer of at least 1. Received: "
            "steps=True",
        ),
        (
            {"restarts": 0},
            "Argument `restarts` must be an integer of at least 1. Received: "
            "restarts=0",
        ),
        (
            {"step_size": -0.1},
            "Argument `step_size` must be a finite number greater than 0. "
            "Received: step_size=-0.1",
        ),
        (
            {"step_size": float("inf")},
            "Argument `step_size` must be a finite number greater than 0. "
            "Received: step_size=inf",
        ),
        (
            {"restarts": 3, "random_start": False},
            "Restarts need `random_start=True`, or each repeats the first. "
            "Received: restarts=3, random_start=False",
        ),
        (
            {"norm": "l1"},
            "Invalid value for argument `norm`. Expected one of ['l2', "
            "'linf']. Received: norm='l1'",
        ),
        (
            {"loss": "kl"},
            "Invalid value for argument `loss`. Expected one of "
            "['cross_entropy', 'dlr', 'kl_divergence', 'margin']. Received: "
            "loss='kl'",
        ),
        (
            {"loss": "kl_divergence", "random_start": False},
            "The KL divergence needs a random start, as its gradient is zero "
            "at the image. Received: random_start=False",
        ),
        (
            {"loss": "kl_divergence", "targeted": True},
            "The KL divergence has no targeted form. Received: targeted=True",
        ),
        (
            {"random_start": "gaussian"},
            "Argument `random_start` must be True, False or 'normal'. "
            "Received: random_start='gaussian'",
        ),
        (
            {"bounds": (1.0, 0.0)},
            "Argument `bounds` must be (lowest, highest) with lowest < "
            "highest. Received: bounds=(1.0, 0.0)",
        ),
        (
            {"bounds": (0.0, float("nan"))},
            "Argument `bounds` must be (lowest, highest) with lowest < "
            "highest. Received: bounds=(0.0, nan)",
        ),
        (
            {"bounds": 1.0},
            "Argument `bounds` must be (lowest, highest) with lowest < "
            "highest. Received: bounds=1.0",
        ),
        (
            {"seed": 0.5},
            "Argument `seed` must be an integer. Received: seed=0.5",
        ),
    ],
    ids=str,
)
def test_bad_hyperparameters_are_refused(arguments, message):
    arguments = {"eps": 0.1, "steps": 3, **arguments}
    assert message_of(lambda: PGD(**arguments)) == message


def test_what_is_no_model_is_refused(x, y):
    assert message_of(FGSM(eps=0.1), "resnet", x, y) == (
        "`model` must be a Keras model or a callable that maps images to "
        "logits. Received: model='resnet'"
    )


@pytest.mark.parametrize(
    "wrap, message",
    [
        (
            lambda z: {"a": z, "b": z},
            "`output` must name the output with the classes, if a model has "
            "several. Received: output=None for the outputs ['a', 'b']",
        ),
        (
            lambda z: [z, z],
            "`output` must name the output with the classes, if a model has "
            "several. Received: output=None for the outputs [0, 1]",
        ),
        (
            lambda z: ops.stack([z, z], axis=1),
            "`model` must return logits of shape (N, K). Received: shape "
            "(N, 2, 5)",
        ),
    ],
    ids=["dict", "list", "rank 3"],
)
def test_outputs_that_are_no_logits_are_refused(x, y, wrap, message):
    model = tiny_cnn()
    fn = FGSM(eps=0.1)
    assert message_of(fn, lambda x: wrap(model(x)), x, y) == message
