"""The command line: `python -m keras_wp evaluate`, `compare` and `info`."""

from keras_wp.cli.main import main

__all__ = ["main"]
