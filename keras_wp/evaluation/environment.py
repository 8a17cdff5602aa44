"""What a number must carry to be understood later."""

import platform

import keras
import numpy as np

from keras_wp._version import __version__


def environment(seed, model):
    """Versions, machine, seed and model, as plain values."""
    return {
        "keras_wp": __version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seed": seed,
        "model": getattr(model, "name", None) or type(model).__name__,
    }
