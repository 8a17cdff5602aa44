"""What the simplex penalty adds to a training step.

Two copies of the small CNN, one with and one without the regularizer on its
robust head, take training steps on the same random images, in turns: each
pair in the opposite order of the one before, because the machine's speed
wanders. The overhead is the median over the pairs of

    seconds with / seconds without - 1

with a 95 % bootstrap interval; once in wall-clock time, and once in the
processor time of the process, which other programs disturb less.

On a busy machine that interval is wider than the overhead itself. So the same
is measured for the head alone, whose step takes a few milliseconds: the
difference, over the small CNN's step, is `penalty_percent`.

    python -m benchmarks.penalty_overhead --form=mnist --pairs=300
"""

import time

import keras
import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks.common import FLAGS, median_and_interval, record

flags.DEFINE_enum("form", "mnist", ["mnist", "cifar"], "Form of the CNN.")
flags.DEFINE_integer("pairs", 300, "Pairs of steps to time.")
flags.DEFINE_integer("head_pairs", 3000, "The same for the head alone.")
flags.DEFINE_integer("batch", 128, "Images of a step.")

SHAPES = {"mnist": (28, 28, 1), "cifar": (32, 32, 3)}
FEATURES = {"mnist": 200, "cifar": 256}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
NUM_CLASSES = 10
WARM_UP = 10


def small_cnn():
    """The whole network."""
    return kwp.models.small_cnn(SHAPES[FLAGS.form], NUM_CLASSES)


def head_alone():
    """Its head, on features from nowhere."""
    features = keras.Input((FEATURES[FLAGS.form],))
    head = kwp.RobustHead(NUM_CLASSES, name="head")
    return keras.Model(features, head(features))


def compiled(build, penalized):
    """The model, ready to train; the same weights with and without."""
    keras.utils.set_random_seed(FLAGS.seed)
    model = build()
    if not penalized:
        model.get_layer("head").kernel.regularizer = None
    if len(model.losses) != penalized:
        raise RuntimeError(f"Unexpected penalties: {model.losses}")
    model.compile(
        keras.optimizers.Adam(0.001),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def timed_step(model, x, y):
    """Seconds of one training step, one number for each clock."""
    start = [clock() for clock in CLOCKS.values()]
    # The loss it returns is a number, so the step is over.
    model.train_on_batch(x, y)
    return [
        clock() - then
        for clock, then in zip(CLOCKS.values(), start, strict=True)
    ]


def paired_seconds(build, pairs, rng):
    """Seconds of steps: an array (pairs, with or without, clocks)."""
    models = [compiled(build, penalized) for penalized in (True, False)]
    shape = (FLAGS.batch, *models[0].input_shape[1:])
    x = keras.ops.convert_to_tensor(rng.random(shape, dtype=np.float32))
    y = keras.ops.convert_to_tensor(rng.integers(0, NUM_CLASSES, FLAGS.batch))
    seconds = np.empty((pairs, len(models), len(CLOCKS)))
    for pair in range(-WARM_UP, pairs):
        for index in (0, 1) if pair % 2 else (1, 0):
            step = timed_step(models[index], x, y)
            if pair >= 0:
                seconds[pair, index] = step
    return seconds


def main(_):
    """Time the pairs and print the figures."""
    rng = np.random.default_rng(FLAGS.seed)
    whole = paired_seconds(small_cnn, FLAGS.pairs, rng)
    alone = paired_seconds(head_alone, FLAGS.head_pairs, rng)
    figures = {}
    for i, clock in enumerate(CLOCKS):
        step_ms = 1e3 * np.median(whole[:, 1, i])
        overhead = 100 * (whole[:, 0, i] / whole[:, 1, i] - 1)
        overhead, interval = median_and_interval(overhead, rng)
        penalty_ms = 1e3 * (alone[:, 0, i] - alone[:, 1, i])
        penalty_ms, penalty_interval = median_and_interval(penalty_ms, rng)
        figures[clock] = {
            "step_ms": round(step_ms, 3),
            "overhead_percent": overhead,
            "overhead_percent_interval": interval,
            "penalty_ms": penalty_ms,
            "penalty_ms_interval": penalty_interval,
            "penalty_percent": round(100 * penalty_ms / step_ms, 3),
        }
    record(
        {
            "data": f"random images, {FLAGS.form} form",
            "batch": FLAGS.batch,
            "pairs": FLAGS.pairs,
            "head_pairs": FLAGS.head_pairs,
            **figures,
        }
    )


if __name__ == "__main__":
    app.run(main)
