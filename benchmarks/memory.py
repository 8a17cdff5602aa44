"""Peak memory of an evaluation, by the number of images.

The images are streamed: they are made in batches as they are read, noise from
a seed, and each is labelled with what a narrow network with random weights
makes of it. Each number of images has a process of its own, whose largest
resident set is reported.

    python -m benchmarks.memory --counts=100,1000,10000

With `--workers=2`, attacks run on actors of Ray, and the memory is that of the
driver alone.
"""

import json
import resource
import subprocess
import sys
import time

import keras
import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks.common import FLAGS, record

flags.DEFINE_list("counts", ["100", "1000", "10000"], "Numbers of images.")
flags.DEFINE_integer("count", 0, "Evaluate on so many in this process.")
flags.DEFINE_integer("workers", 0, "Actors of Ray; 0 for this process.")
flags.DEFINE_integer("steps", 3, "Of each run of AutoAttack.")
flags.DEFINE_integer("queries", 10, "Of AutoAttack's Square.")
flags.DEFINE_float("eps", 0.004, "Budget in l-infinity.")

SHAPE, BATCH = (32, 32, 3), 100


class Stream:
    """Batches of images that exist only while they are read."""

    def __init__(self, model, count):
        self._model = model
        self._count = count

    def __iter__(self):
        for seed in range(0, self._count, BATCH):
            rng = np.random.default_rng([FLAGS.seed, seed])
            size = min(BATCH, self._count - seed)
            x = rng.uniform(size=(size, *SHAPE)).astype(np.float32)
            logits = self._model(x, training=False)
            yield x, keras.ops.convert_to_numpy(logits).argmax(-1)


def narrow_network():
    keras.utils.set_random_seed(FLAGS.seed)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(8, 4, strides=4, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def measure(count):
    model = narrow_network()
    attack = kwp.attacks.AutoAttack(
        eps=FLAGS.eps, steps=FLAGS.steps, queries=FLAGS.queries
    )
    begun = time.perf_counter()
    workers = FLAGS.workers
    report = kwp.evaluate(
        model,
        Stream(model, count),
        [attack],
        adaptive=False,
        audit=False,
        cluster=kwp.cluster.Ray(workers=workers) if workers else None,
    )
    return {
        "images": count,
        "robust_accuracy": report.robust_accuracy,
        "steps_per_image": report.results[0].mean_steps,
        "seconds": round(time.perf_counter() - begun, 1),
        "megabytes_of_images": round(4e-6 * count * np.prod(SHAPE), 1),
        # Linux counts in units of 1024 bytes.
        "peak_megabytes": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3, 1
        ),
    }


def in_process(count):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.memory",
            *sys.argv[1:],
            f"--count={count}",
            "--output=",
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(_):
    if FLAGS.count:
        print(json.dumps(measure(FLAGS.count)))
        return
    record(
        {
            "data": "noise, labelled by the network",
            "attack": f"AutoAttack({FLAGS.steps}, {FLAGS.queries})",
            "workers": FLAGS.workers,
            "figures": [in_process(int(count)) for count in FLAGS.counts],
        }
    )


if __name__ == "__main__":
    app.run(main)
