"""What the tests of defenses and training share."""

import dataclasses

import keras
import numpy as np
from helpers import (
    random_images,
)

from keras_wp import attacks
from keras_wp.defenses import MART, TRADES, AdversarialTraining

DEFENSES = [AdversarialTraining, TRADES, MART]

SHAPE, CLASSES, COUNT = (3, 2, 1), 4, 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift(attacks.PGD):
    """Adds 0.25 to every pixel, whatever the model."""

    steps: int = 1

    def init(self, problem, run):
        return {"x_adv": problem.x}

    def step(self, problem, state):
        x_adv = state["x_adv"]
        return {**state, "x_adv": x_adv + 0.25}, (x_adv, None)


SHIFT = Shift(eps=0.3)

X, X_ADV = random_images(COUNT, SHAPE), random_images(COUNT, SHAPE, seed=2)

Y = np.arange(COUNT) % CLASSES


def compiled(defense, optimizer=None, **arguments):
    # Without a learning rate each step sees the same weights.
    optimizer = optimizer or keras.optimizers.SGD(0.0)
    defense.compile(optimizer, **arguments)
    return defense


def steps(defense, count=3):
    return [float(defense.train_on_batch(X, Y)) for _ in range(count)]
