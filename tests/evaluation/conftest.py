"""Fixtures of the tests of this folder."""

import pytest
from helpers import mixed_labels, random_images, tiny_cnn


@pytest.fixture(scope="module")
def model():
    return tiny_cnn()


@pytest.fixture(scope="module")
def data(model):
    x = random_images(60)
    return x, mixed_labels(model, x)
