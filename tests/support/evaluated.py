"""What the tests of evaluate and evaluate_names share."""

import numpy as np

import keras_wp as kwp

FGSM = kwp.attacks.FGSM(eps=0.05)


class Batches:
    """A dataset of batches, shuffled afresh each time it is read."""

    def __init__(self, x, y, size, seed=None):
        self.x, self.y, self.size = x, y, size
        self.rng = None if seed is None else np.random.default_rng(seed)

    def __iter__(self):
        order = np.arange(len(self.x))
        if self.rng is not None:
            self.rng.shuffle(order)
        for begin in range(0, len(order), self.size):
            some = order[begin : begin + self.size]
            yield self.x[some], self.y[some]
