"""A list of models is known again."""

import keras
import numpy as np
import pytest
from helpers import mixed_labels, plainly, random_images, randomize

import keras_wp as kwp
from keras_wp.attacks import PGD

pytestmark = pytest.mark.once
ATTACK = PGD(eps=0.1, steps=3)


def softmax_model(seed):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    return randomize(model, scale=0.1 * seed)


@pytest.fixture
def work():
    models = [softmax_model(1), softmax_model(2)]
    x = random_images(10)
    return models, (x, mixed_labels(models[0], x))


def test_shards_of_it_are_merged(work):
    parts = [plainly(*work, ATTACK, shard=(k, 2)) for k in (1, 2)]
    whole = plainly(*work, ATTACK)
    merged = kwp.merge(parts)
    np.testing.assert_array_equal(merged.robust(), whole.robust())


def test_an_evaluation_of_it_is_resumed(work, tmp_path):
    first = plainly(*work, ATTACK, resume_dir=tmp_path)
    again = plainly(*work, ATTACK, resume_dir=tmp_path)
    np.testing.assert_array_equal(again.robust(), first.robust())
    models, data = work
    models[1].set_weights([2 * w for w in models[1].get_weights()])
    with pytest.raises(ValueError, match="another model"):
        plainly(models, data, ATTACK, resume_dir=tmp_path)
