import doctest

import keras
import numpy as np
import pytest
from helpers import message_of
from keras import ops

from keras_wp import initializers, simplex
from keras_wp.initializers import SimplexVertices


def kernel_of(initializer, shape=(12, 5), dtype="float32"):
    return ops.convert_to_numpy(initializer(shape, dtype=dtype))


@pytest.mark.parametrize(
    ("dim", "num_classes"), [(1, 2), (2, 3), (9, 10), (64, 10), (640, 100)]
)
def test_kernel_is_a_simplex(dim, num_classes):
    kernel = kernel_of(SimplexVertices(s=0.3), (dim, num_classes))
    kernel = kernel.astype("float64")
    assert kernel.shape == (dim, num_classes)
    np.testing.assert_allclose(
        kernel.T @ kernel, simplex.gram(num_classes, 0.3), atol=2e-8
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_kernel_has_the_dtype_asked_for(dtype):
    kernel = SimplexVertices()((12, 5), dtype=dtype)
    assert keras.backend.standardize_dtype(kernel.dtype) == dtype


def test_dtype_defaults_to_floatx():
    kernel = SimplexVertices()((12, 5))
    assert keras.backend.standardize_dtype(kernel.dtype) == "float32"


def test_every_feature_takes_part():
    kernel = kernel_of(SimplexVertices(), (200, 3))
    assert (np.abs(kernel).max(axis=1) > 0).all()


def test_same_seed_gives_the_same_kernel_and_another_seed_another():
    first = kernel_of(SimplexVertices(seed=1))
    np.testing.assert_array_equal(first, kernel_of(SimplexVertices(seed=1)))
    assert np.abs(first - kernel_of(SimplexVertices(seed=2))).max() > 1e-3


def test_the_global_seed_decides_where_no_seed_is_given():
    kernels = []
    for seed in (7, 7, 8):
        keras.utils.set_random_seed(seed)
        kernels.append(kernel_of(SimplexVertices()))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 1e-3


def test_config_makes_an_equal_initializer():
    initializer = SimplexVertices(s=0.2, seed=3)
    assert initializer.get_config() == {"s": 0.2, "seed": 3}
    config = keras.initializers.serialize(initializer)
    copy = keras.initializers.deserialize(config)
    np.testing.assert_array_equal(kernel_of(initializer), kernel_of(copy))


@pytest.mark.parametrize("s", [0, -1.0, float("nan"), float("inf")])
def test_wrong_length_is_refused(s):
    assert message_of(SimplexVertices, s=s) == (
        f"`s` must be a finite number greater than 0. Received: s={s!r}"
    )


@pytest.mark.parametrize("seed", [-1, 0.5, "1"])
def test_wrong_seed_is_refused(seed):
    assert message_of(SimplexVertices, seed=seed) == (
        "`seed` must be `None` or an integer of at least 0. "
        f"Received: seed={seed!r}"
    )


def test_shape_of_wrong_rank_is_refused():
    assert message_of(SimplexVertices(), (3, 3, 8, 8)) == (
        "A kernel must be of rank 2, with shape (features, classes). "
        "Received: shape=(3, 3, 8, 8)"
    )


def test_more_classes_than_a_simplex_can_have_are_refused():
    assert message_of(SimplexVertices(), (3, 5)) == (
        "`dim`, the number of features, must be an integer of at least "
        "`num_classes - 1`. Received: num_classes=5, dim=3"
    )


def test_examples_of_the_docstrings():
    results = doctest.testmod(initializers)
    assert results.attempted > 0
    assert results.failed == 0
