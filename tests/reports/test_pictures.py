"""Images as PNG files within a page."""

import numpy as np
import pytest
from pages import decode_png

from keras_wp.reports import pictures


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (3, 5, 1), (1, 3, 5)])
def test_png_keeps_every_pixel(rng, shape):
    pixels = rng.integers(0, 256, shape).astype(np.uint8)
    made = pictures.picture(pictures.drawable(pixels) / 255)
    assert (made["height"], made["width"]) == (3, 5)
    decoded = decode_png(made["source"])
    np.testing.assert_array_equal(decoded.squeeze(), pixels.squeeze())


def test_arrays_that_are_no_images_are_not_drawn():
    assert pictures.drawable(np.zeros(5)) is None
    assert pictures.drawable(np.zeros((4, 4, 7))) is None


def test_colors_beyond_the_ends_are_the_ends():
    made = pictures.picture(np.array([[-0.5, 0.0, 0.5, 1.0, 1.5]]))
    assert decode_png(made["source"]).ravel().tolist() == [0, 0, 128, 255, 255]
