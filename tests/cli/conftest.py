"""Every command finds the same images."""

import pytest
from helpers import mixed_labels, random_images, tiny_cnn

import keras_wp as kwp


@pytest.fixture(autouse=True)
def images(monkeypatch):
    x = random_images(30)
    y = mixed_labels(tiny_cnn(), x)
    monkeypatch.setattr(
        kwp.datasets, "load", lambda name, data_dir: ((x, y), (x, y))
    )
    return x, y
