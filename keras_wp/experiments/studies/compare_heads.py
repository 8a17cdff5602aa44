"""Is the robust head worth using? Heads in the same training against attacks.

    python -m keras_wp.experiments compare-heads --preset=cpu

trains the same network adversarially and with TRADES, with the ordinary head,
with the robust one and with that of MMC, on the same data for as long, three
times each, and attacks each on the same test images with AutoAttack and with
attacks that fit the model. An image counts if all of them fail on it. Every
head is compared with the ordinary one image by image and seed by seed; the
intervals of the differences know of both (`paired_seeds.py` has the formula).
"""

import dataclasses

from keras_wp.experiments import config, heads
from keras_wp.experiments.options import one_of, option
from keras_wp.experiments.studies.paired_seeds import compare
from keras_wp.experiments.studies.study import Repeated, of_each
from keras_wp.experiments.studies.tables import ORDINARY

# What the others are compared with.
REFERENCE = "plain"
VARIANTS = {
    REFERENCE: ORDINARY,
    "plain-tanh": {"head": "plain", "activation": "tanh"},
    "mmc": {"head": "mmc"},
    "hypersphere": {"head": "hypersphere", "activation": "relu"},
    "robust": {"head": "robust", "activation": "tanh"},
    "robust-relu": {"head": "robust", "activation": "relu"},
    "s-0.3": {"s": 0.3},
    "s-1": {"s": 1.0},
    "alpha-1": {"alpha": 1.0},
    "vertices-s-1": {"head": "vertices", "s": 1.0},
    **{name: {"head": name} for name in heads.VARIANTS},
}
# Sizes of this study, besides those of `study.py`.
_SIZES = {"cpu": {"train_images": 4000, "epochs": 8, "eval_images": 200}}
# Without augmentation the small network fits CIFAR-10 by heart.
_AUGMENTED = {"cifar10_small_cnn": {"augment": True}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareHeads(Repeated):
    """Trainings and heads."""

    kind = "compare-heads"
    seeds: tuple[str, ...] = option(("0", "1", "2"), "Repeat with each.")
    defenses: tuple[str, ...] = option(
        ("at", "trades"), f"Trainings: {', '.join(config.DEFENSES)}."
    )
    variants: tuple[str, ...] = option(
        ("plain", "robust", "mmc"), f"Heads: {', '.join(VARIANTS)}; or all."
    )

    def heads(self):
        """The heads that are asked for, the ordinary first."""
        variants, defenses = self.variants, self.defenses
        if variants == ("all",):
            mmc = "mart" not in defenses
            variants = [v for v in VARIANTS if mmc or v != "mmc"]
        one_of(config.DEFENSES, defenses=defenses)
        one_of(VARIANTS, variants=variants)
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
        return dict.fromkeys([REFERENCE, *variants])

    def experiments(self):
        # One seed of all first: an interruption leaves something to compare.
        return {
            (defense, variant, seed): self.repeated(
                f"heads-{defense}-{variant}-seed{seed}",
                **_SIZES.get(self.preset, {}),
                **_AUGMENTED.get(self.script, {}),
                **VARIANTS[variant],
                defense=defense,
                seed=seed,
                attacks=("autoattack",),
            )
            for seed in self.numbers()
            for defense in self.defenses
            for variant in self.heads()
        }

    def result(self, runs):
        measured = {key: measure(run) for key, run in runs.items()}
        first, *others = measured.values()
        same = ("attack", "norm", "eps", "identities")
        if any(run[key] != first[key] for run in others for key in same):
            raise SystemExit(
                "The runs must have been attacked on the same images, in the "
                "same way. Received: runs that differ"
            )
        return {
            "title": "Heads in the same training, against the ordinary one",
            "reference": REFERENCE,
            **{key: first[key] for key in same[:-1]},
            "images": len(first["identities"]),
            "rows": rows(of_each(measured)),
        }


def measure(run):
    """The outcomes of a run: for each condition, which images are right."""
    report = run.report()
    suite = report.results[0]
    return {
        "seed": run.fields["seed"],
        "command": run.record()["command"],
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


def rows(measured):
    """A row for each training and head, of `{(training, head): runs}`."""
    found = []
    for (defense, variant), runs in measured.items():
        ours, ordinary = (
            {
                name: [run["outcomes"][name] for run in measured[defense, head]]
                for name in runs[0]["outcomes"]
            }
            for head in (variant, REFERENCE)
        )
        row = {"defense": defense, "variant": variant}
        row["accuracy"] = {
            name: [float(right.mean()) for right in by_seed]
            for name, by_seed in ours.items()
        }
        if variant != REFERENCE:
            row["against"] = {
                name: compare(ordinary[name], ours[name]) for name in ours
            }
        row["runs"] = [as_text(**run) for run in runs]
        found.append(row)
    return found


def as_text(identities, outcomes, **run):
    """A run as JSON knows it: a digit for each image."""
    digits = {
        name: "".join("01"[right] for right in outcome.astype(int))
        for name, outcome in outcomes.items()
    }
    return {**run, "outcomes": digits}
