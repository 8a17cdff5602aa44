"""One device against two, and one core against two.

Two logical devices share the same cores, so that they can only be as fast as
one: what is measured is what spreading the slots costs. Model, images and
attack are the same; the two are timed in turns, in one process, and their
results are compared.

Beside it, in processes of their own and in turns, the same evaluation on one
device with one core and with two: a bare figure.

    python benchmarks/devices.py --attack=pgd100 --images=512
    KERAS_BACKEND=jax python benchmarks/devices.py --attack=pgd100
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
from _common import FLAGS, load, network, record
from absl import app, flags

import keras_wp as kwp

flags.DEFINE_string("attack", "pgd100", "Name for keras_wp.attacks.get.")
flags.DEFINE_integer("images", 512, "Test images.")
flags.DEFINE_integer("rounds", 3, "Measurements of each.")
flags.DEFINE_enum(
    "part",
    "all",
    ["all", "devices", "cores"],
    "What this process measures; `all` starts others.",
)


def two_logical_devices():
    """The scope in which a model is made for both."""
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel().scope
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope


def timed(model, x, y):
    """A report, and its wall-clock and processor time in seconds."""
    attack = kwp.attacks.get(FLAGS.attack, FLAGS.dataset)
    begun = np.array([time.perf_counter(), time.process_time()])
    report = kwp.evaluate(model, (x, y), [attack], progress=False)
    ended = np.array([time.perf_counter(), time.process_time()])
    return report, (ended - begun).round(3).tolist()


def measure_devices():
    """Rounds of one device and two, in turns."""
    scope = two_logical_devices()
    models = []
    for place in (contextlib.nullcontext, scope):
        with place():
            models.append(images_and_network()[1])
    x, y = images_and_network()[0]
    reports = [timed(model, x, y)[0] for model in models]  # Compiles.
    seconds = [
        [timed(model, x, y)[1] for model in models] for _ in range(FLAGS.rounds)
    ]
    one, two = (report.results[0] for report in reports)
    finite = np.isfinite(one.distance) & np.isfinite(two.distance)
    gap = np.abs(one.distance[finite] - two.distance[finite])
    return {
        "clean_accuracy": reports[0].clean_accuracy,
        "robust_accuracy": [one.robust_accuracy, two.robust_accuracy],
        "steps": [int(one.steps.sum()), int(two.steps.sum())],
        "other_verdicts": int((one.robust != two.robust).sum()),
        "other_steps": int((one.steps != two.steps).sum()),
        "largest_difference_of_distances": float(gap.max(initial=0.0)),
        "seconds": seconds,
        "throughput_wall": median_ratio(seconds, 0),
        "throughput_processor": median_ratio(seconds, 1),
    }


def median_ratio(rounds, clock):
    """How many times as fast the second of each round is as the first."""
    ratios = [first[clock] / second[clock] for first, second in rounds]
    return round(statistics.median(ratios), 3)


def measure_cores():
    """One device, on the cores that this process may use."""
    (x, y), model = images_and_network()
    timed(model, x, y)  # Compiles.
    return min(timed(model, x, y)[1] for _ in range(FLAGS.rounds))


def images_and_network():
    data = load()
    _, (x, y) = data
    return (x[: FLAGS.images], y[: FLAGS.images]), network(data)


def in_process(part, cores, devices=1):
    """What this script measures in a process of its own."""
    xla = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, *sys.argv, f"--part={part}", "--output="],
        env={**os.environ, "XLA_FLAGS": xla},
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure_all():
    cores = sorted(os.sched_getaffinity(0))[:2]
    figures = {
        "attack": FLAGS.attack,
        "images": FLAGS.images,
        "cores": len(cores),
        "two_devices": in_process("devices", cores, devices=2),
    }
    if len(cores) == 2:
        rounds = [
            [in_process("cores", cores[:1]), in_process("cores", cores)]
            for _ in range(2)
        ]
        figures["one_core_and_two"] = {
            "seconds": rounds,
            "speed_up_wall": median_ratio(rounds, 0),
        }
    return figures


def main(_):
    if FLAGS.part == "all":
        record(measure_all())
    else:
        measure = {"devices": measure_devices, "cores": measure_cores}
        print(json.dumps(measure[FLAGS.part]()))


if __name__ == "__main__":
    app.run(main)
