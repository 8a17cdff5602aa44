"""Imports the frameworks without their log lines. Import this first."""

import contextlib
import os
import sys
import tempfile

from absl import logging

logging.set_verbosity(logging.ERROR)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def stderr():
    """Drop what native code writes before its log level can be set."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


with stderr():
    import keras  # noqa: F401
    import tensorflow  # noqa: F401  (reads data and exports for JAX too)
