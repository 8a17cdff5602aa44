"""What every test shares: quiet logs, fixed seeds, the backend's name."""

import os

# Read when a backend is imported, so set before anything imports one.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import keras
import numpy as np
import pytest

hypothesis.settings.register_profile(
    "deterministic",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def fixed_state():
    """Each test starts from the same seeds, whatever ran before it."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def backend():
    """Name of the Keras backend the suite runs on."""
    return keras.backend.backend()


@pytest.fixture
def rng():
    """A NumPy generator, the same for each test."""
    return np.random.default_rng(0)
