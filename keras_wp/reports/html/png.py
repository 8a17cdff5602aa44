"""Images as PNG files, and those as part of a page."""

import base64
import struct
import zlib

import numpy as np


def png(pixels):
    """An image as a PNG file.

    Args:
        pixels: `(H, W)` shades of gray or `(H, W, 3)` colors, uint8.

    Returns:
        Bytes.

    Source: Portable Network Graphics, third edition (W3C, 2025).
    """
    height, width = pixels.shape[:2]
    color = 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    # Each line begins with the number of its filter: 0 is none.
    lines = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*chunks, (b"IEND", b""))
    )


def data_uri(pixels):
    """An image as the address of an `img` element that needs no file."""
    text = base64.b64encode(png(pixels)).decode("ascii")
    return f"data:image/png;base64,{text}"


def drawable(image):
    """An array as one that can be drawn.

    Args:
        image: `(H, W)`, `(H, W, C)` or `(C, H, W)`, with 1 or 3 channels.

    Returns:
        `(H, W)` or `(H, W, 3)`; None for an array of another shape.
    """
    if image.ndim == 2:
        return image
    if image.ndim != 3:
        return None
    if image.shape[-1] not in (1, 3):
        image = np.moveaxis(image, 0, -1)
    if image.shape[-1] == 1:
        return image[..., 0]
    return image if image.shape[-1] == 3 else None


def to_bytes(values):
    """Numbers in [0, 1] as uint8."""
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
