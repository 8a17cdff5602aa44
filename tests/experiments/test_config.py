"""The values of the experiments: in the package, and shown by the scripts."""

import dataclasses
import runpy

import pytest
from helpers import example

from keras_wp.experiments import config, options

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", sorted(config.EXPERIMENTS))
def test_a_script_shows_the_values_of_its_experiment(name):
    shown = runpy.run_path(str(example(name)))["EXPERIMENT"]
    assert shown == config.EXPERIMENTS[name]


def test_presets_change_what_is_not_given():
    experiment = config.EXPERIMENTS["mnist_small_cnn"]
    found = config.resolve(experiment, preset="cpu", epochs=3)
    assert (found.epochs, found.dataset) == (3, "mnist5k")
    assert (found.attack_eps, found.train_images) == (0.1, 2000)
    # What the paper has, whatever the preset.
    assert (found.s, found.alpha, found.batch_size) == (0.1, 100.0, 128)
    wide = config.EXPERIMENTS["cifar10_wrn"]
    assert config.resolve(wide, preset="cpu").depth == 10
    assert config.resolve(wide, preset="paper") == wide


def test_flags_are_the_fields():
    words = ["train", "--epochs=3", "--eps=0.1,8/255", "--adaptive", "--s=0.5"]
    given = options.parse(config.Config(), words)
    assert given == {
        "epochs": 3,
        "eps": ("0.1", "8/255"),
        "adaptive": True,
        "s": 0.5,
    }
    found = dataclasses.replace(config.Config(), **given)
    assert options.parse(config.Config(), options.as_flags(given)) == given
    assert found.settings()["eps"] == ["0.1", "8/255"]
    assert "output_dir" not in found.settings()
