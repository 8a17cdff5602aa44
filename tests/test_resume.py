"""A killed evaluation goes on, and ends with the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[3])
from helpers import mixed_labels, random_images, tiny_cnn
import keras_wp as kwp
from keras_wp.attacks import PGD, AutoAttack

attack, count = eval(sys.argv[4])
model = tiny_cnn(scale=0.5)
x = random_images(count)
report = kwp.evaluate(
    model,
    (x, mixed_labels(model, x)),
    [attack],
    batch_size=4,
    resume_dir=sys.argv[1] or None,
    progress=False,
)
report.to_json(sys.argv[2])
"""


PGD = 'PGD(eps=0.02, steps=60, restarts=3, loss="margin"), 120'
AUTOATTACK = "AutoAttack(eps=0.02, steps=5, queries=50), 1000"


def command(script, resume_dir, output, work):
    return [
        sys.executable,
        str(script),
        str(resume_dir),
        str(output),
        os.path.dirname(__file__),
        work,
    ]


def outcomes(path):
    report = json.loads(path.read_text())
    names = ("robust", "distance", "steps", "zero_gradients")
    return [[r[name] for name in names] for r in report["results"]]


def known_outcomes(folder):
    files = list(folder.glob("*.jsonl")) if folder.exists() else []
    return sum(len(f.read_text().splitlines()) - 1 for f in files)


def kill_at(known, command, folder):
    """Kill the process once so many outcomes are known; return how many."""
    process = subprocess.Popen(command)
    while process.poll() is None and known_outcomes(folder) < known:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return known_outcomes(folder)


@pytest.mark.slow
def test_killed_evaluation_ends_with_the_same_numbers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
    folder = tmp_path / "outcomes"
    subprocess.run(command(script, "", whole, PGD), check=True)
    again = command(script, folder, resumed, PGD)
    assert 10 <= kill_at(10, again, folder) < 90
    subprocess.run(again, check=True)
    assert outcomes(resumed) == outcomes(whole)
    assert known_outcomes(folder) == 90


@pytest.mark.slow
def test_suite_on_a_thousand_images_bears_being_killed_in_each_part(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
    kept, folder = tmp_path / "kept", tmp_path / "outcomes"
    subprocess.run(command(script, kept, whole, AUTOATTACK), check=True)
    # All images that are classified rightly, then those left to each part.
    parts = [len(f.read_text().splitlines()) - 1 for f in kept.glob("*.jsonl")]
    parts = sorted(parts, reverse=True)
    assert len(parts) == 4
    assert parts[0] == 750 > parts[1] and parts[3] > 50

    again = command(script, folder, resumed, AUTOATTACK)
    begun = 0
    for part in parts:
        known = kill_at(begun + part // 2, again, folder)
        begun += part
        assert known < begun
    subprocess.run(again, check=True)
    assert outcomes(resumed) == outcomes(whole)
    assert known_outcomes(folder) == sum(parts)
