"""The blocks of pages that train for long, with little data and few epochs."""

import re

import numpy as np
import pytest
from helpers import random_images, tiny_cnn
from pages import blocks
from processes import ROOT

import keras_wp as kwp

pytestmark = [pytest.mark.slow, pytest.mark.once]


def images(count, shape):
    return random_images(count, shape), np.arange(count) % 10


def run(page, shape, between=None):
    """What the names of a page are after its blocks, in order.

    `between` is called with the names before each block.
    """
    (x_train, y_train), (x_test, y_test) = images(60, shape), images(20, shape)
    names = {
        "kwp": kwp,
        "x_train": x_train,
        "y_train": y_train,
        "x_test": x_test,
        "y_test": y_test,
        "x_val": x_test,
        "y_val": y_test,
        "model": tiny_cnn(shape, 10),
    }
    exec("import keras", names)
    found = blocks(ROOT / "docs" / f"{page}.md", "python")
    assert found
    for _, code in found:
        code = re.sub(r"epochs=\d+", "epochs=1", code)
        code = re.sub(r"batch_size=\d+", "batch_size=20", code)
        code = re.sub(r"// \d+", "// 20", code)
        if between is not None:
            between(names)
        exec(compile(code, page, "exec"), names)
    return names


# An epoch of noise teaches nothing.
@pytest.mark.filterwarnings("ignore:No epoch has made:UserWarning")
def test_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shape = (32, 32, 3)
    x, y = images(50, shape)
    np.savez("1m.npz", image=(255 * x).astype(np.uint8), label=y)
    steps = []

    def same_images(names):
        if names["model"].input_shape[1:] != shape:  # Those of MNIST.
            names["model"] = tiny_cnn(shape, 10)
        steps.append(names.get("defense"))

    names = run("training", shape, same_images)
    assert len(steps) == 13
    assert (tmp_path / "robust.keras").exists()
    assert (tmp_path / "best.keras").exists()
    assert names["recipe"].ramp == 2
    assert len(names["report"]) == 20
    trained = steps[8]  # With the callbacks of the block after it.
    trained.fit(
        names["x_train"],
        names["y_train"],
        validation_data=(names["x_val"], names["y_val"]),
        callbacks=names["callbacks"],
        verbose=0,
    )
    assert (tmp_path / "log.csv").exists()


def test_certificates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("certificates", (28, 28, 1))
    assert len(names["certificate"].radius) == 20
    proved, not_broken = names["report"].bracket("l2", 1.58)
    assert proved <= not_broken
    assert (tmp_path / "smoothed.html").exists()


def test_audit(capsys):
    report = run("audit", (28, 28, 1))["report"]
    shown = capsys.readouterr().out
    assert report.findings
    for finding in report.findings:
        assert finding.message in shown
