"""The command line: `keras-wp evaluate`, `compare` and `info`.

Modules here import nothing heavy before a command is understood: `add_options`
and `check` do without Keras, and what runs imports what it needs.
"""

from keras_wp.cli.main import main

__all__ = ["main"]
