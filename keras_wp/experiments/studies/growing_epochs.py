"""What more epochs make of the paper's defenses: the truth about saturation.

    python -m keras_wp.experiments growing-epochs --preset=cpu

trains the small network plainly, with the weight penalty on ReLU and on Tanh,
with the Max-Mahalanobis center loss and adversarially, and attacks each after
growing numbers of epochs: with the paper's attacks (the multi-target attack
with the right sign, and as the published script has it), with AutoAttack,
and with attacks that fit the model. Beside the accuracies it counts the units
of the Tanh that are exactly -1 or 1 in float32, so that no gradient passes
them, and the images on which PGD met no gradient at all.

A network is trained once, for the most epochs, and kept as it was after fewer:
no learning rate depends on what is to come, so these are what shorter runs end
with. `--preset=cpu` is on 2,000 digits with a network of half the width; by
estimate it takes an hour and a half on two cores, most of it for attacks.
`--preset=gpu` is the paper's 400 epochs, on 1,000 test images.
"""

import dataclasses

from keras_wp.experiments.options import one_of, option, place
from keras_wp.experiments.studies.study import Repeated, attacked, of_each
from keras_wp.experiments.studies.tables import METHODS as PAPER
from keras_wp.experiments.studies.tables import ORDINARY, slug

METHODS = {
    "Plain": ORDINARY,
    "WP, ReLU": {"activation": "relu"},
    "WP, Tanh": {"activation": "tanh"},
    "MMC": PAPER["MMC"],
    "AdvTraining": PAPER["AdvTraining"],
}
EPOCHS = {
    "paper": (25, 50, 100, 200, 400),
    "gpu": (25, 50, 100, 200, 400),
    "cpu": (1, 4, 16, 64),
    "smoke": (1, 2),
}
# PGD and MTA have the steps of the paper's tables on the data.
_STEPS = {"mnist_small_cnn": (40, 200), "cifar10_small_cnn": (20, 100)}
# What a run shows besides its attacks; shares from 0 to 1.
_SHOWN = (
    "clean",
    "worst_case",
    "saturated",
    "nearly_saturated",
    "median_size",
    "zero_gradients",
    "min_angle",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowingEpochs(Repeated):
    """Methods, and after how many epochs to attack them."""

    kind = "growing-epochs"
    script: str = place(
        "mnist_small_cnn", "Experiment to repeat.", tuple(_STEPS)
    )
    methods: tuple[str, ...] = option(
        (),
        "Which: plain, wp-relu, wp-tanh, mmc, advtraining. All if empty.",
    )
    checkpoints: tuple[str, ...] = option(
        (), "After how many epochs to attack. Empty: the preset's."
    )

    def checked(self):
        known = [_slug(method) for method in METHODS]
        one_of(known, methods=self.methods or known)
        given = self.checkpoints
        if not all(text.isdecimal() and int(text) for text in given):
            raise SystemExit(
                "--checkpoints must be numbers of epochs, at least 1. "
                f"Received: {','.join(given)}"
            )
        return dataclasses.replace(
            self,
            methods=tuple(name for name in known if name in self.methods),
            checkpoints=tuple(map(str, sorted({int(text) for text in given}))),
        )

    def headings(self):
        """The headings of the methods that are asked for."""
        chosen = self.methods
        return [m for m in METHODS if not chosen or _slug(m) in chosen]

    def epochs(self):
        """After how many epochs to attack, from few to many."""
        return tuple(map(int, self.checkpoints)) or EPOCHS[self.preset]

    def attacks(self):
        """The attacks by heading, as `Config` names them; PGD first."""
        pgd, mta = _STEPS[self.script]
        return {
            "PGD": f"pgd{pgd}",
            "DeepFool": "deepfool50",
            "C&W": "cw100" if self.preset == "cpu" else "cw1000",
            "MTA": f"mta{mta}",
            "MTA, as published": f"mta{mta}-published",
            "AutoAttack": "autoattack",
        }

    def experiments(self):
        return {
            (method, epochs, seed): experiment
            for method in self.headings()
            for seed in self.numbers()
            for epochs, experiment in self.grown(method, seed).items()
        }

    def grown(self, method, seed):
        """`{epochs: experiment}`: first the one that trains, its snapshots."""
        *fewer, most = self.epochs()
        name = _slug(method)
        if self.checkpoints:
            # Another training than the preset's, with snapshots of its own.
            name += "-of-" + "-".join(self.checkpoints)

        def experiment(epochs, **more):
            return self.repeated(
                f"growing-{name}-{epochs}-seed{seed}",
                **METHODS[method],
                seed=seed,
                epochs=epochs,
                attacks=tuple(self.attacks().values()),
                **more,
            )

        longest = experiment(most, snapshots=tuple(map(str, fewer)))
        source = str(longest.folder)
        shorter = {n: experiment(n, snapshot_of=source) for n in fewer}
        return {most: longest, **shorter}

    def result(self, runs):
        found, rows = of_each(runs), []
        for method in self.headings():
            for epochs in self.epochs():
                runs = [self.measure(run) for run in found[method, epochs]]
                row = {"method": method, "epochs": epochs, "mean": mean(runs)}
                rows.append({**row, "runs": runs})
        attacks = rows[0]["runs"][0]["attacks"]
        return {
            "title": "Accuracy under attacks, and saturation, by epochs",
            "attacks": {
                heading: {key: attack[key] for key in ("as_run", "norm", "eps")}
                for heading, attack in attacks.items()
            },
            "norm": attacks["PGD"]["norm"],
            "eps": attacks["PGD"]["eps"],
            "images": rows[0]["runs"][0]["images"],
            "rows": rows,
        }

    def measure(self, run):
        """What a run shows."""
        from keras_wp.experiments.studies.features import saturation

        report, geometry = run.report(), run.report().geometry
        attacks = attacked(report, self.attacks())
        pgd = attacks["PGD"]
        return {
            "seed": run.fields["seed"],
            "command": run.record()["command"],
            "images": len(report),
            "clean": report.clean_accuracy,
            "attacks": attacks,
            "worst_case": float(report.robust(pgd["norm"], pgd["eps"]).mean()),
            "zero_gradients": pgd["zero_gradients"],
            "min_angle": geometry and float(geometry.pairs.min()),
            **saturation(run, len(report)),
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


def _slug(method):
    return slug(method.replace(",", ""))
