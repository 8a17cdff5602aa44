"""Two devices give the results of one."""

import json

import numpy as np
import pytest
from processes import SUPPORT, run_python

SCRIPT = """
import json
import pathlib
import os
import sys

import keras
import numpy as np

import keras_wp as kwp
from helpers import (
    compiled_functions, mixed_labels, plainly, predictions, random_images,
    tiny_cnn,
)
from keras_wp.engine.programs import Programs
from keras_wp.attacks import *

jax = keras.backend.backend() == "jax"
if jax:
    scope = keras.distribution.DataParallel().scope
else:
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope

used = set()
advance = Programs.advance


def recorded(self, inputs, state, calm):
    labels = inputs["y"]
    if jax:
        used.update(str(shard.device) for shard in labels.addressable_shards)
    else:
        parts = getattr(labels, "parts", [labels])
        used.update(part.device for part in parts)
    return advance(self, inputs, state, calm)


Programs.advance = recorded

attacks = eval(sys.argv[1])
first, second = sys.argv[2:]
x = random_images(150)
one = tiny_cnn()
y = mixed_labels(one, x)
with scope():
    two = tiny_cnn()


def evaluate(model, folder):
    used.clear()
    report = plainly(
        model, (x, y), attacks, resume_dir=folder, progress=False
    )
    found = {}
    for attack, result in zip(attacks, report.results):
        # As many as make no other shape on JAX.
        images = attack(model, x[:30], y[:30])
        found[result.name] = {
            "clean": report.clean_accuracy,
            "robust": result.robust.tolist(),
            "steps": result.steps.tolist(),
            "zero_gradients": result.zero_gradients.tolist(),
            "distance": np.nan_to_num(result.distance, posinf=9).tolist(),
            "images": images.tolist(),
            "fooled": (predictions(one, images) != y[:30]).tolist(),
        }
    return found, len(used)


output = {"one": evaluate(one, first), "two": evaluate(two, second)}
output["traces"] = [
    max(fn.traces for fn in compiled_functions(model).values())
    for model in (one, two)
]

used.clear()
plainly(two, (x, y), attacks, resume_dir=first, progress=False)
output["used to go on"] = len(used)

# Other weights, and as many images as devices, or fewer.
weights = tiny_cnn(seed=5).get_weights()
one.set_weights(weights)
two.set_weights(weights)
attack = attacks[0]
expected = attack(one, x, y)


def difference(model, count):
    found = attack(model, x[:count], y[:count])
    return float(np.abs(found - expected[:count]).max())


with scope():
    output["differences"] = [difference(two, n) for n in (150, 2, 1)]
    used.clear()
    call = lambda x: two(x, training=False)
    output["differences"].append(difference(call, 150))
    output["used by a function"] = len(used)
print(json.dumps(output))
"""

QUICK = """[PGD(eps=0.02, steps=4, restarts=3, loss="margin")]"""

OTHERS = """[
    AutoAttack(eps=0.02, steps=4, queries=12),
    FGSM(eps=0.02, norm="linf"),
    PGD(eps=0.2, steps=4, norm="l2", random_start=False),
    *AutoAttack(eps=0.2, norm="l2", steps=4, queries=12).parts,
    *AutoAttack(eps=0.02, norm="linf", steps=4, queries=12).parts,
    CarliniWagner(
        steps=8, binary_search_steps=2, learning_rate=0.1, initial_const=1.0
    ),
    DeepFool(steps=5),
    DeepFool(steps=5, norm="l2"),
    FAB(steps=4, targets=2),
    FAB(steps=5, norm="l2"),
    MultiTarget(eps=0.02, steps=3),
    MultiTarget(eps=0.2, norm="l2", steps=3, targets=2, loss="margin"),
]"""


@pytest.fixture(
    scope="module",
    params=[QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)],
    ids=["quick", "others"],
)
def output(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    flags = "--xla_force_host_platform_device_count=2"
    folders = folder / "first", folder / "second"
    done = run_python(
        *("-c", SCRIPT, request.param, *folders),
        cwd=SUPPORT,
        XLA_FLAGS=flags,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_devices_give_the_results_of_one(output):
    (ones, used_by_one), (twos, used_by_two) = output["one"], output["two"]
    assert used_by_one == 1
    assert used_by_two == 2
    assert ones.keys() == twos.keys()
    for name, one in ones.items():
        two = twos[name]
        for key in ("clean", "robust", "steps", "zero_gradients", "fooled"):
            assert two[key] == one[key], (name, key)
        np.testing.assert_allclose(two["distance"], one["distance"], atol=1e-5)
        np.testing.assert_allclose(two["images"], one["images"], atol=1e-5)
        assert np.mean(one["robust"]) < one["clean"], name


def test_two_devices_go_on_where_one_has_stopped(output):
    assert output["used to go on"] == 0


def test_new_weights_few_images_and_functions_are_taken(output):
    assert max(output["differences"]) <= 1e-5
    assert output["used by a function"] == 2


def test_each_device_is_traced_for_once_at_most(output, backend):
    # JAX runs one program everywhere; TensorFlow's graph has one a device.
    assert output["traces"] == ([1, 1] if backend == "jax" else [1, 2])
