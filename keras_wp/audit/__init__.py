"""Is the number true? Checks of an evaluation, all listed in `run.py`."""
