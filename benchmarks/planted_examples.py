"""Which planted adversarial examples attacks find: on healthy models, and not.

    python -m benchmarks.planted_examples --output=results/planted

At 32 digits each, for models of `tests/support`; PGD with 20 and 100 steps and
AutoAttack, and what `adaptive=True` runs. An attack is to find (nearly) all of
them on a model whose gradients say what there is to say, and few where what
lies before the features leads it astray.
"""

import multiprocessing
import time
import warnings
from concurrent import futures

from absl import app, flags

import keras_wp as kwp
from benchmarks import common
from benchmarks.audit_table import HEALTHY, MASKED, built, chosen, digits
from keras_wp.attacks import adaptive
from keras_wp.audit import planted
from keras_wp.inspection.classifier import Classifier
from keras_wp.reports.statistics import wilson

FLAGS = flags.FLAGS
SOME = (
    "tanh x100, head, cnn",
    "tanh x300, head, dense",
    "clip x30, head",
    "tanh x100, first hidden layer, dense",
    "tanh x300, first hidden layer, dense",
    "hard_tanh x30, hidden",
    "tanh x20 first and tanh x30 last",
    "8 levels, hidden",
    "input plateau, eps 0.3",
    "16 levels, input",
    "16 levels by floor, input",
    "input as uint8",
    "thermometer",
    "shattered gradients",
)


def row(name):
    """How many examples there are, and how many each attack finds."""
    warnings.simplefilter("ignore")
    masked = built(name)
    _, (x, y) = digits(100)
    classifier = Classifier(masked.model)
    opened = classifier.open(x)
    right = classifier.eager(x).argmax(-1) == y
    budget = "linf", masked.eps, (0.0, 1.0)
    plants = planted.plant(classifier, x[right][: planted.IMAGES], budget, 128)
    attacks = [
        kwp.attacks.PGD(eps=masked.eps, steps=20),
        kwp.attacks.PGD(eps=masked.eps, steps=100),
        kwp.attacks.AutoAttack(eps=masked.eps),
        adaptive.attack(adaptive.fitting(opened), *budget),
    ]
    found, seconds = {}, {}
    for attack in attacks:
        begun = time.perf_counter()
        found[attack.label] = plants.found_by(attack, 128)
        seconds[attack.label] = time.perf_counter() - begun
    return {
        "model": name,
        "healthy": name in HEALTHY,
        "eps": masked.eps,
        "read_outs": "features" if plants.of_features else "logits",
        "planted": len(plants.images),
        "found": found,
        "seconds": seconds,
    }


def sums(rows):
    """Over models, the share that each attack finds, with its interval."""
    count = sum(r["planted"] for r in rows)
    shares = {}
    for label in rows[0]["found"] if rows else ():
        found = sum(r["found"][label] for r in rows)
        low, high = wilson(found, count)
        shares[label] = {"share": found / count, "low": low, "high": high}
    return {"planted": count, "found": shares}


def main(_):
    names = chosen((*HEALTHY, *SOME))
    unknown = set(SOME) - {*MASKED}
    if unknown:
        raise ValueError(f"No such models: {sorted(unknown)}")
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(FLAGS.jobs, context) as pool:
        rows = []
        for figures in pool.map(row, names):
            rows.append(figures)
            print(figures["model"], figures["planted"], figures["found"])
    healthy = [r for r in rows if r["healthy"]]
    masked = [r for r in rows if not r["healthy"]]
    common.record(
        {
            "data": "mnist5k",
            "backend": common.keras.backend.backend(),
            "of_healthy_models": sums(healthy),
            "of_masked_models": sums(masked),
            "rows": rows,
        }
    )


if __name__ == "__main__":
    app.run(main)
