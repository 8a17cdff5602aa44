"""The images of a report, as PNG files within its page."""

import base64
import io

import numpy as np
from PIL import Image

from keras_wp.reports import wording

# What is so thin and so long is a signal of several channels.
_THIN, _LONG = 4, 16


def gallery(report, name):
    """The report's samples: images, what attacks made of them, the changes.

    Args:
        report: A `Report`.
        name: A function from a label to the class's name.

    Returns:
        A list; samples that are no images are left out.
    """
    bounds = next((r.attack.get("bounds") for r in report.results), None)
    low, high = map(float, bounds or (0, 1))
    return [
        {
            "index": sample.index,
            "label": name(sample.label),
            "image": picture((drawable(sample.image) - low) / (high - low)),
            "attempts": [
                _attempt(sample, attempt, name, (low, high))
                for attempt in sample.attempts
            ],
            "resisted": sample.resisted,
        }
        for sample in report.samples
        if drawable(sample.image) is not None
    ]


def _attempt(sample, attempt, name, bounds):
    low, high = bounds
    found = drawable(attempt.image)
    delta = (found - drawable(sample.image)) / (high - low)
    largest = float(np.abs(delta).max())
    gain = 0.5 / largest if largest > 0 else 1.0
    return {
        "name": attempt.name,
        "predicted": name(attempt.predicted),
        "norm": wording.norm_text(attempt.norm),
        "distance": wording.eps_text(attempt.distance),
        "gain": f"{gain:.0f}" if gain >= 3 else f"{gain:.1f}",
        "image": picture((found - low) / (high - low)),
        # Around gray, so that both signs of a change can be seen.
        "change": picture(0.5 + gain * delta),
    }


def drawable(image):
    """An array as one that can be drawn.

    Args:
        image: `(H, W)`, `(H, W, C)` or `(C, H, W)`, with 1 or 3 channels.

    Returns:
        `(H, W)` or `(H, W, 3)`; None for an array of another shape.
    """
    if image.ndim == 2:
        thin = min(image.shape) <= _THIN and max(image.shape) >= _LONG
        return None if thin else image
    if image.ndim != 3:
        return None
    if image.shape[-1] not in (1, 3):
        image = np.moveaxis(image, 0, -1)
    if image.shape[-1] == 1:
        return image[..., 0]
    return image if image.shape[-1] == 3 else None


def picture(values):
    """An image as what an `img` element needs.

    Args:
        values: `(H, W)` shades of gray or `(H, W, 3)` colors, in [0, 1].

    Returns:
        Its `width`, its `height`, and the PNG file as the data URI `source`.
    """
    pixels = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return {
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "source": f"data:image/png;base64,{text}",
    }
