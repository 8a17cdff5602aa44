"""Fixtures of the tests of this folder."""

import numpy as np
import pytest
from trained import CLASSES, SHAPE


@pytest.fixture
def kernel(rng):
    return rng.normal(size=(*SHAPE, CLASSES)).astype(np.float32)


@pytest.fixture
def bias(rng):
    return rng.normal(size=CLASSES).astype(np.float32)
