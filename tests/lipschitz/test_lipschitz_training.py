"""Losses, metrics and callbacks of certified training, and whole networks."""

import doctest

import keras
import numpy as np
import pytest
from certified import labels_of
from helpers import message_of, to_numpy
from keras import ops

import keras_wp as kwp
from keras_wp import metrics
from keras_wp.losses import CertifiedMargin

pytestmark = pytest.mark.once


SHAPE = (8, 8, 1)


def digits(count, seed=0):
    """Images of one of four corners, and which it is."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    x = rng.uniform(0, 0.4, (count, *SHAPE)).astype(np.float32)
    for image, label in zip(x, y, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
    return x, y


@pytest.mark.parametrize("distance", [1.0, 0.25])
def test_loss_is_that_of_its_formula(rng, distance):
    z = rng.normal(size=(6, 5)).astype("float32")
    y = rng.integers(0, 5, 6)
    loss = CertifiedMargin(0.7, 0.2, distance, reduction="none")
    margins = (z[np.arange(6), y][:, None] - z).astype(float) / distance
    terms = np.exp((0.7 - margins) / 0.2)
    terms[np.arange(6), y] = 1.0
    np.testing.assert_allclose(
        to_numpy(loss(y, z)), 0.2 * np.log(terms.sum(1)), rtol=1e-5
    )
    again = CertifiedMargin.from_config(loss.get_config())
    np.testing.assert_array_equal(to_numpy(again(y, z)), to_numpy(loss(y, z)))


def test_metric_counts_margins_beyond_eps(rng):
    z = rng.normal(size=(50, 5)).astype("float32")
    y = rng.integers(0, 5, 50)
    own = z[np.arange(50), y]
    others = np.where(np.eye(5, dtype=bool)[y], -np.inf, z).max(1)
    metric = metrics.CertifiedAccuracy(0.1, distance=0.5)
    metric.update_state(y[:30], z[:30])
    metric.update_state(y[30:, None], z[30:])
    expected = (own - others > 0.05).mean()
    assert 0 < expected < 1
    assert float(metric.result()) == pytest.approx(expected)
    again = metrics.CertifiedAccuracy.from_config(metric.get_config())
    assert (again.eps, again.distance, again.name) == (0.1, 0.5, metric.name)


@pytest.mark.parametrize(
    "network",
    [
        lambda: kwp.models.lipschitz_mlp(SHAPE, 4, widths=(16, 16)),
        lambda: kwp.models.lipschitz_cnn(
            SHAPE, 4, widths=(8, 8), depth=1, dense=(16,)
        ),
        lambda: kwp.models.lipschitz_mlp(
            SHAPE,
            4,
            widths=(16,),
            head=kwp.RobustHead(4, s=0.6, alpha=1.0, activation=None),
        ),
        lambda: kwp.models.lipschitz_mlp(
            SHAPE, 4, widths=(16,), head=kwp.RobustHead(4, s=0.6, alpha=1.0)
        ),
    ],
)
def test_networks_train_and_their_attacks_find_nothing_below_the_radius(
    network, tmp_path
):
    keras.utils.set_random_seed(0)
    model, (x, y), test = network(), digits(400), digits(60, seed=1)
    model.compile(
        keras.optimizers.Adam(0.02),
        CertifiedMargin(eps=1.0),
        metrics=["accuracy", metrics.CertifiedAccuracy(0.5)],
    )
    proved = kwp.callbacks.CertifiedAccuracy(
        (x, y), eps=0.5, every=2, validation_data=test
    )
    history = model.fit(
        x, y, epochs=6, batch_size=40, verbose=0, callbacks=[proved]
    ).history
    assert len(history["certified_accuracy"]) == 3
    found = kwp.certify(model, test)
    assert found.accuracy(0.5) == history["val_certified_accuracy"][-1]
    assert history["val_certified_accuracy"][-1] > 0.8
    # The head's own constant takes no part in that of its features.
    assert found.constant <= 1.0
    # Margins tell nearly the same, where class weights are 1 apart.
    if isinstance(model.layers[-1], kwp.lipschitz.LipschitzHead):
        told = model.evaluate(*test, verbose=0, return_dict=True)
        assert abs(told["margin_accuracy"] - found.accuracy(0.5)) < 0.02
    attack = kwp.attacks.PGD(
        eps=1.0, norm="l2", steps=20, loss="margin", bounds=(-2.0, 3.0)
    )
    report = kwp.evaluate(
        model,
        test,
        [attack],
        eps=[0.25, 0.5, 1.0],
        adaptive=False,
        audit=False,
        progress=False,
        certify=True,
    )
    assert report.bracket("l2", 0.5)[0] == found.accuracy(0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        kwp.certify(loaded, test).radius, found.radius
    )


@pytest.mark.once
def test_exported_model_computes_the_same(tmp_path):
    model, x = kwp.models.lipschitz_mlp(SHAPE, 4, (16, 16)), digits(20)[0]
    model.export(tmp_path / "saved", verbose=False)
    from keras_wp.cli import models

    loaded = models.load(tmp_path / "saved")
    np.testing.assert_allclose(
        to_numpy(loaded(ops.convert_to_tensor(x))),
        to_numpy(model(ops.convert_to_tensor(x))),
        atol=1e-6,
    )
    assert message_of(kwp.certify, loaded, (x, labels_of(model, x))) == (
        "A certificate needs a Keras model, whose layers tell what they "
        "compute. Received: SavedModel"
    )


@pytest.mark.parametrize(
    "make, told",
    [
        (
            lambda: kwp.models.lipschitz_mlp(SHAPE, 4, widths=(15,)),
            "Invalid value for argument `widths`. Expected even integers above "
            "0. Received: widths=(15,)",
        ),
        (
            lambda: kwp.models.lipschitz_cnn((8, 8, 1), 4, depth=0),
            "Argument `depth` must be an integer of at least 1. Received: "
            "depth=0",
        ),
        (
            lambda: kwp.models.lipschitz_cnn((8, 8, 1), 4, kernel_size=5),
            "Argument `kernel_size` must be such that a circular padding of "
            "half of it is at most as large as the image. Received: "
            "kernel_size=5 for images of 1 x 1",
        ),
        (
            lambda: kwp.models.lipschitz_cnn((10, 8, 1), 4),
            "Invalid value for argument `input_shape`. Expected height and "
            "width that are multiples of 8, for 3 stages. Received: "
            "input_shape=(10, 8, 1)",
        ),
        (
            lambda: CertifiedMargin(eps=-1),
            "Argument `eps` must be a finite number of at least 0. Received: "
            "eps=-1",
        ),
        (
            lambda: kwp.callbacks.CertifiedAccuracy((), eps="a"),
            "Argument `eps` must be a finite number of at least 0. Received: "
            "eps='a'",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, told):
    assert message_of(make) == told


def test_examples_of_the_docstrings():
    names = {"np": np, **vars(metrics)}
    results = doctest.testmod(metrics, extraglobs=names)
    assert results.attempted > 0 and results.failed == 0
