"""Certified training on two devices, and the same radii on both backends."""

import json

import numpy as np
import pytest
from certified import SHAPE, labels_of, small_network
from helpers import random_images
from processes import run_python

import keras_wp as kwp

pytestmark = pytest.mark.once

TRAIN = """
import json
import keras, numpy as np
import keras_wp as kwp

def train(scope):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 4, 4, 1), "float32"), np.arange(32) % 3
    with scope():
        model = kwp.models.lipschitz_mlp((4, 4, 1), 3, widths=(8, 8))
        model.compile(
            keras.optimizers.SGD(0.5), kwp.losses.CertifiedMargin(eps=0.1)
        )
    history = model.fit(
        x, y, batch_size=16, epochs=4, shuffle=False, verbose=0
    )
    found = kwp.certify(model, (x, y))
    return {
        "losses": history.history["loss"],
        "radii": found.radius.tolist(),
        "constant": found.constant,
    }
"""
MIRRORED = """
import contextlib
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
RADII = """
import json, sys
import keras, numpy as np
import keras_wp as kwp

folder = sys.argv[1]
model = keras.saving.load_model(folder + "/model.keras")
with np.load(folder + "/data.npz") as data:
    found = kwp.certify(model, (data["x"], data["y"]))
print(json.dumps([keras.backend.backend(), found.radius.tolist()]))
"""


def test_two_devices_train_as_one_does(backend):
    script, options = MIRRORED, {}
    if backend == "jax":
        flags = "--xla_force_host_platform_device_count=2"
        script, options = DATA_PARALLEL, {"XLA_FLAGS": flags}
    done = run_python("-c", TRAIN + script, **options)
    assert done.returncode == 0, done.stderr
    devices, one, two = json.loads(done.stdout.splitlines()[-1])
    assert devices == 2
    assert one["losses"][-1] < one["losses"][0] - 0.01
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(two["radii"], one["radii"], atol=1e-5)
    assert two["constant"] == pytest.approx(one["constant"], abs=1e-5)
    assert 0.99 < one["constant"] <= 1
    assert max(one["radii"]) > 0


@pytest.mark.once
def test_both_backends_prove_the_same_radii(tmp_path, backend):
    model, x = small_network(), random_images(100, SHAPE)
    y = labels_of(model, x)
    found = kwp.certify(model, (x, y))
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    other = {"tensorflow": "jax", "jax": "tensorflow"}[backend]
    done = run_python("-c", RADII, str(tmp_path), KERAS_BACKEND=other)
    assert done.returncode == 0, done.stderr
    where, radii = json.loads(done.stdout.splitlines()[-1])
    assert where == other
    np.testing.assert_allclose(radii, found.radius, atol=1e-5)
