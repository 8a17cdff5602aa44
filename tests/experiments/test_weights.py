"""The command that makes the networks of `keras_wp.models.pretrained`."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
from helpers import plainly

import keras_wp as kwp
from keras_wp.experiments.studies import weights
from keras_wp.models import trained

pytestmark = [
    pytest.mark.once,
    # A few images and one epoch need not make a network more robust.
    pytest.mark.filterwarnings("ignore:No epoch has made the model"),
]
NAME = "digits"


@pytest.fixture
def tiny(monkeypatch):
    """A network that is trained in seconds, in the place of all others."""
    recipe = kwp.recipes.Recipe(steps=1, epochs=1, attacks=("pgd2",))
    chosen = weights.Trained(
        dataset="mnist5k",
        network=functools.partial(
            kwp.models.small_cnn, widths=(2, 2, 2, 2), dense=(4, 16)
        ),
        eps=0.1,
        recipe=recipe,
    )
    monkeypatch.setattr(weights, "NETWORKS", {NAME: chosen})
    monkeypatch.setattr("keras_wp.recipes.training.evaluate", plainly)
    return chosen


def run(folder, **given):
    given = {"name": NAME, "train_images": 64, "eval_images": 8, **given}
    weights._main(weights.Weights(), {**given, "output_dir": str(folder)}, [])
    return json.loads((folder / f"{NAME}.json").read_text())


def test_a_network_and_its_card(tiny, tmp_path, monkeypatch):
    card = run(tmp_path, seed=1)
    assert card["test_images"] == 8 and card["seed"] == 1
    assert card["recipe"] == json.loads(
        json.dumps(dataclasses.asdict(tiny.recipe))
    )
    assert set(card["attacks"]) == {"PGD2"}
    low, high = card["worst_case"]["interval"]
    assert low <= card["worst_case"]["accuracy"] <= high
    monkeypatch.setattr(trained, "_FOLDER", tmp_path)
    monkeypatch.setattr(trained, "PRETRAINED", (NAME,))
    model = kwp.models.pretrained(NAME)
    x, y = kwp.datasets.load("mnist5k")[1]
    right = model.predict(x[:8], verbose=0).argmax(-1) == y[:8]
    assert card["clean"]["accuracy"] == right.mean()
    assert kwp.models.card(NAME) == card


@pytest.mark.slow
def test_generated_images_are_mixed_in(tiny, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "generated.npz"
    np.savez(
        path,
        image=rng.integers(0, 256, (200, 28, 28, 1), np.uint8),
        label=rng.integers(0, 10, 200),
    )
    card = run(tmp_path, generated=str(path), train_images=160)
    assert card["generated"] == "generated.npz"


@pytest.mark.parametrize("name", kwp.models.PRETRAINED)
def test_what_is_shipped(name):
    model, card = kwp.models.pretrained(name), kwp.models.card(name)
    assert card["name"] == name
    x, y = kwp.datasets.load("mnist5k")[1]
    accuracy = (model.predict(x, verbose=0).argmax(-1) == y).mean()
    assert abs(accuracy - card["clean"]["accuracy"]) < 0.02
    attack = kwp.attacks.PGD(eps=card["eps"], steps=20, loss="margin")
    found = plainly(model, (x[:50], y[:50]), [attack])
    assert found.robust_accuracy >= card["worst_case"]["accuracy"] - 0.1


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match=r"Expected one of .* Received: name='x'"
    ):
        kwp.models.pretrained("x")


def test_networks_and_recipes_fit():
    for chosen in weights.NETWORKS.values():
        shape = (28, 28, 1) if chosen.dataset == "mnist" else (32, 32, 3)
        with keras.device("cpu"):
            model = chosen.network(shape, 10)
        assert model.output_shape == (None, 10)
