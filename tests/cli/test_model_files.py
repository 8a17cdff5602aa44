"""Models from files: of other kinds, with classes of one's own, or broken."""

import textwrap

import keras
import numpy as np
import pytest
from commands import run
from helpers import random_images, tiny_cnn

from keras_wp.cli import models

pytestmark = pytest.mark.once

MINE = """
import keras

class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x

@keras.saving.register_keras_serializable(package="{name}")
class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.flatten = keras.layers.Flatten()
        self.twice = Twice()
        self.dense = keras.layers.Dense(5)

    def call(self, x):
        return self.dense(self.twice(self.flatten(x)))
"""


@pytest.fixture
def mine(tmp_path, monkeypatch, request):
    """A module that is forgotten again, with a layer that is registered not."""
    name = f"mine_{abs(hash(request.node.name))}"
    path = tmp_path / f"{name}.py"
    path.write_text(textwrap.dedent(MINE.format(name=name)))
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__(name)
    kept = dict(keras.saving.get_custom_objects())
    yield module, path
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(kept)


def forget(monkeypatch, module):
    """As in a process that has never heard of the module."""
    monkeypatch.delitem(__import__("sys").modules, module.__name__)
    known = keras.saving.get_custom_objects()
    for name in [n for n in known if module.__name__ in n]:
        del known[name]


def test_h5_files_are_read(tmp_path):
    model = tiny_cnn()
    path = tmp_path / "model.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("absl.logging.warning", lambda *args: None)
        model.save(path)
    found, x = models.load(path), random_images(3)
    np.testing.assert_allclose(found(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", ["name", "path"])
@pytest.mark.parametrize("kind", ["layer", "model"])
def test_classes_of_ones_own_are_imported(
    mine, tmp_path, monkeypatch, capsys, by, kind
):
    module, path = mine
    x = random_images(3)
    if kind == "model":
        model = module.Net()
    else:
        layers = [module.Twice(), keras.layers.Flatten(), keras.layers.Dense(5)]
        model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    expected = np.asarray(model(x))
    model.save(tmp_path / "model.keras")
    forget(monkeypatch, module)
    assert run("info", tmp_path / "model.keras") == 2
    error = capsys.readouterr().err
    assert "(--import MODULE, if it is a class of your own)" in error
    given = path if by == "path" else module.__name__
    found = models.load(tmp_path / "model.keras", [str(given)])
    np.testing.assert_allclose(found(x), expected, rtol=1e-5, atol=1e-6)
    command = ["info", tmp_path / "model.keras", "--import", given]
    assert run(*command) == 0


def test_a_failed_import_is_one_sentence(tmp_path, capsys):
    tiny_cnn().save(tmp_path / "model.keras")
    (tmp_path / "broken.py").write_text("raise RuntimeError('of its own')")
    for given, cause in (
        ("no_such_module", "ModuleNotFoundError: No module named"),
        (tmp_path / "broken.py", "RuntimeError: of its own"),
        (tmp_path / "absent.py", "FileNotFoundError: "),
    ):
        args = ["info", tmp_path / "model.keras", "--import", given]
        assert run(*args) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"keras_wp: error: --import {given} failed. ")
        assert cause in error and len(error.splitlines()) == 1


def test_the_cause_of_a_failure_is_told_to_its_end(tmp_path, capsys):
    cause = "it needs " + "what is not there, " * 40 + "and says so"

    @keras.saving.register_keras_serializable(package="test_models")
    class Broken(keras.layers.Layer):
        @classmethod
        def from_config(cls, config):
            raise TypeError(cause)

    inner = keras.Sequential([keras.Input((2,)), Broken()])
    keras.Sequential([keras.Input((2,)), inner]).save(tmp_path / "m.keras")
    assert run("info", tmp_path / "m.keras") == 2
    error = capsys.readouterr().err
    assert error.rstrip().endswith(f": {cause}")
    assert "config" not in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".keras"])
def test_torn_files_are_named(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"torn")
    with pytest.raises(ValueError) as error:
        models.check(path)
    assert str(error.value) == (
        "MODEL must be a .keras or .h5 file, or the directory of a SavedModel, "
        f"and whole. Received: {str(path)!r}, which is not what Keras writes "
        f"as {suffix}"
    )
