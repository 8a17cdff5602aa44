"""Every Python block of the README runs, in order, as a reader would."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(), re.M | re.S)


@pytest.mark.once
def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlxtend")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    blocks = [code for language, code in BLOCKS if language == "python"]
    assert len(blocks) == 3
    for code in blocks:
        exec(compile(code, str(README), "exec"), names)
    assert "worst case" in capsys.readouterr().out
    assert names["report"].clean_accuracy > 0.8
    assert "val_robust_accuracy" in names["defense"].history.history
    assert (tmp_path / "model.keras").exists()
    assert (tmp_path / "report.html").exists()


def test_commands_are_make_targets():
    makefile = (README.parent / "Makefile").read_text()
    commands = [code for language, code in BLOCKS if language == "bash"]
    targets = re.findall(r"^make (\S+)", "\n".join(commands), re.M)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target
