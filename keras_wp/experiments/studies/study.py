"""What every study is: flags, experiments, and a result made of them.

A study is a `Study` with fields of its own, which are its flags. It says what
it trains, and what that shows. How this is printed and drawn, from its JSON
alone, is said in `publish/`.

Each experiment is a process of its own, in a folder of its own: a command that
can be repeated by hand. One that is finished is not run again, and one that was
interrupted is continued.
"""

import dataclasses
import hashlib
import json
import pathlib
import shlex
import subprocess
import sys
from typing import ClassVar

import keras_wp as kwp
from keras_wp.experiments import config, options
from keras_wp.experiments.options import option, place
from keras_wp.experiments.publish import record, results
from keras_wp.experiments.run import differences

PRESETS = tuple(config.PRESETS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Several experiments of one size.

    `kind` is the folder of its results, and the name of its command. Besides
    the methods here it has `experiments()`, `{key: Experiment}` in the order to
    run them; `result(runs)`, what JSON is to know of them when all are
    finished; and `short_name(more)`, what to call that, with the flags that
    were given to the experiments by hand.
    """

    kind: ClassVar[str]
    preset: str = place("paper", "Size of the experiments.", PRESETS)
    list: bool = place(False, "Show the experiments' commands only.")
    data_dir: str | None = place(None, "TFDS directory.")
    runs_dir: str = place("runs", "Where the experiments are kept.")
    output_dir: str = place("results", "Where the result is put.")
    name: str | None = place(None, "Of the result; else by what it is of.")

    @classmethod
    def command(cls, argv):
        """Run the study that a command line describes."""
        options.run(_main, cls(), argv)

    def checked(self):
        """The same, once its options are known to be right, in one order."""
        return self

    def experiment(self, name, script, **fields):
        """One of its experiments."""
        return Experiment(self, name, script, fields)


def _main(study, given, more):
    study = dataclasses.replace(study, **given).checked()
    runs = study.experiments()
    for number, run in enumerate(runs.values(), start=1):
        print(f"[{number}/{len(runs)}] {shlex.join(run.command(more))}")
        if not study.list:
            run.finish(more)
    if study.list:
        return
    result = {**depends_on(study, [*runs.values()]), **study.result(runs)}
    name = study.name or study.short_name(more)
    folder = pathlib.Path(study.output_dir) / study.kind / name
    results.write(folder, result)
    if (table := folder / results.TABLE).exists():
        print(f"\n{table.read_text()}")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment of a study: a `script` with some `fields` changed."""

    study: Study
    name: str
    script: str
    fields: dict

    @property
    def folder(self):
        """Where it runs."""
        name = f"{self.script}-{self.name}-{self.study.preset}"
        return pathlib.Path(self.study.runs_dir) / name

    def command(self, more=()):
        """The command line; `more` are flags to add as they are."""
        given = {"preset": self.study.preset, **self.fields}
        if self.study.data_dir:
            given["data_dir"] = self.study.data_dir
        given["output_dir"] = str(self.folder)
        module = ["python", "-m", "keras_wp.experiments", "train", self.script]
        return [*module, *options.as_flags(given), *more]

    def finish(self, more):
        """Run it, unless it is finished with all that decides its result."""
        _, *command = self.command(more)
        if (self.folder / "record.json").exists():
            known = config.EXPERIMENTS[self.script]
            words = options.parse(known, command)
            wanted = config.resolve(known, **words).settings()
            if not differences(self.read("settings.json"), wanted):
                print("Finished before.")
                return
        sys.stdout.flush()
        if (self.folder / "settings.json").exists():
            command.append("--resume")
        result = subprocess.run([sys.executable, *command])
        if result.returncode:
            raise SystemExit(result.returncode)

    def read(self, name):
        return json.loads((self.folder / name).read_text())

    def record(self):
        return self.read("record.json")

    def report(self):
        return kwp.Report.from_json(self.folder / "report.json")


# Flags that a record tells of by other fields.
_TOLD = ("preset", "output_dir", "data_dir", "resume", "attacks", "adaptive")


def depends_on(study, experiments):
    """What a table or figure made of these experiments depends on."""
    found = [experiment.record() for experiment in experiments]

    def shared(key):
        values = _distinct(r[key] for r in found)
        return values[0] if len(values) == 1 else values

    first, *others = [shlex.split(r["command"]) for r in found]
    keys = ("commit", "versions", "device", "data", "seed")
    return {
        "command": record.command(),
        "preset": study.preset,
        **{key: shared(key) for key in keys},
        # In any of the experiments.
        "preset_changes": _distinct(
            change for r in found for change in r.get("preset_changes", [])
        ),
        # On the command line of all of them.
        "flags": [
            word
            for word in first
            if word.startswith("--")
            and all(word in other for other in others)
            and word.lstrip("-").partition("=")[0] not in _TOLD
        ],
        "seconds": round(sum(sum(r["seconds"].values()) for r in found), 1),
        "experiments": [r["command"] for r in found],
    }


def _distinct(values):
    """Each of some values that JSON knows once, in their order."""
    return [*map(json.loads, dict.fromkeys(map(json.dumps, values)))]


def attacked(report, headings, unit=1):
    """What is left after each attack, at the largest of its budgets.

    `headings` are those of the report's attacks; `unit` is 100 for percent.
    """
    # The largest budget of a name is the last.
    results = {r.name: r for r in report.results if r.name != "adaptive"}
    return {
        heading: {
            "as_run": r.name,
            "norm": r.norm,
            "eps": r.eps,
            "accuracy": unit * r.robust_accuracy,
            "interval": [unit * limit for limit in r.confidence_interval],
            "zero_gradients": unit * r.vanished_gradients,
        }
        for heading, r in zip(headings, results.values(), strict=True)
    }


# More than any attack has, so that what is called AutoAttack is the standard
# suite: the cpu preset would shorten it.
_WHOLE = {"max_attack_steps": 5000}
# What an experiment is told besides its preset when a study repeats it.
_SIZES = {
    ("mnist_small_cnn", "paper"): {"eps": ("0.3",), "eval_images": 0},
    ("mnist_small_cnn", "gpu"): {"eps": ("0.3",)},
    # Few epochs do not resist 0.3.
    ("mnist_small_cnn", "cpu"): {"eps": ("0.1",), "narrow": 2, **_WHOLE},
    ("mnist_small_cnn", "smoke"): {"eps": ("0.1",), "narrow": 4},
    ("cifar10_small_cnn", "cpu"): {"narrow": 4, **_WHOLE},
    ("cifar10_small_cnn", "smoke"): {"narrow": 4},
    ("cifar10_wrn", "cpu"): _WHOLE,
    ("cifar10_wrn", "smoke"): {"depth": 10, "width": 1},
}


_SCRIPTS = tuple(dict.fromkeys(script for script, _ in _SIZES))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeated(Study):
    """A study that repeats one of the paper's experiments, by seeds.

    The last part of a key of its experiments is the seed.
    """

    script: str = place("mnist_small_cnn", "Experiment to repeat.", _SCRIPTS)
    dataset: str | None = place(None, "Data set, if not the experiment's.")
    seeds: tuple[str, ...] = option(("0",), "Repeat with each of these seeds.")

    def numbers(self):
        """The seeds as numbers."""
        try:
            found = [int(seed) for seed in self.seeds]
        except ValueError:
            found = []
        if not found or len(set(found)) < len(found):
            raise SystemExit(
                "--seeds must be one integer or several different ones. "
                f"Received: {','.join(self.seeds) or 'none'}"
            )
        return found

    def repeated(self, name, **fields):
        """One of its experiments, attacked by attacks that fit it, too."""
        fields = {**_SIZES.get((self.script, self.preset), {}), **fields}
        if self.dataset:
            fields["dataset"] = self.dataset
        return self.experiment(name, self.script, **fields, adaptive=True)

    def short_name(self, more):
        """By its data, its size, and a digest of other choices."""
        parts = [self.script.replace("_small_cnn", ""), self.dataset]
        name = "-".join(part for part in (*parts, self.preset) if part)
        usual, own = type(self)(), options.of_role(self, None)
        chosen = {k: getattr(self, k) for k in own}
        chosen = {k: v for k, v in chosen.items() if v != getattr(usual, k)}
        if not chosen and not more:
            return name
        text = json.dumps([chosen, [*more]], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=2).hexdigest()
        return f"{name}-{digest}"


def of_each(runs):
    """`{what: runs}` of a `Repeated`: the seeds of each thing together."""
    found = {}
    for (*what, _), run in runs.items():
        found.setdefault(tuple(what), []).append(run)
    return found
