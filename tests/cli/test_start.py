"""How the command line starts: at once, and whole where it is needed."""

import ast
import configparser
import pathlib
import resource
import subprocess
import sys

import pytest
from commands import run
from helpers import ROOT, tiny_cnn
from processes import environment

import keras_wp as kwp
from keras_wp._version import __version__

pytestmark = pytest.mark.once

# What setuptools writes for an entry point.
SCRIPT = """\
import sys
from keras_wp.cli import main
if __name__ == "__main__":
    code = main()
    {then}
    sys.exit(code)
"""
HEAVY = {"keras", "tensorflow", "jax", "torch", "numpy", "scipy", "rich", "PIL"}
MISTAKES = {
    "help": (["-h"], 0, "usage: keras-wp "),
    "help of a command": (["evaluate", "-h"], 0, "usage: keras-wp evaluate "),
    "version": (["--version"], 0, f"keras_wp {__version__}\n"),
    "command": (["evalute", "a.keras"], 2, "see keras-wp -h"),
    "attack": (
        ["evaluate", "a.keras", "--attacks", "pdg40"],
        2,
        "(see keras-wp evaluate -h)",
    ),
    "argument of an attack": (
        ["evaluate", "a.keras", "--attacks", "pgd:step=9"],
        2,
        "Received: 'step' in 'pgd:step=9'",
    ),
    "model": (["info", "no.keras"], 2, "which is not there"),
    "option": (
        ["info", "no.keras", "--nosuch"],
        2,
        "error: unrecognized arguments: --nosuch (see keras-wp info -h)\n",
    ),
    "option with a slip": (
        ["evaluate", "a.keras", "--atacks", "pgd40"],
        2,
        "--atacks (did you mean --attacks?) (see keras-wp evaluate -h)\n",
    ),
    "data": (["evaluate", "a.keras", "--data", "no.npz"], 2, "'no.npz'"),
    "budget": (
        ["evaluate", "a.keras", "--data", "svhn_cropped"],
        2,
        "--eps must be given",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    tiny_cnn().save(folder / "a.keras")
    return folder


def script(folder, then="pass"):
    path = folder / "keras-wp"
    path.write_text(SCRIPT.format(then=then))
    return path


def start(folder, *args, then="pass"):
    return subprocess.run(
        [sys.executable, script(folder, then), *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment(),
    )


@pytest.mark.parametrize("kind", MISTAKES)
def test_help_and_mistakes_are_answered_at_once(folder, kind):
    args, code, answer = MISTAKES[kind]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = start(folder, *args, then="print(); print('MODULES', *sys.modules)")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == code
    assert answer in done.stdout + done.stderr
    modules = done.stdout.rpartition("MODULES ")[2].split()
    assert "keras_wp" in modules and "argparse" in modules
    assert {name.partition(".")[0] for name in modules}.isdisjoint(HEAVY)
    # Of the processor: others may have it meanwhile.
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - (before.ru_stime)
        < 0.5
    )


def test_the_console_script_is_installed_as_it_is_called():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert scripts == ["", "keras-wp = keras_wp.cli:main"]


def test_the_console_script_loads_the_package_as_its_users_do(folder):
    tree = ast.parse(pathlib.Path(kwp.__file__).read_text())
    public = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {"RobustHead", "attacks", "evaluate"} <= public
    done = start(
        folder,
        "info",
        "a.keras",
        then="import keras_wp; print(*vars(keras_wp)); "
        "print(keras_wp.audit.__class__, keras_wp.evaluate.__class__)",
    )
    assert (done.returncode, done.stderr) == (0, "")
    *told, found, kinds = done.stdout.splitlines()
    assert "parameters." in told[1]
    assert public <= set(found.split())
    # Functions, though parts of the package have the same names.
    assert kinds == "<class 'function'> <class 'function'>"


def test_who_asks_early_gets_the_package(folder):
    done = start(folder, "-h", then="import keras_wp; keras_wp.RobustHead(3)")
    assert (done.returncode, done.stderr) == (0, "")


def test_who_asks_early_for_what_is_not_there_is_told(folder):
    done = start(folder, "-h", then="import keras_wp; keras_wp.RobustHat")
    assert done.stderr.splitlines()[-1].startswith(
        "AttributeError: module 'keras_wp' has no attribute 'RobustHat'"
    )


def test_importing_the_package_registers_its_layers(tmp_path):
    import keras

    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((8,)), kwp.RobustHead(3)]).save(path)
    text = (
        "import keras_wp, keras; "
        f"print(keras.saving.load_model({str(path)!r}).layers[-1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<RobustHead ")


def test_messages_name_the_program_that_runs(capsys):
    assert run("evaluate") == 2
    assert capsys.readouterr().err == (
        "keras_wp: error: the following arguments are required: MODEL "
        "(see python -m keras_wp evaluate -h)\n"
    )
