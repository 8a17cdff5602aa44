"""What keras_wp._backend adds to keras.ops."""

import numpy as np
import pytest
from keras import ops
from processes import run_python

from keras_wp import _backend

ON_JAX = """
import sys
import keras, numpy as np
import keras_wp
layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
x, y = np.full((2, 4, 4, 1), 0.5, np.float32), np.array([0, 1])
keras_wp.evaluate(model, (x, y), [keras_wp.attacks.FGSM(eps=0.1)])
print("tensorflow" in sys.modules)
"""


@pytest.fixture
def three_parts(monkeypatch, backend):
    """Three cores, whatever the machine has; whether they make a difference."""
    if backend == "tensorflow":
        from keras_wp._backend import tensorflow

        monkeypatch.setattr(tensorflow, "_cores", lambda: 3)
    return backend == "tensorflow"


@pytest.mark.parametrize("count", range(1, 9))
def test_parts_together_are_the_whole(count, three_parts, rng):
    # A convolution and a layer of weights, as a model has them.
    kernel = rng.normal(size=(3, 3, 1, 2)).astype(np.float32)
    weights = rng.normal(size=(512, 4)).astype(np.float32)
    sizes = []

    def model(x):
        sizes.append(x.shape[0])
        h = ops.relu(ops.conv(x, kernel, padding="same"))
        return ops.matmul(ops.reshape(h, (-1, 512)), weights)

    def both(x, cotangent):
        outputs, pullback = _backend.vjp(
            lambda x: _backend.in_parts(model, x), x
        )
        return outputs, pullback(cotangent)

    x = rng.normal(size=(count, 16, 16, 1)).astype(np.float32)
    cotangent = rng.normal(size=(count, 4)).astype(np.float32)
    outputs, pullback = _backend.vjp(model, ops.convert_to_tensor(x))
    expected = outputs, pullback(ops.convert_to_tensor(cotangent))
    sizes.clear()
    found = _backend.compile(both)(x, cotangent)
    assert len(sizes) == (3 if three_parts else 1)
    for a, b in zip(found, expected, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_nothing_is_divided_outside_a_compiled_function(three_parts):
    assert calls(lambda run, x: run(x), ops.zeros((6, 16, 16, 1))) == 1


def test_small_images_are_not_divided(three_parts):
    many = 3 if three_parts else 1
    for shape, expected in (((6, 16, 16, 1), many), ((6, 5, 17, 3), 1)):
        x = np.zeros(shape, np.float32)
        found = calls(lambda run, x: _backend.compile(run)(x), x)
        assert found == expected


def calls(use, x):
    """How often a function is called on parts of `x`."""
    sizes = []

    def note(x):
        sizes.append(x.shape[0])
        return x

    use(lambda x: _backend.in_parts(note, x), x)
    return len(sizes)


@pytest.mark.once
def test_evaluations_on_jax_do_without_tensorflow():
    # To import it takes longer than they do.
    result = run_python("-c", ON_JAX, KERAS_BACKEND="jax")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == "False"
