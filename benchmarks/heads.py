"""Does a head make the recipe of the package's weights more robust?

    python -m benchmarks.heads --dataset=mnist --train_images=60000 \
        --epochs=6 --output=results/compare-heads/mnist-recipe

trains one network by the recipe of `mnist-small-cnn-linf-0.3`, with each head
and each seed, and attacks it with AutoAttack and with attacks that fit it. The
network is a small one, whose strides make it several times cheaper than that of
the package: twenty of those are too many for a day of two cores. Each head
is compared with the ordinary one, image by image and seed by seed, as in
`python -m keras_wp.experiments compare-heads`, which makes the table and the
figure. The record is written after each network, and what it has already is
not done again; nor what is in the folders of `--earlier`, as of another process
with other `--seeds`.
"""

import dataclasses
import time

import keras
import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks import common
from keras_wp.experiments import config, heads
from keras_wp.experiments.publish import record
from keras_wp.experiments.studies import compare_heads, weights
from keras_wp.experiments.training import loss_of
from keras_wp.models.heads import batch_norm, classify, hidden

FLAGS = flags.FLAGS
RECIPE = "mnist-small-cnn-linf-0.3"
flags.DEFINE_list(
    "heads",
    ["plain", "vertices-s-1", "hypersphere", "mmc"],
    "Heads, as `compare-heads` names them.",
)
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds of trainings.")
flags.DEFINE_integer("test_images", 2000, "The first so many are attacked.")
flags.DEFINE_float("eps", weights.NETWORKS[RECIPE].eps, "The budget in linf.")
FLAGS.set_default("epochs", 6)
# What a record must share to be continued.
SETTINGS = ("train_images", "epochs", "test_images", "eps")
# Filters, kernels and strides of the convolutions, units of the dense layer.
CONVOLUTIONS, DENSE = ((16, 5, 3), (32, 3, 2)), 100
# Outcomes of which a digit stands for each image.
CONDITIONS = ("clean", "AutoAttack", "worst case")


def network(input_shape, num_classes, **head):
    """Two convolutions with strides, a dense layer, and a head."""
    images = keras.Input(input_shape)
    x = images
    for filters, kernel, stride in CONVOLUTIONS:
        x = keras.layers.Conv2D(
            filters, kernel, stride, padding="same", use_bias=False
        )(x)
        x = hidden("relu")(batch_norm()(x))
    x = keras.layers.Dense(DENSE, use_bias=False)(keras.layers.Flatten()(x))
    return keras.Model(images, classify(batch_norm()(x), num_classes, **head))


def trained(head, seed, train):
    """A network by the recipe, from a seed."""
    x, y = (part[: FLAGS.train_images] for part in train)
    chosen = dataclasses.replace(
        config.EXPERIMENTS["mnist_small_cnn"], **compare_heads.VARIANTS[head]
    )
    keras.utils.set_random_seed(seed)
    model = heads.build(
        network,
        chosen.head,
        chosen.activation,
        input_shape=x.shape[1:],
        num_classes=10,
        s=chosen.s,
        alpha=chosen.alpha,
    )
    # The report is made on the test images, below.
    recipe = dataclasses.replace(
        weights.NETWORKS[RECIPE].recipe, epochs=FLAGS.epochs, attacks=("fgsm",)
    )
    found = kwp.robustify(
        model,
        (x, y),
        FLAGS.eps,
        budget=recipe,
        loss=loss_of(chosen),
        seed=seed,
    )
    return found.model


def run(head, seed, train, test):
    """What a network withstands, as `compare_heads.rows` takes it."""
    begun = time.perf_counter()
    model = trained(head, seed, train)
    report = kwp.evaluate(
        model, test, "autoattack", eps=FLAGS.eps, seed=seed, audit=False
    )
    print(f"{head}, seed {seed}\n{report}", flush=True)
    (suite, *_) = report.results
    found = report.clean_correct, suite.robust, report.robust()
    return {
        "seed": seed,
        "command": record.command(),
        "commit": record.commit(),
        "seconds": round(time.perf_counter() - begun, 1),
        "zero_gradients": suite.vanished_gradients,
        "identities": None,
        "outcomes": dict(zip(CONDITIONS, found, strict=True)),
    }


def earlier(settings):
    """The runs of earlier records, by head and seed."""
    known = {}
    for found in common.earlier("settings", settings):
        for row in found["rows"]:
            for each in row["runs"]:
                known[row["variant"], each["seed"]] = each
        for head, runs in found["unpaired"].items():
            known |= {(head, each["seed"]): each for each in runs}
    return {key: as_arrays(**run) for key, run in known.items()}


def as_arrays(outcomes, **run):
    """A run of a record, as `compare_heads.rows` takes it."""
    outcomes = {
        name: np.array([*digits]) == "1" for name, digits in outcomes.items()
    }
    return {**run, "identities": None, "outcomes": outcomes}


def written(known, settings):
    """Record the runs that there are; compare seeds that all heads have."""
    seeds = {head: set() for head in FLAGS.heads}
    for head, seed in known:
        seeds.setdefault(head, set()).add(seed)
    shared = sorted(set.intersection(*(seeds[head] for head in FLAGS.heads)))
    paired = {(head, seed) for head in FLAGS.heads for seed in shared}
    unpaired = {head: [] for head in seeds}
    for head, seed in sorted(known.keys() - paired):
        run = compare_heads.as_text(**known[head, seed])
        unpaired[head].append(run)
    measured = {
        ("recipe", head): [known[head, seed] for seed in shared]
        for head in FLAGS.heads
    }
    figures = {
        "title": "Heads with the recipe of the package's weights",
        "reference": compare_heads.REFERENCE,
        "attack": CONDITIONS[1],
        "norm": "linf",
        "eps": FLAGS.eps,
        "images": FLAGS.test_images,
        "seed": shared,
        "settings": settings,
        "preset": RECIPE,
        "preset_changes": [],
        "flags": [f"--{name}={settings[name]}" for name in SETTINGS],
        "rows": compare_heads.rows(measured) if shared else [],
        "unpaired": unpaired,
        "seconds": round(sum(known[key]["seconds"] for key in paired), 1),
    }
    common.record(figures, show=False)


def main(_):
    settings = {name: getattr(FLAGS, name) for name in SETTINGS}
    known = earlier(settings)
    train, test = common.load()
    test = tuple(part[: FLAGS.test_images] for part in test)
    for seed in map(int, FLAGS.seeds):
        for head in FLAGS.heads:
            if (head, seed) not in known:
                known[head, seed] = run(head, seed, train, test)
                written(known, settings)
    written(known, settings)


if __name__ == "__main__":
    app.run(main)
