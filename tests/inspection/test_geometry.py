"""The geometry of the last layer, as reports show it."""

import keras
import numpy as np
import pytest
from helpers import CenterHead

import keras_wp as kwp


def model_with(head, features=4):
    return keras.Sequential([keras.Input((features,)), head])


def test_simplex_is_at_its_ideal():
    weights = kwp.initializers.SimplexVertices(0.1)
    head = kwp.RobustHead(4, s=0.1, kernel_initializer=weights, name="head")
    geometry = kwp.head_geometry(model_with(head))
    assert (geometry.num_classes, geometry.features) == (4, 4)
    assert geometry.layer == "'head' (RobustHead)"
    np.testing.assert_allclose(geometry.pairs, geometry.ideal, rtol=1e-5)
    np.testing.assert_allclose(geometry.lengths, 0.1, rtol=1e-5)
    assert geometry.ideal == pytest.approx(109.4712, abs=1e-4)


def test_angles_are_those_between_class_weights():
    head = keras.layers.Dense(3, use_bias=False)
    model = model_with(head, 2)
    model.layers[-1].kernel.assign([[1, 0, -2], [0, 1, 0]])
    geometry = kwp.head_geometry(model)
    assert geometry.pairs == pytest.approx([90, 180, 90])
    assert geometry.lengths.tolist() == [1, 1, 2]
    assert geometry.closest == (0, 1)
    assert np.radians(geometry.pairs.min()) == pytest.approx(
        kwp.simplex.min_angle(head.kernel)
    )
    assert geometry.summary()[1] == (
        "Class weights are 90.00° to 180.00° apart, 120.00° on average; at "
        "best each pair is 120.00° apart."
    )


def test_centers_are_seen_from_their_mean():
    head = CenterHead([[5.0, 1.0], [5.0, 3.0]])
    geometry = kwp.head_geometry(model_with(head, 2))
    assert geometry.centers
    assert geometry.pairs == pytest.approx([180])
    assert geometry.lengths.tolist() == [1, 1]


def test_head_within_a_nested_model_is_found():
    inner = model_with(keras.layers.Dense(3))
    outer = keras.Sequential([keras.Input((4,)), inner])
    expected = kwp.head_geometry(inner)
    np.testing.assert_array_equal(
        kwp.head_geometry(outer).angles, expected.angles
    )


def test_class_weight_of_zero_has_no_angle():
    model = model_with(keras.layers.Dense(3, kernel_initializer="zeros"))
    geometry = kwp.head_geometry(model)
    assert geometry.closest is None
    assert geometry.summary()[1:] == [
        "Class weights of length 0 have no direction."
    ]


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x,
        keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(3, 4)]),
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]),
    ],
    ids=["callable", "convolution", "one unit"],
)
def test_other_models_have_none(model):
    assert kwp.head_geometry(model) is None
