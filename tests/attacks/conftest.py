"""Fixtures of the tests of this folder."""

import pytest
from contracts import CLASSES, COUNT
from helpers import (
    random_images,
    tiny_cnn,
)


@pytest.fixture(scope="module")
def model():
    """One model for all tests: what is compiled for it is compiled once."""
    return tiny_cnn(num_classes=CLASSES, dropout=0.5, scale=2.0)


@pytest.fixture
def x():
    return random_images(COUNT)
