"""What a certificate costs beside a plain forward pass.

    python -m benchmarks.certified_cost --dataset=mnist \
        --output=results/certified-cost/mnist-cpu

takes `models.lipschitz_mlp` as it is at first, which is as expensive as a
trained one, and all test images. Each call has a network of its own, so that
its first call traces its own programs; later calls take turns.
"""

import os

import keras
import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks import common
from keras_wp.engine import predict
from keras_wp.inspection.classifier import Classifier

FLAGS = flags.FLAGS
flags.DEFINE_integer("runs", 15, "Later calls of each.")
flags.DEFINE_integer("batch", 128, "Images of a batch.")


def seconds(call):
    """Of the clock, and of the processor."""
    begun = common.now()
    call()
    return np.asarray(common.now() - begun)


def told(times):
    return dict(
        zip(("clock", "processor"), times.round(3).tolist(), strict=True)
    )


def measured(x, y):
    keras.utils.set_random_seed(FLAGS.seed)
    warm, *models = (
        kwp.models.lipschitz_mlp(x.shape[1:], num_classes=10) for _ in range(4)
    )
    size, view = FLAGS.batch, Classifier(models[0])
    # What a process does once, whichever comes first.
    predict.logits(Classifier(warm), x[:size], size)
    warm.predict(x[:size], verbose=0)
    calls = {
        "forward": lambda: predict.logits(view, x, size),
        "predict": lambda: models[1].predict(x, batch_size=size, verbose=0),
        "certify": lambda: kwp.certify(models[2], (x, y), batch_size=size),
    }
    first = {name: seconds(call) for name, call in calls.items()}
    later = {name: [] for name in calls}
    for _ in range(FLAGS.runs):
        for name, call in calls.items():
            later[name].append(seconds(call))
    middle = {name: np.median(times, axis=0) for name, times in later.items()}
    least = {name: np.min(times, axis=0) for name, times in later.items()}
    return {
        "images": len(x),
        "seconds_of_the_first_call": {n: told(t) for n, t in first.items()},
        "median_seconds_of_later_calls": {
            n: told(t) for n, t in middle.items()
        },
        "least_seconds_of_later_calls": {n: told(t) for n, t in least.items()},
        "certify_by_median": {
            name: told(middle["certify"] / middle[name])
            for name in ("forward", "predict")
        },
        # Of other processes as well.
        "load_of_machine": [round(load, 1) for load in os.getloadavg()],
    }


def main(_):
    _, (x, y) = common.load()
    common.record({"figures": measured(x, y)})


if __name__ == "__main__":
    app.run(main)
