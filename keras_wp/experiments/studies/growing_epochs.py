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
with.
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
_SLUGS = {slug(method.replace(",", "")): method for method in METHODS}
_EPOCHS = {"cpu": (1, 4, 16, 64), "smoke": (1, 2)}
_REAL_EPOCHS = (25, 50, 100, 200, 400)
# PGD and MTA have the steps of the paper's tables on the data.
_STEPS = {"mnist_small_cnn": (40, 200), "cifar10_small_cnn": (20, 100)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowingEpochs(Repeated):
    """Methods, and after how many epochs to attack them."""

    kind = "growing-epochs"
    script: str = place("mnist_small_cnn", "Experiment.", tuple(_STEPS))
    methods: tuple[str, ...] = option(
        (), f"Which: {', '.join(_SLUGS)}. All if empty."
    )
    checkpoints: tuple[str, ...] = option(
        (), "After how many epochs to attack. Empty: the preset's."
    )

    def checked(self):
        one_of(_SLUGS, methods=self.methods or _SLUGS)
        epochs = self.checkpoints
        if not all(text.isdecimal() and int(text) for text in epochs):
            raise SystemExit(
                "--checkpoints must be numbers of epochs, at least 1. "
                f"Received: {','.join(epochs)}"
            )
        methods = tuple(name for name in _SLUGS if name in self.methods)
        epochs = tuple(map(str, sorted(set(map(int, epochs)))))
        return dataclasses.replace(self, methods=methods, checkpoints=epochs)

    def epochs(self):
        """After how many epochs to attack, from few to many."""
        usual = _EPOCHS.get(self.preset, _REAL_EPOCHS)
        return tuple(map(int, self.checkpoints)) or usual

    def attacks(self):
        """The attacks by heading, as `Config` names them; PGD first."""
        pgd, mta = _STEPS[self.script]
        return {
            "PGD": f"pgd{pgd}-paper",
            "DeepFool": "deepfool50",
            "C&W": "cw100" if self.preset == "cpu" else "cw1000",
            "MTA": f"mta{mta}-paper",
            "MTA, as published": f"mta{mta}-paper-published",
            "AutoAttack": "autoattack",
        }

    def experiments(self):
        return {
            (_SLUGS[name], epochs, seed): run
            for name in self.methods or _SLUGS
            for seed in self.numbers()
            for epochs, run in self.grown(name, seed).items()
        }

    def grown(self, name, seed):
        """`{epochs: experiment}`: the one that trains, then its snapshots."""
        *fewer, most = self.epochs()
        method = METHODS[_SLUGS[name]]
        if self.checkpoints:
            # Another training than the preset's, with snapshots of its own.
            name += "-of-" + "-".join(self.checkpoints)

        def experiment(epochs, **more):
            return self.repeated(
                f"growing-{name}-{epochs}-seed{seed}",
                **method,
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
        for method in dict.fromkeys(method for method, _ in found):
            for epochs in self.epochs():
                runs = [self.measure(run) for run in found[method, epochs]]
                row = {"method": method, "epochs": epochs, "mean": mean(runs)}
                rows.append({**row, "runs": runs})
        run = rows[0]["runs"][0]
        attacks = {
            heading: {key: attack[key] for key in ("as_run", "norm", "eps")}
            for heading, attack in run["attacks"].items()
        }
        return {
            "title": "Accuracy under attacks, and saturation, by epochs",
            "attacks": attacks,
            "norm": attacks["PGD"]["norm"],
            "eps": attacks["PGD"]["eps"],
            "images": run["images"],
            "rows": rows,
        }

    def measure(self, run):
        """What a run shows; shares from 0 to 1."""
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
    other = ("seed", "command", "images", "attacks")
    shown = [
        {name: attack["accuracy"] for name, attack in run["attacks"].items()}
        | {name: value for name, value in run.items() if name not in other}
        for run in runs
    ]
    by_name = {name: [one[name] for one in shown] for name in shown[0]}
    return {
        name: None if None in values else sum(values) / len(values)
        for name, values in by_name.items()
    }
