"""A progress bar with an estimate of what is left, on a terminal only."""

import contextlib
import datetime
import sys
from time import monotonic

from rich import console as rich_console
from rich import progress as rich_progress
from rich import text as rich_text


class _TimeLeft(rich_progress.ProgressColumn):
    """What is left, if all goes on at the average speed so far.

    Images come in bursts, as those that begin together and resist end
    together, with long pauses: the speed of the last moments says nothing.
    """

    def render(self, task):
        end = task.fields["end"]
        if end is None:
            return rich_text.Text("-:--:-- left")
        seconds = max(0, round(end - monotonic()))
        return rich_text.Text(f"{datetime.timedelta(seconds=seconds)} left")


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
                _TimeLeft(),
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
        begun = monotonic()
        known = None
        task = self._bars.add_task(description, total=total, note="", end=None)

        def report(done, note=""):
            nonlocal known
            # What is there at the first call took no time.
            known = done if known is None else known
            now, end = monotonic(), None
            if total is not None and done > known:
                end = now + (now - begun) * (total - done) / (done - known)
            self._bars.update(task, completed=done, note=note, end=end)

        try:
            yield report
        finally:
            self._bars.remove_task(task)
