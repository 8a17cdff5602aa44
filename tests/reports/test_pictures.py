"""Images as PNG files within a page."""

import numpy as np
import pytest
from made_reports import attack_result
from pages import decode_png

from keras_wp import Report
from keras_wp.reports import pictures, signals
from keras_wp.reports.samples import Attempt, Sample

pytestmark = pytest.mark.once


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


def sampled(before, after):
    """A report with one sample, and what an attack made of it."""
    attempt = Attempt("PGD", "linf", 0.1, 1, after)
    sample = Sample(0, 0, before, (attempt,), ("FGSM",))
    ones = np.ones(1, bool)
    return Report(
        ones,
        (attack_result("PGD", ones, ~ones),),
        {"model": "net", "keras": "3", "backend": "jax", "seed": 0},
        samples=(sample,),
    )


def test_a_signal_is_drawn_as_lines_and_a_row_as_a_table():
    t = np.linspace(0, 6, 96).astype(np.float32)
    for before in (np.sin(t), np.stack([np.sin(t), np.cos(t)], axis=1)):
        report = sampled(before, before + np.float32(0.1))
        assert pictures.gallery(report, str) == []
        (found,) = signals.gallery(report, str)
        channels = 1 if before.ndim == 1 else 2
        assert len(found["chart"]["curves"]) == 2 * channels
        assert found["table"] is None
        assert "A signal before and after attacks" in report.to_html()
    row = np.array([0.5, -2.0, 3.25], np.float32)
    report = sampled(row, row + np.float32(0.25))
    (found,) = signals.gallery(report, str)
    assert [r["cells"] for r in found["table"]["rows"]] == [
        ["0.5", "0.75"],
        ["-2", "-1.75"],
        ["3.25", "3.5"],
    ]
    assert "Resists: FGSM" in report.to_html()
