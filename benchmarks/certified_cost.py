"""What a certificate costs beside a plain forward pass.

    python -m benchmarks.certified_cost --dataset=mnist \
        --output=results/certified/cost

takes `models.lipschitz_mlp` as it is at first, which is as expensive as a
trained one, and all test images. Each call has a network of its own, so that
its first call traces its own programs; later calls take turns. Seconds are
those of the clock.
"""

import os
import time

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
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


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
    times = {
        name: dict(
            zip(
                ("least", "median", "most"),
                np.quantile(t, (0, 0.5, 1)).round(3).tolist(),
                strict=True,
            )
        )
        for name, t in later.items()
    }
    return {
        "images": len(x),
        "first_call": {name: round(t, 3) for name, t in first.items()},
        "later_calls": times,
        "certify_by_median": {
            name: round(times["certify"]["median"] / times[name]["median"], 2)
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
