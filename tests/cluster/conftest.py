"""A small model, and images of which it is right about some."""

import pytest
from helpers import mixed_labels, random_images, tiny_cnn


@pytest.fixture(scope="module")
def model():
    return tiny_cnn(scale=0.5)


@pytest.fixture(scope="module")
def data(model):
    x = random_images(40)
    return x, mixed_labels(model, x)
