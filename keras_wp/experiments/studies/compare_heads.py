"""Is the robust head worth using? Heads in the same training against attacks.

    python -m keras_wp.experiments compare-heads --preset=cpu

trains the same network adversarially and with TRADES, with the ordinary head,
with the robust one and with that of MMC, on the same data for as long, three
times each, and attacks each on the same test images with AutoAttack and with
attacks that fit the model. An image counts if all of them fail on it. Every
head is compared with the ordinary one image by image and seed by seed; the
intervals of the differences know of both (`paired_seeds.py` has the formula).

It writes `results/compare-heads/mnist-cpu`: JSON (shares from 0 to 1, with
the outcome of each image), a table and a figure; other choices than
these have names of their own.

`--preset=cpu` is on 4,000 digits for 8 epochs, with a network of half the
width, and asks for 200 test images within 0.1; it takes almost three hours on
one core. `--preset=gpu` is on all digits for 100 epochs within 0.3.

    --script=cifar10_small_cnn                        on CIFAR-10
    --script=cifar10_wrn -- --epochs=30               with a real network
    --variants=plain,sphere,limited                   other heads (VARIANTS)
    --defenses=at --seeds=0,1,2,3,4                   other trainings
    --list                                            show the commands

What is finished is not run again. Flags after `--` go to the experiments.
"""

import dataclasses

import keras_wp as kwp
from keras_wp.experiments import options
from keras_wp.experiments.options import option
from keras_wp.experiments.studies import queue
from keras_wp.experiments.studies.paired_seeds import compare
from keras_wp.experiments.studies.paper import MMC, ORDINARY
from keras_wp.experiments.studies.study import Repeated


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareHeads(Repeated):
    """Trainings and heads."""

    seeds: tuple[str, ...] = option(
        ("0", "1", "2"), "Repeat with each of these seeds."
    )
    defenses: tuple[str, ...] = option(
        ("at", "trades"), "Trainings: none, at, trades, mart."
    )
    variants: tuple[str, ...] = option(
        ("plain", "robust", "mmc"), "Heads: keys of VARIANTS, or all."
    )


DEFENSES = ("none", "at", "trades", "mart")
# The first is what the others are compared with.
REFERENCE = "plain"
VARIANTS = {
    REFERENCE: ORDINARY,
    "plain-tanh": {"head": "plain", "activation": "tanh"},
    "mmc": MMC,
    "robust": {"head": "robust", "activation": "tanh"},
    "robust-relu": {"head": "robust", "activation": "relu"},
    "s-0.3": {"s": 0.3},
    "s-1": {"s": 1.0},
    "alpha-1": {"alpha": 1.0},
    # The robust head, except for one thing: see `heads.py`.
    "rising": {"head": "rising"},
    "falling": {"head": "falling"},
    "squared": {"head": "squared"},
    "vertices": {"head": "vertices"},
    "vertices-s-1": {"head": "vertices", "s": 1.0},
    "frozen": {"head": "frozen"},
    "limited": {"head": "limited"},
    "fixed-norm": {"head": "fixed-norm"},
    "no-norm": {"head": "no-norm"},
    "sphere": {"head": "sphere"},
    "sphere-learned": {"head": "sphere-learned"},
}
# Sizes of this study, besides those of `study.py`.
SIZES = {
    "cpu": {"train_images": 4000, "epochs": 8, "eval_images": 200},
}
# Without augmentation the small network fits CIFAR-10 by heart.
AUGMENTED = {"augment": True}


def chosen(study):
    """The trainings and the heads that are asked for, the ordinary first."""
    defenses, variants = study.defenses, study.variants
    if variants == ("all",):
        variants = [v for v in VARIANTS if "mart" not in defenses or v != "mmc"]
    for flag, values, known in (
        ("defenses", defenses, DEFENSES),
        ("variants", variants, tuple(VARIANTS)),
    ):
        unknown = [value for value in values if value not in known]
        if unknown or not values:
            raise SystemExit(
                f"--{flag} must be of {', '.join(known)}. "
                f"Received: {','.join(unknown) or 'none'}"
            )
    if not set(variants) - {REFERENCE}:
        raise SystemExit(
            f"--variants must have a head to compare with {REFERENCE}. "
            f"Received: {','.join(variants)}"
        )
    if "mart" in defenses and "mmc" in variants:
        raise SystemExit(
            "MART has a loss of its own, and cannot train the head mmc. "
            f"Received: --defenses={','.join(defenses)} "
            f"--variants={','.join(variants)}"
        )
    return defenses, list(dict.fromkeys([REFERENCE, *variants]))


def experiment(study, defense, variant, seed):
    """One training with one head."""
    augmented = AUGMENTED if study.script == "cifar10_small_cnn" else {}
    fields = study.fields(
        **SIZES.get(study.preset, {}),
        **augmented,
        **VARIANTS[variant],
        defense=defense,
        seed=seed,
        attacks=("autoattack",),
        adaptive=True,
    )
    name = f"heads-{defense}-{variant}-seed{seed}"
    return queue.Experiment(study, name, study.script, fields)


def measure(seed, experiment):
    """The outcomes of a run: for each condition, which images are right."""
    report = kwp.Report.from_json(experiment.folder / "report.json")
    suite = report.results[0]
    return {
        "seed": seed,
        "command": experiment.record()["command"],
        "attack": suite.name,
        "norm": suite.norm,
        "eps": suite.eps,
        "zero_gradients": suite.vanished_gradients,
        "identities": report.identities,
        "outcomes": {
            "clean": report.clean_correct,
            suite.name: suite.robust,
            "worst case": report.robust(suite.norm, suite.eps),
        },
    }


def rows(measured, seeds):
    """A row for each training and head.

    Args:
        measured: `{(defense, variant, seed): what `measure` returns}`.
        seeds: The seeds.
    """
    found = []
    for defense, variant in dict.fromkeys((d, v) for d, v, _ in measured):
        runs = [measured[defense, variant, seed] for seed in seeds]
        ordinary = [measured[defense, REFERENCE, seed] for seed in seeds]
        conditions = list(runs[0]["outcomes"])
        row = {
            "defense": defense,
            "variant": variant,
            "accuracy": {
                name: [float(run["outcomes"][name].mean()) for run in runs]
                for name in conditions
            },
        }
        if variant != REFERENCE:
            row["against"] = {
                name: compare(
                    [run["outcomes"][name] for run in ordinary],
                    [run["outcomes"][name] for run in runs],
                )
                for name in conditions
            }
        row["runs"] = [_as_text(run) for run in runs]
        found.append(row)
    return found


def _as_text(run):
    """A run as JSON knows it: a digit for each image."""
    outcomes = {
        name: "".join("01"[right] for right in outcome.astype(int))
        for name, outcome in run["outcomes"].items()
    }
    run = {k: v for k, v in run.items() if k != "identities"}
    return {**run, "outcomes": outcomes}


def check_same(measured):
    """End with a sentence unless all runs had the same images and attack."""
    keys = ("identities", "attack", "norm", "eps")
    if len({tuple(run[key] for key in keys) for run in measured}) > 1:
        raise SystemExit(
            "The runs must have been attacked on the same images, in the same "
            "way. Received: runs that differ"
        )


def command(argv):
    """`compare-heads`."""
    options.run(_main, CompareHeads(), argv)


def _main(usual, given, more):
    study = dataclasses.replace(usual, **given)
    defenses, variants = chosen(study)
    seeds = study.numbers()
    experiments = {
        (defense, variant, seed): experiment(study, defense, variant, seed)
        # One seed of all first: an interruption leaves something to compare.
        for seed in seeds
        for defense in defenses
        for variant in variants
    }
    queue.run(list(experiments.values()), more)
    measured = {
        (defense, variant, seed): measure(
            seed, experiments[defense, variant, seed]
        )
        for defense in defenses
        for variant in variants
        for seed in seeds
    }
    check_same(measured.values())
    first = next(iter(measured.values()))
    result = {
        **queue.records(list(experiments.values())),
        "title": "Heads in the same training, against the ordinary one",
        "reference": REFERENCE,
        **{key: first[key] for key in ("attack", "norm", "eps")},
        "images": len(first["identities"]),
        "rows": rows(measured, seeds),
    }
    study.write("compare-heads", study.short_name(usual, more), result)
