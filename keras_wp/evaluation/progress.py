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


# Where no bar can be shown, a task says so often how far it is, in seconds.
_PAUSE = 60.0


def level(progress, verbose):
    """How much is shown: 0 for nothing, 1 for bars, 2 for a line for each task.

    Args:
        progress: Whether to show bars.
        verbose: As in `keras.Model.fit`; None leaves it to `progress`.

    Raises:
        ValueError: If `verbose` is not as described.
    """
    if verbose is None or verbose == "auto":
        return int(bool(progress))
    if verbose not in (0, 1, 2):
        raise ValueError(
            "Argument `verbose` must be 0, 1, 2, or 'auto'. Received: "
            f"verbose={verbose!r}"
        )
    return int(verbose)


def in_notebook():
    """Whether standard output is that of a notebook's cell."""
    return "ipykernel" in sys.modules


class Progress:
    """Shows how far an evaluation is.

    Args:
        enabled: As `level` returns it. Bars are shown on a terminal or in a
            notebook only; elsewhere a task that takes more than a minute says
            how far it is, in lines on standard error.
    """

    def __init__(self, enabled):
        self._bars, self._lines = None, enabled == 2
        self._silent = not enabled
        notebook = in_notebook()
        if enabled == 1 and (sys.stderr.isatty() or notebook):
            self._bars = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(bar_width=24),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TextColumn("{task.fields[note]}"),
                _TimeLeft(),
                console=rich_console.Console(
                    stderr=not notebook, force_jupyter=notebook or None
                ),
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
    def task(self, description, total, what="images"):
        """A bar; yields a function of the count that is done and a note."""
        begun = monotonic()
        if self._bars is None:
            told, spoken = {}, begun

            def last(done, note=""):
                nonlocal spoken
                told.update(done=done, note=note)
                if not self._silent and monotonic() - spoken >= _PAUSE:
                    spoken = monotonic()
                    _tell(description, told, spoken - begun, what, total)

            yield last
            if self._lines or spoken > begun:
                _tell(description, told, monotonic() - begun, what)
            return
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


def _tell(description, told, seconds, what, total=None):
    """One line of what a task has done, so far if there is a `total`."""
    of = f" of {total:g}" if total else ""
    done = f": {told['done']:g}{of} {what}" if told else ""
    note = f", {told['note']}" if told.get("note") else ""
    text = f"{description}{done}{note} ({seconds:.1f} s)\n"
    sys.stderr.write(text)
    sys.stderr.flush()
