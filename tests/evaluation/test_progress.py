"""What a terminal shows of a long evaluation."""

import io
import sys

import numpy as np
import pytest
from helpers import plainly, random_images, tiny_cnn, to_numpy

from keras_wp.attacks import PGD
from keras_wp.engine import stream
from keras_wp.engine.slots import Image
from keras_wp.evaluation import progress

pytestmark = pytest.mark.once


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


def test_images_that_resist_move_the_bar_before_they_are_decided():
    model, x = tiny_cnn(), random_images(6)
    z = to_numpy(model(x))
    y = z.argmax(-1)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_WATCHED", 0.0)
        images = [
            Image(i, x[i], y[i], y[i], np.zeros(2, np.uint32), z[i])
            for i in range(6)
        ]
        attack = PGD(eps=1e-3, steps=40)
        outcomes = stream.run(attack, model, images, watch=seen.append)
        robust = sum(not outcome.success for outcome in outcomes)
    assert robust > 3
    assert 0 < seen[0] < 6
    assert all(0 <= share <= 6 for share in seen)


def test_lines_for_a_log_and_silence(capsys):
    model, x = tiny_cnn(), random_images(6)
    y = to_numpy(model(x)).argmax(-1)
    plainly(model, (x, y), PGD(eps=0.05, steps=2), verbose=2)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("clean: 6 images (")
    assert told[1].startswith("PGD2 eps=0.05: 6 images, ")
    plainly(model, (x, y), PGD(eps=0.05, steps=2), verbose=0)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="`verbose` must be 0, 1, 2"):
        plainly(model, (x, y), PGD(eps=0.05, steps=2), verbose=3)


def test_a_notebook_has_bars(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert progress.Progress(1)._bars is not None
    assert progress.Progress(0)._bars is None


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_log_hears_of_long_tasks_now_and_then(monkeypatch, level):
    log, now = io.StringIO(), [100.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    with (
        progress.Progress(level) as lines,
        lines.task("PGD", 100) as report,
    ):
        for done, seconds in ((10, 59), (20, 1), (30, 59), (40, 2)):
            now[0] += seconds
            report(done, f"{done // 2} fooled")
    told = [
        "PGD: 20 of 100 images, 10 fooled (60.0 s)",
        "PGD: 40 of 100 images, 20 fooled (121.0 s)",
        "PGD: 40 images, 20 fooled (121.0 s)",
    ]
    assert log.getvalue().splitlines() == told * (level > 0)
