"""A killed evaluation goes on, and ends with the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time

SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[3])
from helpers import mixed_labels, random_images, tiny_cnn
import keras_wp as kwp

model = tiny_cnn(scale=0.5)
x = random_images(120)
attack = kwp.attacks.PGD(eps=0.02, steps=60, restarts=3, loss="margin")
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


def command(script, resume_dir, output):
    return [
        sys.executable,
        str(script),
        str(resume_dir),
        str(output),
        os.path.dirname(__file__),
    ]


def outcomes(path):
    report = json.loads(path.read_text())
    names = ("robust", "distance", "steps", "zero_gradients")
    return [[r[name] for name in names] for r in report["results"]]


def known_outcomes(folder):
    files = list(folder.glob("*.jsonl")) if folder.exists() else []
    return sum(len(f.read_text().splitlines()) - 1 for f in files)


def test_killed_evaluation_ends_with_the_same_numbers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
    folder = tmp_path / "outcomes"
    subprocess.run(command(script, "", whole), check=True)

    process = subprocess.Popen(command(script, folder, resumed))
    while process.poll() is None and known_outcomes(folder) < 10:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    known = known_outcomes(folder)
    assert 10 <= known < 90

    subprocess.run(command(script, folder, resumed), check=True)
    assert outcomes(resumed) == outcomes(whole)
    assert known_outcomes(folder) == 90
