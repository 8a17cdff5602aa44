"""Square with targets, and on images of all shapes."""

import keras
import numpy as np
import pytest
from squares import EPS, linear_model

from keras_wp.attacks import patches
from keras_wp.attacks.square import Square


def test_labels_may_be_the_classes_to_aim_at(rng):
    weights = rng.normal(size=(48, 4)).astype("float32")
    model = linear_model(weights, (4, 4, 3), np.zeros(4))
    x = rng.uniform(0.4, 0.6, (6, 4, 4, 3)).astype("float32")
    target = (x.reshape(6, -1) @ weights).argmin(1)
    attack = Square(eps=0.4, steps=200, targeted=True)
    x_adv = attack(model, x, target)
    found = (x_adv.reshape(6, -1) @ weights).argmax(1)
    np.testing.assert_array_equal(found, target)


def test_channels_first_images_have_the_same_patches(monkeypatch, rng):
    last = rng.uniform(size=(3, 6, 5, 2)).astype("float32")
    monkeypatch.setattr(
        keras.config, "image_data_format", lambda: "channels_first"
    )
    grid = patches.Grid((2, 6, 5))
    first = np.ascontiguousarray(last.transpose(0, 3, 1, 2))
    assert (grid.height, grid.width, grid.channels) == (6, 5, 2)
    np.testing.assert_array_equal(grid.view(first), last)
    np.testing.assert_array_equal(grid.restore(last), first)


@pytest.mark.parametrize(
    "options, label",
    [
        ({}, "Square"),
        ({"norm": "l2"}, "Square-l2"),
        ({"steps": 100, "restarts": 2}, "Square100x2"),
        ({"loss": "cross_entropy"}, "Square-cross_entropy"),
        ({"targeted": True}, "Square-targeted"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_label_tells_the_kind(options, label):
    assert Square(eps=EPS, **options).label == label


def test_images_of_too_many_axes_are_refused():
    with pytest.raises(ValueError) as error:
        patches.Grid((2, 3, 4, 5))
    assert str(error.value) == (
        "Square needs images of the shape (N, H, W, C), (N, H, W) or (N, D). "
        "Received: images of shape (2, 3, 4, 5)"
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"eps": -1},
            "Argument `eps` must be a finite number greater than 0. "
            "Received: eps=-1",
        ),
        (
            {"steps": 0},
            "Argument `steps` must be an integer of at least 1. "
            "Received: steps=0",
        ),
        (
            {"restarts": 1.5},
            "Argument `restarts` must be an integer of at least 1. "
            "Received: restarts=1.5",
        ),
        (
            {"p_init": 1.1},
            "Argument `p_init` must be a number in (0, 1]. "
            "Received: p_init=1.1",
        ),
        (
            {"loss": "hinge"},
            "Invalid value for argument `loss`. Expected one of "
            "['cross_entropy', 'dlr', 'margin']. Received: loss='hinge'",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError) as error:
        Square(**{"eps": EPS, **options})
    assert str(error.value) == message
