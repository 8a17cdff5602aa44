"""Every block of README and docs runs, or is taken as far as it is quick."""

import pathlib
import re
import shlex

import pytest
from helpers import run_example
from pages import blocks
from processes import ROOT
from studies import listed

from keras_wp import attacks
from keras_wp._kinds import KINDS
from keras_wp.cli.main import parser

README = ROOT / "README.md"
DOCS = ROOT / "docs"
ATTACKS = DOCS / "choosing-an-attack.md"
# In this order: a page continues with the model and data of those before it.
PAGES = (README, DOCS / "quickstart.md", ATTACKS, DOCS / "models-and-data.md")
OTHERS = tuple(
    DOCS / f"{name}.md"
    for name in ("reading-a-report", "command-line", "experiments", "scaling")
)
BLOCKS = [found for page in (*PAGES, *OTHERS) for found in blocks(page)]


@pytest.mark.once
def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlxtend")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    found = [
        (code, str(page))
        for page in PAGES
        for _, code in blocks(page, "python")
    ]
    assert len(found) == 7
    for code, page in found:
        # The same of fewer images.
        code = re.sub(r"\[:(100|50|20)\]", "[:20]", code)
        exec(compile(code, page, "exec"), names)
    assert "worst case" in capsys.readouterr().out
    assert names["report"].clean_accuracy > 0.8
    assert names["x_adv"].shape == (20, 28, 28, 1)
    assert "val_robust_accuracy" in names["defense"].history.history
    assert (tmp_path / "model.keras").exists()
    assert (tmp_path / "report.html").exists()


@pytest.mark.once
def test_page_on_attacks_has_them_all():
    rows = re.findall(r"^\| `.*", ATTACKS.read_text(), re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(attacks.__all__) - {"Attack", "get"} <= named
    assert set(KINDS) <= named


def test_commands_are_make_targets():
    makefile = (README.parent / "Makefile").read_text()
    commands = [code for language, code in BLOCKS if language == "bash"]
    targets = re.findall(r"^make (\S+)", "\n".join(commands), re.M)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def commands(start):
    """The words after `start` of every command that begins so."""
    found = [code for kind, code in BLOCKS if kind in ("bash", "console")]
    lines = "\n".join(found).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.lstrip("$ "), comments=True) for line in lines]
    words = [[w for w in line if not w.startswith("KERAS_")] for line in words]
    return [w[len(start) :] for w in words if w[: len(start)] == start]


def test_command_lines_are_understood():
    given = [*commands(["keras-wp"]), *commands(["python", "-m", "keras_wp"])]
    assert len(given) >= 8
    for words in given:
        args = parser().parse_args(words)
        assert args.command in ("evaluate", "merge", "compare", "info")


@pytest.mark.once
def test_commands_of_the_experiments_are_understood():
    given = [
        (words[0], words[1:])
        for words in commands(["python"])
        # Several hosts are for test_hosts.py.
        if words[0].startswith("examples/")
        and "--num_processes=2" not in words
        and words[0] != "examples/recheck.py"
    ]
    assert len(given) >= 3
    for script, flags in given:
        # All other flags are read before this slip is told.
        result = run_example(pathlib.Path(script).stem, *flags, "--eps=8/0")
        assert result.stderr.startswith("--eps must be "), result.stderr


@pytest.mark.once
def test_commands_of_the_studies_are_understood():
    given = commands(["python", "-m", "keras_wp.experiments"])
    assert len(given) >= 4
    for study, *flags in given:
        assert listed(study, *flags[:2], "--list", *flags[2:])


def test_the_readme_is_a_door():
    assert len(README.read_text().split()) <= 700
    for page in (*PAGES, *OTHERS):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["quickstart", "custom_attack", "adversarial_training", "certify"],
)
def test_examples_run(name):
    result = run_example(name, timeout=900)
    assert result.returncode == 0, result.stderr
    assert "worst case" in result.stdout
