"""What a terminal shows of a long evaluation."""

import io
import sys

from keras_wp.evaluation import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watch(monkeypatch):
    """A function that lets time pass and returns the last line shown.

    No fixture, as pytest sets the standard error anew before each call.
    """
    terminal, now = Terminal(), [100.0]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])

    def after(seconds, bars):
        now[0] += seconds
        bars._bars.refresh()
        return terminal.getvalue().splitlines()[-1]

    return after


def test_what_is_left_follows_from_the_speed_of_this_run(monkeypatch):
    screen = watch(monkeypatch)
    with (
        progress.Progress(True) as bars,
        bars.task("PGD", 100) as report,
    ):
        # Known from an earlier run.
        report(20)
        assert "20/100" in screen(1, bars)
        assert "-:--:-- left" in screen(1, bars)
        # Ten in ten seconds; seventy are left.
        screen(8, bars)
        report(30, "4 fooled")
        line = screen(0, bars)
        assert "4 fooled 0:01:10 left" in line
        # A pause between two bursts is no news.
        assert "0:00:50 left" in screen(20, bars)
        assert "0:00:00 left" in screen(60, bars)
        # A burst makes up for it: 70 in 90 seconds, 10 are left.
        report(90)
        assert "0:00:13 left" in screen(0, bars)


def test_nothing_is_promised_of_a_stream_of_unknown_length(monkeypatch):
    screen = watch(monkeypatch)
    with (
        progress.Progress(True) as bars,
        bars.task("clean", None) as report,
    ):
        report(512)
        screen(5, bars)
        report(1024)
        assert "-:--:-- left" in screen(0, bars)


def test_a_task_that_is_over_leaves_the_screen(monkeypatch):
    screen = watch(monkeypatch)
    with progress.Progress(True) as bars:
        with bars.task("first", 10):
            assert "first" in screen(0, bars)
        with bars.task("second", 10):
            assert "first" not in screen(0, bars)
