"""`evaluate --shard`, `merge`, and `compare` of more than two."""

import json

import keras
import numpy as np
import pytest
from commands import EVALUATE, run
from helpers import plainly, tiny_cnn

import keras_wp as kwp
from keras_wp.cli import attacking

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "a.keras"
    tiny_cnn().save(path)
    return path


def error(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_shards_are_merged(model, images, tmp_path, capsys):
    for k in (1, 2, 3):
        report = tmp_path / "shards" / f"{k}.json"
        options = ("--shard", f"{k}/3", "--report", report)
        assert run("evaluate", model, *EVALUATE, *options) == 0
    capsys.readouterr()
    path = tmp_path / "whole.json"
    code = run("merge", tmp_path / "shards", "--report", path)
    assert code == 0
    assert "30 images; accuracy" in capsys.readouterr().out
    merged = kwp.Report.from_json(path)
    network = keras.saving.load_model(model)
    whole = plainly(network, images, ["fgsm", "pgd20"], eps=0.1)
    np.testing.assert_array_equal(merged.robust(), whole.robust())
    assert "--shard" not in merged.environment["command"]

    (tmp_path / "shards" / "2.json").unlink()
    code = run("merge", tmp_path / "shards", "--fail-under", "0")
    told = capsys.readouterr()
    assert code == 3
    assert "partial: shard 2 of 3 is missing" in told.out
    assert "failed: shard 2 of 3 is missing." in told.err


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "3/x"])
def test_bad_shard_is_one_sentence(model, capsys, text):
    assert run("evaluate", model, *EVALUATE, "--shard", text) == 2
    assert "expected K/N with 1 <= K <= N" in error(capsys)


def test_a_shard_without_a_file_is_refused(model, capsys):
    assert run("evaluate", model, *EVALUATE, "--shard", "1/4") == 2
    assert "--shard needs --report FILE.json" in error(capsys)


def test_what_is_merged_must_be_there(tmp_path, capsys):
    assert run("merge", tmp_path / "none.json") == 2
    assert "What is merged must be there" in error(capsys)
    assert run("merge", tmp_path) == 2
    assert "which has none" in error(capsys)


def test_three_models_are_compared(model, tmp_path, monkeypatch, capsys):
    paths = [model]
    for seed in (3, 4):
        paths.append(tmp_path / f"{seed}.keras")
        tiny_cnn(seed=seed).save(paths[-1])
    folders, attacked = [], attacking.attacked

    def watched(*args, resume_dir, **options):
        folders.append(resume_dir.name)
        return attacked(*args, resume_dir=resume_dir, **options)

    monkeypatch.setattr(attacking, "attacked", watched)
    written = [tmp_path / "board.json", tmp_path / "board.html"]
    reports = [part for path in written for part in ("--report", path)]
    options = (*EVALUATE, "--bounds", "0,1", "--resume-dir", tmp_path / "r")
    assert run("compare", *paths, *options, *reports) == 0
    assert folders == ["A", "B", "C"]
    assert "3 models, 30 images" in capsys.readouterr().out
    loaded = json.loads(written[0].read_text())
    assert loaded["names"] == ["A: a.keras", "B: 3.keras", "C: 4.keras"]
    assert "C: 4.keras" in written[1].read_text()


def test_a_cluster_needs_ray(model, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("evaluate", model, *EVALUATE, "--cluster", "ray") == 2
    assert error(capsys).endswith("needs Ray: pip install 'keras_wp[ray]'")
    assert run("evaluate", model, *EVALUATE, "--cluster", "dask") == 2
    assert "expected ray, or ray=ADDRESS" in error(capsys)
