"""An attack of your own in a few lines: PGD with momentum.

    python examples/custom_attack.py

Everything around the step is inherited: restarts, early stopping, budgets,
batching, several devices, reports. See `keras_wp.attacks.Attack` for attacks
that are not a kind of PGD.

Source: Dong et al., "Boosting adversarial attacks with momentum" (CVPR 2018).
"""

import dataclasses

import keras
from keras import ops

import keras_wp as kwp


@dataclasses.dataclass(frozen=True, kw_only=True)
class MomentumPGD(kwp.attacks.PGD):
    """PGD along a sum of past gradients, each divided by its mean size."""

    momentum: float = 1.0

    def init(self, problem, run):
        velocity = ops.zeros_like(problem.x)
        return {**super().init(problem, run), "velocity": velocity}

    def direction(self, problem, state, gradient):
        size = ops.mean(ops.abs(gradient), axis=(1, 2, 3), keepdims=True)
        velocity = self.momentum * state["velocity"] + gradient / (size + 1e-12)
        return velocity, {**state, "velocity": velocity}


(x_train, y_train), (x_test, y_test) = kwp.datasets.load("mnist5k")
model = keras.Sequential(
    [
        keras.layers.Input((28, 28, 1)),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
model.compile(
    optimizer=keras.optimizers.Adam(0.002),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
model.fit(x_train, y_train, batch_size=128, epochs=2, verbose=2)

attacks = [
    kwp.attacks.PGD(eps=0.1, steps=10),
    MomentumPGD(eps=0.1, steps=10, name="momentum"),
]
print(kwp.evaluate(model, (x_test[:200], y_test[:200]), attacks))
