"""A progress bar with an estimate of what is left, on a terminal only."""

import contextlib
import sys

from rich import console as rich_console
from rich import progress as rich_progress


class Progress:
    """Shows how far an evaluation is.

    Args:
        enabled: Whether to show anything. Nothing is shown anyway where
            standard error is not a terminal.
    """

    def __init__(self, enabled):
        self._bars = None
        if enabled and sys.stderr.isatty():
            self._bars = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(bar_width=24),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TextColumn("{task.fields[note]}"),
                rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
                console=rich_console.Console(stderr=True),
                transient=True,
            )

    def __enter__(self):
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exception):
        if self._bars is not None:
            self._bars.stop()

    @contextlib.contextmanager
    def task(self, description, total):
        """A bar; yields a function of the count that is done and a note."""
        if self._bars is None:
            yield lambda done, note="": None
            return
        task = self._bars.add_task(description, total=total, note="")
        try:
            yield lambda done, note="": self._bars.update(
                task, completed=done, note=note
            )
        finally:
            self._bars.remove_task(task)
