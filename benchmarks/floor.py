"""The engine against the floor: the gradients that are really needed.

For each attack, the time of `keras_wp.evaluate` over the time that its steps
would take as bare compiled value-and-gradients of the same model:

    ratio = seconds / (sum of the images' steps * seconds of one gradient)

A step of PGD is one gradient. The engine's time includes everything that
`evaluate` does: the clean pass, the checks, the digests of the images, and
the forward passes that examine the last points. Floor and engine are measured
in turns, `--rounds` times, because the machine's speed wanders, and both by the
clock and by the processor time spent, which other processes disturb less; the
median ratios are reported.

    python benchmarks/floor.py --attacks=pgd100 --images=512
"""

import statistics
import time

import keras
import numpy as np
from _common import FLAGS, load, network, record
from absl import app, flags

import keras_wp as kwp
from keras_wp import _backend
from keras_wp.classifier import Classifier

flags.DEFINE_list("attacks", ["pgd100"], "Names for keras_wp.attacks.get.")
flags.DEFINE_integer("images", 512, "Test images.")
flags.DEFINE_integer("batch", 32, "Batch of the bare gradients.")
flags.DEFINE_integer("rounds", 3, "Measurements.")

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def bare_gradient(model, x, y):
    """A compiled value-and-gradient of the summed loss, ready to be timed."""
    classifier = Classifier(model)

    def value_and_grad(images, labels):
        def loss(x):
            return kwp.objectives.cross_entropy(classifier(x), labels)

        values, pullback = _backend.vjp(loss, images)
        return values, pullback(keras.ops.ones_like(values))

    compiled = _backend.compile(value_and_grad, classifier.variables)
    x, y = x[: FLAGS.batch], y[: FLAGS.batch]
    x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)

    def run():
        keras.ops.convert_to_numpy(compiled(x, y)[1])

    run()
    return run


def now():
    """Wall-clock and processor time, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def seconds_per_image(run, at_least=2.0):
    """The median times of a call, over its images."""
    times = []
    begun = now()
    while now()[0] - begun[0] < at_least or len(times) < 5:
        before = now()
        run()
        times.append(now() - before)
    return np.median(times, axis=0) / FLAGS.batch


def measure(model, attack, x, y, gradient):
    """Time one attack against the floor, in turns."""

    def evaluate():
        begun = now()
        report = kwp.evaluate(model, (x, y), [attack], progress=False)
        return report, now() - begun

    evaluate()  # Compiles.
    rounds = []
    for _ in range(FLAGS.rounds):
        before = seconds_per_image(gradient)
        report, seconds = evaluate()
        bare = (before + seconds_per_image(gradient)) / 2
        steps = int(report.results[0].steps.sum())
        rounds.append(
            {
                "seconds": seconds.round(3).tolist(),
                "steps": steps,
                "milliseconds_per_gradient": (1000 * bare).round(3).tolist(),
                "ratio": (seconds / (steps * bare)).round(3).tolist(),
            }
        )
    return {
        "attack": attack.label,
        "images": len(x),
        "clean_accuracy": report.clean_accuracy,
        "robust_accuracy": report.robust_accuracy,
        "steps_per_image": report.results[0].mean_steps,
        "ratio_wall": statistics.median(r["ratio"][0] for r in rounds),
        "ratio_processor": statistics.median(r["ratio"][1] for r in rounds),
        "rounds": rounds,
    }


def main(_):
    data = load()
    model = network(data)
    _, (x, y) = data
    x, y = x[: FLAGS.images], y[: FLAGS.images]
    gradient = bare_gradient(model, x, y)
    attacks = [kwp.attacks.get(n, FLAGS.dataset) for n in FLAGS.attacks]
    record(
        {
            "figures": [
                measure(model, attack, x, y, gradient) for attack in attacks
            ]
        }
    )


if __name__ == "__main__":
    app.run(main)
