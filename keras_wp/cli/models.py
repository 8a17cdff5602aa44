"""Models from files."""

import pathlib
import zipfile

import keras

from keras_wp._backend.saved_model import SavedModel


def load(path):
    """A model from a `.keras` file or the directory of a SavedModel.

    Args:
        path: Where it is.

    Returns:
        A Keras model, or a `SavedModel`.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    path = pathlib.Path(path)
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return SavedModel(path)
    if not path.is_file():
        raise ValueError(
            "MODEL must be a .keras file or the directory of a SavedModel. "
            f"Received: {str(path)!r}, which is "
            + ("another directory" if path.is_dir() else "not there")
        )
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ValueError(
            "MODEL must be a .keras file that is whole, or the directory of "
            f"a SavedModel. Received: {str(path)!r}"
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        # Keras raises whatever a layer's constructor does.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"The model {str(path)!r} could not be loaded. Received: "
            f"{type(error).__name__}: {reason}"
        ) from error


def has_gradients(model):
    """Whether attacks can follow the model's gradients."""
    return getattr(model, "differentiable", True)
