"""A robust head in one line, and how robust it is.

    python examples/quickstart.py

trains a small network on 4,000 digits that come with a package, and takes
about a minute on two CPU cores.
"""

import keras

import keras_wp as kwp

(x_train, y_train), (x_test, y_test) = kwp.datasets.load("mnist5k")

model = keras.Sequential(
    [
        keras.layers.Input((28, 28, 1)),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64),
        # Tanh, and class weights that are pulled towards a regular simplex.
        kwp.RobustHead(10, s=0.1, alpha=100.0),
    ]
)
model.compile(
    optimizer=keras.optimizers.Adam(0.001),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(x_train, y_train, batch_size=128, epochs=5, verbose=2)

report = kwp.evaluate(
    model,
    (x_test[:200], y_test[:200]),
    attacks=[kwp.attacks.PGD(eps=0.1, steps=40)],
    adaptive=True,  # Also attacks that are chosen for this model.
    audit=True,  # And reasons why the number may be too good.
)
print(report)
