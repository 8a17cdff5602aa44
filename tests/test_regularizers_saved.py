"""The regularizer saved and loaded."""

import doctest
import json
import math

import keras
import numpy as np
import pytest
from helpers import message_of
from processes import run_python

from keras_wp import RobustHead, SimplexRegularizer, attacks, regularizers
from keras_wp.defenses import TRADES

pytestmark = pytest.mark.once


TWO_DEVICES = """
import json, sys
import keras, numpy as np
import keras_wp

def train(scope):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 8)).astype("float32")
    y = rng.integers(0, 4, 64)
    with scope():
        model = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(16),
                keras_wp.RobustHead(4),
            ]
        )
        model.compile(
            keras.optimizers.SGD(1e-3, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    history = model.fit(
        x, y, batch_size=16, epochs=2, shuffle=False, verbose=0
    )
    weights = [w.tolist() for w in model.get_weights()]
    return {"losses": history.history["loss"], "weights": weights}
"""

MIRRORED = """
import contextlib, os
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
one = train(contextlib.nullcontext)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
two = train(strategy.scope)
print(json.dumps([strategy.num_replicas_in_sync, one, two]))
"""

DATA_PARALLEL = """
import contextlib
import jax

one = train(contextlib.nullcontext)
keras.distribution.set_distribution(keras.distribution.DataParallel())
two = train(contextlib.nullcontext)
print(json.dumps([jax.device_count(), one, two]))
"""


def test_config_makes_an_equal_regularizer():
    regularizer = SimplexRegularizer(s=0.2, alpha=3)
    assert regularizer.get_config() == {"s": 0.2, "alpha": 3.0}
    config = json.loads(json.dumps(keras.regularizers.serialize(regularizer)))
    assert config["registered_name"] == "keras_wp>SimplexRegularizer"
    copy = keras.regularizers.deserialize(config)
    assert isinstance(copy, SimplexRegularizer)
    assert copy.get_config() == regularizer.get_config()


@pytest.mark.parametrize("s", [0, -0.1, math.nan, math.inf, "0.1", None])
def test_wrong_length_is_refused(s):
    assert message_of(SimplexRegularizer, s=s) == (
        f"`s` must be a finite number greater than 0. Received: s={s!r}"
    )


@pytest.mark.parametrize("alpha", [-1e-9, math.nan, math.inf, "1", None])
def test_wrong_weight_is_refused(alpha):
    assert message_of(SimplexRegularizer, alpha=alpha) == (
        "`alpha` must be a finite number of at least 0. "
        f"Received: alpha={alpha!r}"
    )


@pytest.mark.parametrize("shape", [(), (4,), (3, 3, 8, 8)])
def test_kernel_of_wrong_rank_is_refused(shape):
    assert message_of(SimplexRegularizer(), np.ones(shape, "float32")) == (
        "A kernel must be of rank 2, with shape (features, classes). "
        f"Received: shape={shape}"
    )


def test_single_class_is_refused():
    kernel = np.ones((4, 1), "float32")
    assert message_of(SimplexRegularizer(), kernel) == (
        "`num_classes`, the number of classes, must be an integer of at least "
        "2. Received: num_classes=1"
    )


def test_more_classes_than_a_simplex_can_have_are_refused():
    kernel = np.ones((3, 5), "float32")
    assert message_of(SimplexRegularizer(), kernel) == (
        "`dim`, the number of features, must be an integer of at least "
        "`num_classes - 1`. Received: num_classes=5, dim=3"
    )


def check_one_device_equals_two(done):
    assert done.returncode == 0, done.stderr
    devices, one, two = json.loads(done.stdout.splitlines()[-1])
    assert devices == 2
    assert one["losses"][-1] < one["losses"][0]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
    for ours, theirs in zip(two["weights"], one["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_mirrored_strategy_trains_like_one_device(backend):
    if backend != "tensorflow":
        pytest.skip("MirroredStrategy is TensorFlow's")
    check_one_device_equals_two(run_python("-c", TWO_DEVICES + MIRRORED))


def test_data_parallel_trains_like_one_device(backend):
    if backend != "jax":
        pytest.skip("keras.distribution is for JAX")
    flags = "--xla_force_host_platform_device_count=2"
    check_one_device_equals_two(
        run_python("-c", TWO_DEVICES + DATA_PARALLEL, XLA_FLAGS=flags)
    )


def test_examples_of_the_docstrings():
    results = doctest.testmod(regularizers)
    assert results.attempted > 0
    assert results.failed == 0


def dense_model():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])


def test_a_built_layer_is_penalized_through_its_kernel(rng, tmp_path):
    model = dense_model()
    dense = model.layers[-1]
    dense.kernel_regularizer = SimplexRegularizer(alpha=2.0)
    assert not model.losses
    dense.kernel.regularizer = dense.kernel_regularizer
    assert len(model.losses) == 1
    x, y = rng.random((32, 6)), np.arange(32) % 3
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    penalty = float(model.losses[0])
    entropy = float(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
            y, model(x)
        )
    )
    (loss,) = model.fit(x, y, verbose=0, batch_size=32).history["loss"]
    assert loss == pytest.approx(penalty + entropy, rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.losses[0]) == pytest.approx(float(model.losses[0]))


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
def test_a_head_trains_where_losses_are_in_half_precision(floatx, rng):
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    try:
        model = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(4), RobustHead(3)]
        )
        model.compile(
            keras.optimizers.SGD(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        x, y = rng.random((32, 6)), np.arange(32) % 3
        losses = model.fit(x, y, verbose=0, epochs=3).history["loss"]
        assert losses[-1] < losses[0]
        if floatx == "float16":
            # JAX makes float32 of whole numbers where floatx is bfloat16.
            defense = TRADES(model, attacks.PGD(eps=0.1, steps=2))
            defense.compile(keras.optimizers.SGD(0.01), metrics=["accuracy"])
            history = defense.fit(x, y, verbose=0, epochs=3).history
            assert history["penalty"][-1] < history["penalty"][0]
            assert np.isfinite(history["loss"]).all()
    finally:
        keras.config.set_floatx(before)
