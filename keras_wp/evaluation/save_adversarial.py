"""All adversarial images in one file, for anybody to check."""

import json
import os
import pathlib
import zipfile

import numpy as np

_ROWS = 256


def check_path(path):
    """Raise a ValueError unless images can be saved there."""
    path = pathlib.Path(path)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise ValueError(
            "`save_adversarial` must be the path of an .npz file in a "
            f"directory that exists. Received: {str(path)!r}"
        )


def save(path, keeper, kept):
    """Write the data and what each attack made of it as an `.npz` file.

    It holds `x`, the images `(n, ...)` float32; `y`, their labels `(n,)`;
    `x_adv_0`, `x_adv_1`, ...: for each attack and eps, adversarial images in
    the same order, and the images as they are where it failed; `attacked_0`,
    `attacked_1`, ... `(n,)` bool: which images it was tried on; and `attacks`,
    a JSON text: for each result its `name`, `norm`, `eps`, the arrays with
    its `images` and with those that were `attacked`, and its
    `robust_accuracy`.

    Args:
        path: The file.
        keeper: The evaluation's `Keeper`, which has kept everything.
        kept: For each attack and eps, its `AttackResult`s and `Pictures`.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f"partial-{path.name}")
    n = len(keeper.labels)
    index = [
        {
            "name": result.name,
            "norm": result.norm,
            "eps": result.eps,
            "images": f"x_adv_{place}",
            "attacked": f"attacked_{place}",
            "robust_accuracy": result.robust_accuracy,
        }
        for place, (results, _) in enumerate(kept)
        for result in results
    ]
    x = keeper.all_images()
    with zipfile.ZipFile(
        partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as file:
        _write(file, "attacks", np.asarray(json.dumps(index)))
        _write(file, "y", keeper.labels.astype(np.int32))
        _stream(file, "x", x.shape, lambda i: x[i])
        for place, (results, pictures) in enumerate(kept):
            result = results[0]
            _write(file, f"attacked_{place}", result.attacked)
            # An earlier run may have left pictures of other images.
            found = result.attacked & np.isfinite(result.distance)

            def image(i, pictures=pictures, found=found):
                return pictures.get(keeper.identities[i]) if found[i] else x[i]

            _stream(file, f"x_adv_{place}", (n, *x.shape[1:]), image)
    os.replace(partial, path)


def _write(file, name, array):
    with file.open(f"{name}.npy", "w") as entry:
        np.lib.format.write_array(entry, array, allow_pickle=False)


def _stream(file, name, shape, image):
    """Write an array of images, of which a few are in memory at a time."""
    with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(entry, header)
        for begin in range(0, shape[0], _ROWS):
            rows = range(begin, min(begin + _ROWS, shape[0]))
            block = np.stack([image(i) for i in rows]).astype("<f4")
            entry.write(block.tobytes())
