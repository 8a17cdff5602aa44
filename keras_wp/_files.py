"""Files that are there whole or not at all."""

import json
import os


def write_whole(path, write):
    """Write a file whole or not at all, whenever the process is killed.

    Args:
        path: Its path.
        write: Writes it to the path that it is given.
    """
    # The suffixes stay, because Keras and NumPy tell formats by them.
    partial = path.with_name(f"partial-{path.name}")
    write(partial)
    os.replace(partial, path)


def write_json(path, value):
    """Write JSON, whole or not at all."""
    text = json.dumps(value, indent=1) + "\n"
    write_whole(path, lambda to: to.write_text(text, "utf-8"))
