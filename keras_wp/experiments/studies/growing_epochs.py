"""What more epochs make of the paper's defenses: the truth about saturation.

    python -m keras_wp.experiments growing-epochs --preset=cpu

trains the small network plainly, with the weight penalty on ReLU and on Tanh,
with the Max-Mahalanobis center loss and adversarially, and attacks each after
growing numbers of epochs: with the paper's attacks (the multi-target attack
with the right sign, and as the published script has it), with AutoAttack,
and with attacks that fit the model. Beside the accuracies it counts the units
of the Tanh that are exactly -1 or 1 in float32, so that no gradient passes
them, and the images on which PGD met no gradient at all.

It writes `results/growing-epochs/mnist-cpu`: JSON (shares from 0 to 1,
with each seed alone), a table and a figure.

A network is trained once, for the most epochs, and kept as it was after fewer:
no learning rate depends on what is to come, so these are what shorter runs end
with. `--preset=cpu` is on 2,000 digits with a network of half the width; by
estimate it takes an hour and a half on two cores, most of it for attacks.
`--preset=gpu` is the paper's 400 epochs, on 1,000 test images.

    --script=cifar10_small_cnn                        on CIFAR-10
    --seeds=0,1,2                                     the mean of three
    --methods=plain,wp-tanh --checkpoints=64,400      some, for longer
    --list                                            show the commands

What is finished is not run again. Flags after `--` go to the experiments.
"""

import dataclasses

import keras_wp as kwp
from keras_wp.experiments import options
from keras_wp.experiments.options import option
from keras_wp.experiments.studies import queue
from keras_wp.experiments.studies.paper import AT, MMC, ORDINARY, slug
from keras_wp.experiments.studies.study import Repeated


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowingEpochs(Repeated):
    """Methods, and after how many epochs to attack them."""

    script: str = option(
        "mnist_small_cnn",
        "Experiment to repeat.",
        ("mnist_small_cnn", "cifar10_small_cnn"),
    )
    methods: tuple[str, ...] = option(
        (),
        "Which: plain, wp-relu, wp-tanh, mmc, advtraining. All if empty.",
    )
    checkpoints: tuple[str, ...] = option(
        (), "After how many epochs to attack. Empty: the preset's."
    )

    def headings(self):
        """The headings of the methods that are asked for."""
        known = {_slug(method): method for method in METHODS}
        wrong = [name for name in self.methods if name not in known]
        if wrong:
            raise SystemExit(
                f"--methods must be of {', '.join(known)}. "
                f"Received: {','.join(wrong)}"
            )
        chosen = self.methods or known
        return [method for name, method in known.items() if name in chosen]

    def epochs(self):
        """After how many epochs to attack, from few to many."""
        if not self.checkpoints:
            return EPOCHS[self.preset]
        given = self.checkpoints
        if not all(text.isdecimal() and int(text) for text in given):
            raise SystemExit(
                "--checkpoints must be numbers of epochs, at least 1. "
                f"Received: {','.join(given)}"
            )
        return tuple(sorted({int(text) for text in given}))

    def attacks(self):
        """The attacks by heading, as `Config` names them."""
        named = ATTACKS[self.script]
        if self.preset != "cpu":
            return named
        return {heading: FEWER.get(a, a) for heading, a in named.items()}


METHODS = {
    "Plain": ORDINARY,
    "WP, ReLU": {"activation": "relu"},
    "WP, Tanh": {"activation": "tanh"},
    "MMC": MMC,
    "AdvTraining": AT,
}
EPOCHS = {
    "paper": (25, 50, 100, 200, 400),
    "gpu": (25, 50, 100, 200, 400),
    "cpu": (1, 4, 16, 64),
    "smoke": (1, 2),
}
# By heading, PGD first.
ATTACKS = {
    "mnist_small_cnn": {
        "PGD": "pgd40-paper",
        "DeepFool": "deepfool50",
        "C&W": "cw1000",
        "MTA": "mta200-paper",
        "MTA, as published": "mta200-paper-published",
        "AutoAttack": "autoattack",
    },
    "cifar10_small_cnn": {
        "PGD": "pgd20-paper",
        "DeepFool": "deepfool50",
        "C&W": "cw1000",
        "MTA": "mta100-paper",
        "MTA, as published": "mta100-paper-published",
        "AutoAttack": "autoattack",
    },
}
# For a processor, the longest with fewer iterations.
FEWER = {"cw1000": "cw100"}


def _slug(method):
    return slug(method.replace(",", ""))


def experiments(study, method, seed):
    """`{epochs: experiment}` of a method: one that trains, and its snapshots.

    The one that trains is the first.
    """
    *fewer, most = study.epochs()
    name = _slug(method)
    if study.checkpoints:
        # Another training than the preset's, with snapshots of its own.
        name += "-of-" + "-".join(map(str, study.epochs()))

    def experiment(epochs, **more):
        fields = study.fields(
            **METHODS[method],
            seed=seed,
            epochs=epochs,
            attacks=tuple(study.attacks().values()),
            adaptive=True,
            **more,
        )
        called = f"growing-{name}-{epochs}-seed{seed}"
        return queue.Experiment(study, called, study.script, fields)

    longest = experiment(most, snapshots=tuple(map(str, fewer)))
    found = {most: longest}
    for epochs in fewer:
        found[epochs] = experiment(epochs, snapshot_of=str(longest.folder))
    return found


def measure(study, seed, experiment):
    """What a run shows; shares from 0 to 1."""
    from keras_wp.experiments.studies.features import saturation

    report = kwp.Report.from_json(experiment.folder / "report.json")
    # The adaptive attacks come last.
    results = dict(zip(study.attacks(), report.results, strict=False))
    pgd = results["PGD"]
    geometry = report.geometry
    return {
        "seed": seed,
        "command": experiment.record()["command"],
        "images": len(report),
        "clean": report.clean_accuracy,
        "attacks": {
            heading: {
                "as_run": result.name,
                "norm": result.norm,
                "eps": result.eps,
                "accuracy": result.robust_accuracy,
                "zero_gradients": result.vanished_gradients,
            }
            for heading, result in results.items()
        },
        "worst_case": float(report.robust(pgd.norm, pgd.eps).mean()),
        "zero_gradients": pgd.vanished_gradients,
        "min_angle": None if geometry is None else float(geometry.pairs.min()),
        **saturation(experiment, len(report)),
    }


def mean(runs):
    """The means of what the runs show, by name; None where they have none."""
    flat = [
        {
            **{k: a["accuracy"] for k, a in run["attacks"].items()},
            **{k: run[k] for k in _SHOWN},
        }
        for run in runs
    ]
    return {
        key: None
        if any(run[key] is None for run in flat)
        else sum(run[key] for run in flat) / len(flat)
        for key in flat[0]
    }


_SHOWN = (
    "clean",
    "worst_case",
    "saturated",
    "nearly_saturated",
    "median_size",
    "zero_gradients",
    "min_angle",
)


def command(argv):
    """`growing-epochs`."""
    options.run(_main, GrowingEpochs(), argv)


def _main(usual, given, more):
    study = dataclasses.replace(usual, **given)
    # As they are called, whatever their order was.
    if study.methods:
        names = tuple(_slug(method) for method in study.headings())
        study = dataclasses.replace(study, methods=names)
    if study.checkpoints:
        epochs = tuple(map(str, study.epochs()))
        study = dataclasses.replace(study, checkpoints=epochs)
    seeds = study.numbers()
    found = {
        (method, seed): experiments(study, method, seed)
        for method in study.headings()
        for seed in seeds
    }
    every = [e for group in found.values() for e in group.values()]
    queue.run(every, more)
    rows = []
    for method in study.headings():
        for epochs in study.epochs():
            runs = [
                measure(study, seed, found[method, seed][epochs])
                for seed in seeds
            ]
            rows.append(
                {
                    "method": method,
                    "epochs": epochs,
                    "mean": mean(runs),
                    "runs": runs,
                }
            )
    first = rows[0]["runs"][0]
    result = {
        **queue.records(every),
        "title": "Accuracy under attacks, and saturation, by epochs",
        "attacks": {
            heading: {key: attack[key] for key in ("as_run", "norm", "eps")}
            for heading, attack in first["attacks"].items()
        },
        "norm": first["attacks"]["PGD"]["norm"],
        "eps": first["attacks"]["PGD"]["eps"],
        "images": first["images"],
        "rows": rows,
    }
    study.write("growing-epochs", study.short_name(usual, more), result)
