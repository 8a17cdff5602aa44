"""Robustness that is proved, and attacks that show how far the proof is.

    python examples/certify.py

trains a network that stretches no distance on 4,000 digits that come with a
package, and takes a minute or two on two CPU cores. With all of MNIST and 30
epochs, 66 % are proved at 1.58 (docs/certificates.md).
"""

import keras

import keras_wp as kwp

EPS = 1.58  # The l2 length of a perturbation; a digit has about 9.

(x_train, y_train), (x_test, y_test) = kwp.datasets.load("mnist5k")

# Orthogonal layers, and class weights on a regular simplex: the margin of an
# image is the distance within which its prediction cannot change.
model = kwp.models.lipschitz_mlp((28, 28, 1), num_classes=10)
epochs, batch_size = 15, 128
steps = epochs * len(x_train) // batch_size
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps)),
    loss=kwp.losses.CertifiedMargin(EPS),
    metrics=["accuracy", kwp.metrics.CertifiedAccuracy(EPS)],
    jit_compile=False,
)
model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=2)

# One forward pass, and a radius for each image.
certificate = kwp.certify(model, (x_test, y_test))
print(certificate)
for eps in (0.5, 1.0, EPS):
    print(f"proved at {eps}: {100 * certificate.accuracy(eps):.1f} %")

# The truth is between what is proved and what no attack breaks.
report = kwp.evaluate(
    model,
    (x_test[:200], y_test[:200]),
    attacks=[kwp.attacks.PGD(eps=EPS, norm="l2", steps=40)],
    eps=[0.5, 1.0, EPS],
    certify=True,
)
print(report)
