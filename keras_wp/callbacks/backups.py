"""What callbacks keep beside `keras.callbacks.BackupAndRestore`, on disk.

Its folder goes when the training has ended, and their files with it.
"""

import pathlib

import numpy as np
from keras import ops

from keras_wp._files import write_whole


def iterations(model):
    """How many steps a model's optimizer has made; 0 if it does not say."""
    steps = getattr(getattr(model, "optimizer", None), "iterations", 0)
    # Not `int`, which does not know a mirrored variable.
    return int(ops.convert_to_numpy(steps))


def save(folder, name, arrays, **numbers):
    """Save arrays and numbers, whole or not at all."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"array{i}": _known(array) for i, array in enumerate(arrays)}
    write_whole(folder / name, lambda to: np.savez(to, **named, **numbers))


def _known(array):
    """An array of a type that files have."""
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def load(folder, name, model):
    """`(numbers, arrays)` as saved, or None.

    None, too, if the model is at its first step: then nothing was restored,
    and what is there, another training's, is deleted.
    """
    if folder is None:
        return None
    path = pathlib.Path(folder) / name
    if not iterations(model):
        path.unlink(missing_ok=True)
    if not path.exists():
        return None
    with np.load(path) as file:
        arrays = [key for key in file.files if key.startswith("array")]
        numbers = {
            key: file[key].item() for key in file.files if key not in arrays
        }
        return numbers, [file[f"array{i}"] for i in range(len(arrays))]
