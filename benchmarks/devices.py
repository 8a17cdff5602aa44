"""One device against two, and one core against two.

The same evaluation on two cores as one device and as two logical devices,
which share the cores: as fast is the best that two can be, and what they lose
is what spreading the slots costs. Beside it, on one device with one core: a
bare figure. Each is measured in processes of its own, because TensorFlow
divides a batch between cores only where there is one device; these take turns,
`--rounds` times. The results are compared.

    python -m benchmarks.devices --attack=pgd100-paper --images=512
    KERAS_BACKEND=jax python -m benchmarks.devices --attack=pgd100-paper
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys

import keras
import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks.common import FLAGS, load, network, now, record

flags.DEFINE_string("attack", "pgd100-paper", "Name for keras_wp.attacks.get.")
flags.DEFINE_integer("images", 512, "Test images.")
flags.DEFINE_integer("rounds", 3, "Processes of each.")
flags.DEFINE_integer("devices", 0, "Measure with so many in this process.")

SHORTEST = 20.0  # seconds of timing in a process
# Cores and logical devices.
SETTINGS = {"one core": (1, 1), "two cores": (2, 1), "two devices": (2, 2)}


def two_logical_devices():
    """The scope in which a model is made for both."""
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel().scope()
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()


def evaluated(model, x, y):
    """A report, and its wall-clock and processor time in seconds."""
    attack = kwp.attacks.get(FLAGS.attack, FLAGS.dataset)
    begun = now()
    report = kwp.evaluate(
        model, (x, y), [attack], adaptive=False, audit=False, progress=False
    )
    return report, now() - begun


def measure():
    """The median times in this process, and what came out."""
    place = contextlib.nullcontext()
    if FLAGS.devices == 2:
        place = two_logical_devices()
    data = load()
    x, y = (array[: FLAGS.images] for array in data[1])
    with place:
        model = network(data)
    report, _ = evaluated(model, x, y)  # Compiles.
    times = []
    while not times or np.sum(times, axis=0)[0] < SHORTEST:
        times.append(evaluated(model, x, y)[1])
    (result,) = report.results
    return {
        "seconds": np.median(times, axis=0).round(3).tolist(),
        "clean": report.clean_correct.astype(int).tolist(),
        "robust": result.robust.astype(int).tolist(),
        "steps": result.steps.tolist(),
        # JSON has no infinity.
        "distance": [float(d) if d < np.inf else None for d in result.distance],
    }


def in_process(cores, devices):
    """What `measure` finds in a process of its own."""
    available = sorted(os.sched_getaffinity(0))
    xla = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, *sys.argv, f"--devices={devices}", "--output="],
        env={**os.environ, "XLA_FLAGS": xla},
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, available[:cores]),
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def compared(one, two):
    """What two devices found other than one."""
    first, second = (np.array(found["distance"], float) for found in (one, two))
    gap = np.abs(first - second)[np.isfinite(first) & np.isfinite(second)]
    return {
        "clean_accuracy": float(np.mean(one["clean"])),
        "robust_accuracy": [float(np.mean(f["robust"])) for f in (one, two)],
        "steps": [sum(found["steps"]) for found in (one, two)],
        "other_verdicts": int(np.not_equal(one["robust"], two["robust"]).sum()),
        "other_steps": int(np.not_equal(one["steps"], two["steps"]).sum()),
        "largest_difference_of_distances": float(gap.max(initial=0.0)),
    }


def main(_):
    if FLAGS.devices:
        print(json.dumps(measure()))
        return
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("Two cores are needed to compare with one.")
    rounds = []
    for _ in range(FLAGS.rounds):
        rounds.append({k: in_process(*v) for k, v in SETTINGS.items()})

    def speed_up(slow, fast, clock):
        ratios = [
            r[slow]["seconds"][clock] / r[fast]["seconds"][clock]
            for r in rounds
        ]
        return round(statistics.median(ratios), 3)

    record(
        {
            "attack": FLAGS.attack,
            "images": FLAGS.images,
            "throughput_of_two_devices": {
                "wall": speed_up("two cores", "two devices", 0),
                "processor": speed_up("two cores", "two devices", 1),
            },
            "speed_up_of_two_cores": speed_up("one core", "two cores", 0),
            "results": compared(
                rounds[0]["two cores"], rounds[0]["two devices"]
            ),
            "wall_and_processor_seconds": [
                {k: v["seconds"] for k, v in r.items()} for r in rounds
            ],
        }
    )


if __name__ == "__main__":
    app.run(main)
