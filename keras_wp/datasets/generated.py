"""Files of generated images, which may be larger than the memory."""

import pathlib
import struct
import zipfile

import numpy as np

KEYS = ("image", "label")
# Of the header in front of a file in an archive: its size, and where it says
# how long the name and what follows are.
_HEADER, _LENGTHS = 30, 26


def read(generated, x, y):
    """Generated images and their labels, for real ones.

    Args:
        generated: The path of a `.npz` file, or a pair of arrays.
        x: The real images, `(N, H, W, C)`.
        y: Their labels, `(N,)`.

    Returns:
        `(images, labels)`: images `(M, H, W, C)`, uint8 or of the type of the
        real ones, which may lie on disk; and int32 labels `(M,)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If they do not fit the real ones.
    """
    if isinstance(generated, (str, pathlib.Path)):
        images, labels = _of_file(pathlib.Path(generated))
    else:
        try:
            images, labels = generated
        except (TypeError, ValueError):
            raise ValueError(
                "Argument `generated` must be the path of a .npz file, or a "
                "pair (images, labels) of arrays. Received: "
                f"{type(generated).__name__}"
            ) from None
    labels = np.asarray(labels)
    _check_images(images, x)
    _check_labels(labels, len(images), y)
    return images, labels.astype(np.int32)


def _check_images(images, x):
    shape, dtype = np.shape(images), getattr(images, "dtype", None)
    if not len(shape) or not shape[0] or shape[1:] != x.shape[1:]:
        raise ValueError(
            "Generated images must have the shape of the real ones, (M, "
            f"{', '.join(map(str, x.shape[1:]))}). Received: shape {shape}"
        )
    if dtype not in (np.uint8, x.dtype):
        raise ValueError(
            "Generated images must be uint8, or of the type of the real ones, "
            f"{x.dtype}. Received: dtype {dtype}"
        )
    if dtype != x.dtype and x.dtype.kind != "f":
        raise ValueError(
            "Generated images must be of the type of the real ones, "
            f"{x.dtype}. Received: dtype {dtype}"
        )


def _check_labels(labels, count, y):
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            "Labels of generated images must be integers, one for each of the "
            f"{count} images. Received: shape {labels.shape}, dtype "
            f"{labels.dtype}"
        )
    if without := int((labels < 0).sum()):
        raise ValueError(
            "Generated images need labels: have a classifier name them. "
            f"Received: {without} of {count} with labels below 0"
        )
    if labels.max() > y.max():
        raise ValueError(
            "Labels of generated images must be those of the real ones, up to "
            f"{y.max()}. Received: labels up to {labels.max()}"
        )


def _of_file(path):
    if not path.exists():
        raise FileNotFoundError(
            "Generated images are not downloaded: `generated` must be the "
            f"path of a file that is there. Received: {path}"
        )
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError(
            "A file of generated images must be a .npz file. Received: "
            f"{path}, which is none"
        ) from None
    with archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if not {*KEYS} <= {*names}:
            raise ValueError(
                "A file of generated images must have the arrays 'image' and "
                f"'label'. Received: {path} with {names}"
            )
        images = _mapped(path, archive.getinfo("image.npy"))
    with np.load(path) as file:
        if images is None:
            images = file["image"]
        return images, file["label"]


def _mapped(path, member):
    """An array in an archive, left on the disk; None if it is compressed."""
    if member.compress_type != zipfile.ZIP_STORED:
        return None
    with open(path, "rb") as file:
        file.seek(member.header_offset + _LENGTHS)
        lengths = struct.unpack("<HH", file.read(4))
        file.seek(member.header_offset + _HEADER + sum(lengths))
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(file)
        if dtype.hasobject:
            return None
        return np.memmap(
            path,
            dtype,
            "r",
            offset=file.tell(),
            shape=shape,
            order="F" if by_columns else "C",
        )
