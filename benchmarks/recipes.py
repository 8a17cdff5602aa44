"""What `robustify` brings, against plain and adversarial training.

    python -m benchmarks.recipes --dataset=mnist5k --attack_eps=0.1 \
        --kinds=plain,adversarial,standard --output=results/recipes/mnist5k

trains the same network in each way, with seeds, and attacks it with AutoAttack
and with attacks that fit it. `adversarial` is PGD adversarial training with the
optimizer and the rates of the recipe, as many steps of its attack, and as many
epochs as make as many passes as TRADES in `--epochs`; it keeps its last
weights. Trained networks are kept. The record is written after each seed, and
continued: seeds that it has, or that are in the folders of `--earlier`, as of
another process with other `--seeds`, are not done again. For CIFAR-10 on two
cores:

    python -m benchmarks.recipes --dataset=cifar10 --attack_eps=0.03137 \
        --train_images=10000 --narrow=4 --epochs=15 --augment --seeds=0,1,2 \
        --kinds=adversarial,standard --output=results/recipes/cifar10-cpu
"""

import dataclasses
import pathlib

import keras
from absl import app, flags

import keras_wp as kwp
from benchmarks import common
from keras_wp.experiments.publish import record
from keras_wp.models.small_cnn import sizes

FLAGS = flags.FLAGS
KINDS = ("plain", "adversarial", *kwp.recipes.BUDGETS)
flags.DEFINE_list("kinds", ["plain", "adversarial", "standard"], "Of KINDS.")
flags.DEFINE_list("seeds", ["0"], "Seeds of the trainings.")
flags.DEFINE_float("attack_eps", 0.1, "The budget in linf.")
flags.DEFINE_integer("test_images", 1000, "The first so many are attacked.")
flags.DEFINE_bool("augment", False, "Crop and flip training images.")
FLAGS.set_default("epochs", 20)


def network(shape):
    return kwp.models.small_cnn(
        shape,
        10,
        head="plain",
        activation="relu",
        **sizes(shape[-1], FLAGS.narrow),
    )


def recipe(kind):
    """The recipe, without a report of its own."""
    known = kwp.recipes.BUDGETS.get(kind, kwp.recipes.BUDGETS["standard"])
    return dataclasses.replace(known, epochs=FLAGS.epochs, attacks=("fgsm",))


def trained(kind, seed, train):
    """The trained network, and the processor seconds that it took."""
    x, y = (part[: FLAGS.train_images] for part in train)
    name = [FLAGS.dataset, len(x), kind, seed, FLAGS.epochs, FLAGS.narrow]
    name += [FLAGS.attack_eps, FLAGS.augment]
    name = "-".join(map(str, name))
    path = pathlib.Path(FLAGS.cache) / f"recipes-{name}.weights.h5"
    keras.utils.set_random_seed(seed)
    model = network(x.shape[1:])
    if path.exists():
        model.load_weights(path)
        return model, float(path.with_suffix(".seconds").read_text())
    begun = common.now()
    if kind in kwp.recipes.BUDGETS:
        kwp.robustify(
            model,
            (x, y),
            FLAGS.attack_eps,
            budget=recipe(kind),
            augment=FLAGS.augment,
            seed=seed,
        )
    else:
        fit(kind, model, x, y, seed)
    _, seconds = common.now() - begun
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(path)
    path.with_suffix(".seconds").write_text(str(seconds))
    return model, float(seconds)


def fit(kind, model, x, y, seed):
    """Train plainly, or adversarially with as many passes as TRADES."""
    known, made, epochs = recipe(kind), model, FLAGS.epochs
    if kind == "adversarial":
        attack = kwp.attacks.PGD(eps=FLAGS.attack_eps, steps=known.steps)
        made = kwp.defenses.AdversarialTraining(model, attack)
        epochs = round(epochs * (known.steps + 2) / (known.steps + 1))
    known = dataclasses.replace(known, epochs=epochs)
    made.compile(
        known.made_optimizer(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    made.fit(
        kwp.datasets.batches(x, y, 128, seed=seed, augment=FLAGS.augment),
        steps_per_epoch=len(x) // 128,
        shuffle=False,
        epochs=epochs,
        callbacks=[keras.callbacks.LearningRateScheduler(known.rate)],
        verbose=2,
    )


def main(_):
    train, test = common.load()
    test = tuple(part[: FLAGS.test_images] for part in test)
    rows = []
    for found in common.earlier("recipe", told()):
        made = {name: found[name] for name in ("command", "commit")}
        rows += [{**made, **each} for each in found["figures"]]
    for seed in map(int, FLAGS.seeds):
        if seed in {each["seed"] for each in rows}:
            continue
        reports = {}
        for kind in FLAGS.kinds:
            model, seconds = trained(kind, seed, train)
            found = kwp.evaluate(
                model, test, "autoattack", eps=FLAGS.attack_eps, seed=seed
            )
            print(f"{kind}, seed {seed}\n{found}", flush=True)
            reports[kind] = found, seconds
        rows += [row(kind, seed, reports) for kind in FLAGS.kinds]
        written(rows)
    written(rows)


def written(rows):
    rows = sorted(rows, key=lambda row: row["seed"])
    common.record({"figures": rows, "recipe": told()}, show=False)


def row(kind, seed, reports):
    """What is recorded of a network; pairs are with the kind named first."""
    report, seconds = reports[kind]
    first, _ = reports[FLAGS.kinds[0]]
    gained = report.robust() * 1 - first.robust() * 1
    return {
        "kind": kind,
        "seed": seed,
        "command": record.command(),
        "commit": record.commit(),
        "images": len(report),
        "train_processor_seconds": round(seconds, 1),
        "clean": report.clean_accuracy,
        "robust": report.robust_accuracy,
        "attacks": {r.name: r.robust_accuracy for r in report.results},
        "findings": [
            f.message for f in report.findings if f.severity != "info"
        ],
        "against": FLAGS.kinds[0],
        "gained": int((gained > 0).sum()),
        "lost": int((gained < 0).sum()),
    }


def told():
    names = ("train_images", "epochs", "narrow", "attack_eps", "augment")
    return {name: getattr(FLAGS, name) for name in names}


if __name__ == "__main__":
    app.run(main)
