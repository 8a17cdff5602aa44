"""Constants of whole networks after training, against their Jacobians."""

import keras
import numpy as np
import pytest
from helpers import random_images
from slopes import steepest

import keras_wp as kwp
from keras_wp import lipschitz
from keras_wp.certificates.graph import Graph

SHAPE = (4, 4, 2)


def dense_network():
    """One that keeps lengths: its constant is reached."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(inputs)
    for _ in range(2):
        x = lipschitz.MaxMin()(lipschitz.OrthogonalDense(32)(x))
    return keras.Model(inputs, lipschitz.LipschitzHead(4)(x))


def convolutional_network():
    inputs = keras.Input(SHAPE)
    x = lipschitz.MaxMin()(lipschitz.AOLConv2D(8)(inputs))
    x = lipschitz.MaxMin()(lipschitz.AOLConv2D(8)(x))
    x = keras.layers.Flatten()(lipschitz.L2Pooling()(x))
    return keras.Model(inputs, lipschitz.LipschitzHead(4)(x))


def trained(network, images):
    model = network()
    model.compile(
        keras.optimizers.Adam(0.003),
        kwp.losses.CertifiedMargin(0.5),
        jit_compile=False,
    )
    labels = np.arange(len(images)) % 4
    before = [layer.get_weights() for layer in model.layers]
    model.fit(images, labels, batch_size=16, epochs=5, verbose=0)
    moved = [
        np.abs(now - then).max()
        for layer, weights in zip(model.layers, before, strict=True)
        for now, then in zip(layer.get_weights(), weights, strict=True)
    ]
    assert min(moved) > 1e-3
    return model


def constant_of(model, images):
    graph = Graph(model, images)
    return graph.constant(graph.anatomy.output)


@pytest.mark.once
@pytest.mark.parametrize("network", [dense_network, convolutional_network])
def test_no_trained_network_is_steeper_than_its_constant(network, monkeypatch):
    images = random_images(64, SHAPE, low=-1)
    model = trained(network, images)
    constant, found = constant_of(model, images), steepest(model, images)
    assert found <= constant * (1 + 1e-6)
    assert found > 0.3 * constant
    if network is dense_network:
        # It would be told if any constant was wrong by a percent.
        assert found > 0.9999 * constant
        layer = model.layers[2]
        wrong = layer.lipschitz_constant() / 1.01
        monkeypatch.setattr(layer, "lipschitz_constant", lambda: wrong)
        assert found > constant_of(model, images) * (1 + 1e-6)
