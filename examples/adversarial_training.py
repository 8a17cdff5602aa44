"""Robust training by hand: what `keras_wp.robustify` does, part by part.

    python examples/adversarial_training.py

trains the same small network with and without attacks, on 4,000 digits that
come with a package, and takes a few minutes on two CPU cores.
"""

import keras

import keras_wp as kwp

EPS, EPOCHS, RATE = 0.1, 8, 0.002

(x_train, y_train), (x_test, y_test) = kwp.datasets.load("mnist5k")
# Weights are chosen by images that are neither trained nor tested on.
x_val, y_val = x_train[3600:], y_train[3600:]
x_train, y_train = x_train[:3600], y_train[:3600]


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


def train(model, callbacks=()):
    """Train with `fit`, as ever, at rates that fall to 0 by a cosine."""
    steps = EPOCHS * -(-len(x_train) // 128)
    rates = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rates),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x_train,
        y_train,
        batch_size=128,
        epochs=EPOCHS,
        callbacks=[*callbacks],
        verbose=2,
    )


plain = network()
train(plain)

# Each batch is attacked as the model is then; what an attack changes is what
# the loss is of. Weights are averaged, and those of the best epoch are kept.
robust = network()
attack = kwp.attacks.PGD(eps=EPS, steps=10)
train(
    kwp.defenses.TRADES(robust, attack, beta=6.0),
    callbacks=[
        kwp.callbacks.WeightAveraging(0.98),
        kwp.callbacks.BestRobust((x_val, y_val)),
    ],
)

reports = [
    kwp.evaluate(model, (x_test[:200], y_test[:200]), ["autoattack"], eps=EPS)
    for model in (plain, robust)
]
print(kwp.compare(*reports, names=["plain", "trained against attacks"]))
