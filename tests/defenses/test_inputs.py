"""Defenses on images in other units, and on nothing but images."""

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, tiny_cnn, to_numpy
from keras import layers

import keras_wp as kwp
from keras_wp.attacks import PGD
from keras_wp.defenses import MART, TRADES, AdversarialTraining

MEAN, STD = 0.45, 0.22
ATTACK = PGD(eps=0.05, steps=3)


def trained(kind, x, before=(), inputs=None):
    """A defense after two steps, on a network behind other layers."""
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 6, 1))
    pixels = image
    for layer in before:
        pixels = layer(pixels)
    model = keras.Model(image, tiny_cnn()(pixels))
    defense = kind(model, ATTACK, inputs=inputs)
    defense.compile(keras.optimizers.SGD(0.1))
    y = np.arange(16) % 5
    defense.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    return defense


@pytest.mark.parametrize("kind", [AdversarialTraining, TRADES, MART])
def test_a_defense_on_normalized_images_trains_as_on_pixels(kind):
    x = random_images(16)
    plain = trained(kind, x)
    shift = layers.Rescaling(STD, MEAN)
    inputs = kwp.Inputs(mean=MEAN, std=STD)
    other = trained(kind, (x - MEAN) / STD, [shift], inputs)
    for one, two in zip(plain.model.weights, other.model.weights, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(two), atol=2e-4)


def test_such_a_defense_is_saved_with_what_it_knows(tmp_path):
    inputs = kwp.Inputs(bounds=(0, 255), mean=[120.0], std=[60.0])
    x = ((255 * random_images(16)) - 120) / 60
    before = [layers.Rescaling(60 / 255, 120 / 255)]
    defense = trained(AdversarialTraining, x, before, inputs)
    defense.save(tmp_path / "defense.keras")
    again = keras.saving.load_model(tmp_path / "defense.keras")
    assert again.inputs.config() == inputs.config()
    y = np.arange(16) % 5
    for one in (defense, again):
        one.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for one, two in zip(defense.weights, again.weights, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(two), atol=1e-5)


def test_images_in_other_units_are_refused_before_a_step():
    inputs = kwp.Inputs(mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="Images must lie within the bounds"):
        trained(AdversarialTraining, 255 * random_images(16), (), inputs)
    with pytest.raises(ValueError, match="bounds, mean and std only"):
        trained(
            AdversarialTraining, random_images(16), (), {"meta": np.ones(3)}
        )


class Subclassed(keras.Model):
    """It does not tell what it takes."""

    def call(self, x):
        return x


def test_more_than_one_input_is_refused():
    told = (
        "A defense trains a model of one input, that of the images. Received: "
    )
    two = [keras.Input((4,), name=name) for name in ("first", "second")]
    model = keras.Model(two, keras.layers.Dense(3)(two[0] + two[1]))
    assert message_of(AdversarialTraining, model, ATTACK) == (
        f"{told}a model of the inputs ['first', 'second']"
    )
    defense = AdversarialTraining(Subclassed(), ATTACK)
    defense.compile("sgd")
    x, y = random_images(8), np.arange(8) % 5
    given = [x, x]
    assert message_of(defense.fit, given, y) == f"{told}images as a list of 2"
    batches = ((tuple(given), y) for _ in range(2))
    message = message_of(defense.fit, batches)
    assert message == f"{told}images as a tuple of 2"
