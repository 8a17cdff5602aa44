"""The networks of `keras_wp.models.pretrained`, and their cards.

    python -m keras_wp.experiments weights --name=mnist-small-cnn-linf-0.3

trains a network by a recipe of `keras_wp.robustify`, and attacks it with
AutoAttack and with attacks that fit it. It leaves `<name>.keras` and
`<name>.json`, the card, in `--output_dir`; the package has those of
`keras_wp/models/weights/`. An interrupted call is continued by the same one.
"""

import dataclasses
import datetime
import functools
import json
import pathlib

import keras

import keras_wp as kwp
from keras_wp.experiments import options
from keras_wp.experiments.options import option, place
from keras_wp.experiments.publish import record
from keras_wp.experiments.run import first
from keras_wp.reports.statistics import wilson


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What a network is trained on, and how."""

    dataset: str
    network: functools.partial
    eps: float
    recipe: kwp.recipes.Recipe
    augment: bool = False


NETWORKS = {
    "mnist-small-cnn-linf-0.3": Trained(
        dataset="mnist",
        network=functools.partial(
            kwp.models.small_cnn,
            head="plain",
            activation="relu",
            widths=(16, 16, 32, 32),
            dense=(128, 128),
        ),
        eps=0.3,
        recipe=kwp.recipes.Recipe(
            defense="adversarial_training",
            steps=5,
            averaging=0.998,
            epochs=14,
            ramp=2,
        ),
    ),
    "cifar10-small-cnn-linf-8-255": Trained(
        dataset="cifar10",
        network=functools.partial(
            kwp.models.small_cnn, head="plain", activation="relu"
        ),
        eps=8 / 255,
        recipe=kwp.recipes.BUDGETS["standard"],
        augment=True,
    ),
    # For a GPU: without other data, and with `--generated`.
    "cifar10-preact-resnet18-linf-8-255": Trained(
        dataset="cifar10",
        network=functools.partial(
            kwp.models.preact_resnet18,
            head="plain",
            activation="silu",
            hidden_activation="silu",
        ),
        eps=8 / 255,
        recipe=dataclasses.replace(
            kwp.recipes.BUDGETS["strong"],
            epochs=120,
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=5e-3,
        ),
        augment=True,
    ),
}
# Held out where generated images take part.
_HELD_OUT, _BATCH = 1000, 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """A network to train; see each field's text."""

    name: str = option(next(iter(NETWORKS)), "Which.", tuple(NETWORKS))
    epochs: int | None = option(None, "If not the recipe's.", least=1)
    generated: str | None = option(
        None, "An .npz file of generated images, to be mixed in."
    )
    share: float = option(0.7, "Of generated images in a batch.", least=0)
    train_images: int | None = option(None, "The first so many.", least=1)
    eval_images: int = option(0, "Attack the first so many; 0: all.", least=0)
    seed: int = option(0, "Of weights, order of data, attacks.", least=0)
    data_dir: str | None = place(None, "TFDS directory; else TFDS_DATA_DIR.")
    output_dir: str = place("runs/weights", "Where all is put.")

    kind = "weights"

    @classmethod
    def command(cls, argv):
        """Train and attack what a command line describes."""
        options.run(_main, cls(), argv)


def _main(asked, given, more):
    options.no_more(more)
    asked = dataclasses.replace(asked, **given)
    chosen, recipe = NETWORKS[asked.name], NETWORKS[asked.name].recipe
    if asked.epochs:
        recipe = dataclasses.replace(recipe, epochs=asked.epochs)
    train, test = kwp.datasets.load(chosen.dataset, asked.data_dir)
    train = first(asked.train_images, train)
    test = first(asked.eval_images, test)
    keras.utils.set_random_seed(asked.seed)
    model = chosen.network(train[0].shape[1:], int(train[1].max()) + 1)
    folder = pathlib.Path(asked.output_dir)
    more = {"batch_size": _BATCH, "augment": chosen.augment}
    if asked.generated:
        train, more = _mixed(asked, chosen, train)
    model, report, history = kwp.robustify(
        model,
        train,
        chosen.eps,
        budget=recipe,
        test_data=test,
        **more,
        directory=folder / asked.name,
        seed=asked.seed,
    )
    print(report)
    model.save(folder / f"{asked.name}.keras")
    card = json.dumps(_card(asked, recipe, report, history), indent=1)
    (folder / f"{asked.name}.json").write_text(card + "\n")
    report.to_html(folder / f"{asked.name}.html")
    print(f"Written to {folder}: {asked.name}.keras, .json and .html")


def _mixed(asked, chosen, train):
    """Real and generated images, and what `robustify` is to know of them."""
    x, y = train
    count = len(x) - min(_HELD_OUT, len(x) // 10)
    data = kwp.datasets.mix(
        (x[:count], y[:count]),
        asked.generated,
        share=asked.share,
        batch_size=_BATCH,
        seed=asked.seed,
        augment=chosen.augment,
    )
    more = {"validation_data": (x[count:], y[count:])}
    return data, {**more, "steps_per_epoch": count // _BATCH}


def _card(asked, recipe, report, history):
    chosen = NETWORKS[asked.name]

    def share(correct):
        count, right = len(correct), int(correct.sum())
        return {"accuracy": right / count, "interval": wilson(right, count)}

    return {
        "name": asked.name,
        "date": datetime.date.today().isoformat(),
        "data": record.data(chosen.dataset, asked.data_dir),
        "recipe": dataclasses.asdict(recipe),
        "generated": asked.generated and pathlib.Path(asked.generated).name,
        "seed": asked.seed,
        **record.process(),
        "norm": "linf",
        "eps": chosen.eps,
        "test_images": len(report),
        "clean": share(report.clean_correct),
        "attacks": {
            result.name: share(result.robust) for result in report.results
        },
        "worst_case": share(report.robust()),
        "findings": [dataclasses.asdict(found) for found in report.findings],
        "validation": {
            name: history[f"val_{name}_accuracy"]
            for name in ("clean", "robust")
        },
    }
