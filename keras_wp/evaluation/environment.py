"""What a number must carry to be understood later."""

import datetime
import importlib.metadata
import platform

import keras
import numpy as np

from keras_wp._version import __version__


def environment(seed, model):
    """Versions, machine, seed and model, as plain values."""
    backend = keras.backend.backend()
    now = datetime.datetime.now(datetime.UTC)
    return {
        "keras_wp": __version__,
        "keras": keras.__version__,
        "backend": backend,
        "backend_version": importlib.metadata.version(backend),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "seed": seed,
        "model": getattr(model, "name", None) or type(model).__name__,
    }
