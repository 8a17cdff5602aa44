"""Adversarial training around any Keras model, and what it brings.

    python examples/adversarial_training.py

trains the same small network with and without attacks, on 4,000 digits that
come with a package, and takes a few minutes on two CPU cores.
"""

import keras

import keras_wp as kwp

EPS = 0.1

(x_train, y_train), (x_test, y_test) = kwp.datasets.load("mnist5k")


def network():
    """A small convolutional network that returns logits."""
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def train(model):
    """Train with `fit`, as ever."""
    model.compile(
        optimizer=keras.optimizers.Adam(0.002),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x_train, y_train, batch_size=128, epochs=5, verbose=2)


plain = network()
train(plain)

# Each batch is replaced by adversarial images of the model as it is then.
robust = network()
attack = kwp.attacks.PGD(eps=EPS, steps=10, step_size=EPS / 4)
train(kwp.defenses.AdversarialTraining(robust, attack))

reports = [
    kwp.evaluate(model, (x_test[:200], y_test[:200]), ["autoattack"], eps=EPS)
    for model in (plain, robust)
]
print(kwp.compare(*reports, names=["plain", "adversarially trained"]))
