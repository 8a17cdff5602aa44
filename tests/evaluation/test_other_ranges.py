"""Bytes that a model wants in another range than their type tells."""

import keras
import numpy as np
import pytest
from helpers import plainly

import keras_wp

pytestmark = pytest.mark.once
COUNT = 40


def bright_or_dark(*first):
    """Tells bright images from dark ones, of pixels in [0, 1]."""
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            *first,
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    kernel = np.array([[-1.0, 1.0]] * 4, np.float32)
    model.layers[-1].set_weights([kernel, np.array([2.0, -2.0], np.float32)])
    return model


def images():
    y = np.arange(COUNT) % 2
    rng = np.random.default_rng(0)
    x = rng.integers(20, 100, (COUNT, 2, 2, 1)) + 130 * y[:, None, None, None]
    return x.astype(np.uint8), y


def found(model, x, y, eps=0.1, **given):
    report = plainly(model, (x, y), "fgsm", eps=eps, progress=False, **given)
    return [f for f in report.findings if f.check == "pixels"]


@pytest.mark.parametrize("eps", [0.1, 25])
def test_a_model_of_other_pixels_is_seen(eps):
    (finding,) = found(bright_or_dark(), *images(), eps=eps)
    assert finding.severity == "high"
    assert finding.evidence == {"taken": 0.5, "best": 1.0}
    assert "50.0% of the first 40 correctly" in finding.message
    assert "With pixels in [0, 1], as x / 255" in finding.message


def test_minus_one_to_one_is_seen():
    x, y = images()
    centered = keras.layers.Rescaling(0.5, 0.5)
    (finding,) = found(bright_or_dark(centered), x, y)
    assert "in [-1, 1], as x / 127.5 - 1" in finding.message


def test_what_fits_is_left_alone():
    x, y = images()
    scaled = bright_or_dark(keras.layers.Rescaling(1 / 255))
    assert not found(scaled, x, y)
    # Those who say what their images are have said it.
    inputs = keras_wp.Inputs(bounds=(0, 255))
    assert not found(bright_or_dark(), x, y, eps=25, inputs=inputs)
    assert not found(bright_or_dark(), (x / 255).astype("float32"), y)
