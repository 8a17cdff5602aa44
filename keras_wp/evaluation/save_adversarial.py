"""All adversarial images in one file, for anybody to check."""

import json
import pathlib

import numpy as np

from keras_wp._files import write_whole


def check_path(path):
    """Raise a ValueError unless images can be saved there."""
    path = pathlib.Path(path)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise ValueError(
            "`save_adversarial` must be the path of an .npz file in a "
            f"directory that exists. Received: {str(path)!r}"
        )


def save(path, keeper, kept, units):
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
        units: The `keras_wp.inputs.Units` of the images. What is written is
            in those of the data, as the model takes them.
    """
    path = pathlib.Path(path)
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
    every = range(len(keeper.labels))
    images = keeper.images(every)
    x = keeper.on_disk("x", ((i, units.to_data(u)) for i, u in images))
    labels = keeper.labels.astype(np.int32)
    arrays = {"attacks": json.dumps(index), "y": labels, "x": x}
    for place, (results, pictures) in enumerate(kept):
        result = results[0]
        # An earlier run may have left pictures of other images.
        found = result.attacked & np.isfinite(result.distance)
        images = (
            (
                i,
                units.to_data(pictures.get(keeper.identities[i]))
                if found[i]
                else x[i],
            )
            for i in every
        )
        arrays[f"attacked_{place}"] = result.attacked
        arrays[f"x_adv_{place}"] = keeper.on_disk(f"x_adv_{place}", images)
    write_whole(path, lambda to: np.savez_compressed(to, **arrays))
