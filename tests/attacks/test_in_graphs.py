"""An attack called where there are no numbers yet says so."""

import keras
import numpy as np
import pytest
from helpers import message_of, random_images, tiny_cnn

from keras_wp import attacks

ATTACK = attacks.PGD(eps=0.1, steps=1)
X, Y = random_images(6), np.arange(6) % 5
TOLD = (
    "An attack is called outside of compiled functions, such as a "
    "`train_step` or `dataset.map`: to train, use a defense of "
    "keras_wp.defenses. Received: a symbolic x"
)


class Attacked(keras.Model):
    """A model of one's own that attacks in its training step."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_cnn()

    def call(self, x):
        return self.inner(x)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if training:
            x = ATTACK(self.inner, x, y)
        return super().compute_loss(x=x, y=y, y_pred=self.inner(x))


def test_in_a_training_step():
    model = Attacked()
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    assert message_of(model.fit, X, Y, verbose=0) == TOLD


def test_in_the_map_of_a_dataset():
    tf = pytest.importorskip("tensorflow")
    model = tiny_cnn()
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)
    message = message_of(data.map, lambda x, y: (ATTACK(model, x, y), y))
    assert TOLD in message


def test_labels_may_be_what_is_symbolic():
    tf = pytest.importorskip("tensorflow")
    model = tiny_cnn()
    message = message_of(
        tf.function(lambda y: ATTACK(model, X, y)), tf.constant(Y)
    )
    assert TOLD[:-1] + "y" in message


def test_what_is_no_array_fails_as_ever():
    with pytest.raises((ValueError, TypeError)) as error:
        ATTACK(tiny_cnn(), [[1, 2], [3]], Y)
    assert "compiled" not in str(error.value)
