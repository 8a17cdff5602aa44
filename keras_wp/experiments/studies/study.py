"""What every study is told, and where its result is put."""

import dataclasses
import hashlib
import json
import pathlib

from keras_wp.experiments.options import option
from keras_wp.experiments.publish import results

_PRESETS = ("paper", "gpu", "cpu", "smoke")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Several experiments of one size."""

    preset: str = option("paper", "Size of the experiments.", _PRESETS)
    list: bool = option(False, "Show the experiments' commands only.")
    data_dir: str | None = option(None, "TFDS directory.")
    runs_dir: str = option("runs", "Where the experiments are kept.")
    output_dir: str = option("results", "Where the result is put.")
    name: str | None = option(
        None, "What to call the result; else by what it is of."
    )

    def require(self, name):
        """End the program if an option was not given that has no default."""
        if getattr(self, name) is None:
            (field,) = [f for f in dataclasses.fields(self) if f.name == name]
            known = ", ".join(field.metadata["choices"])
            raise SystemExit(f"--{name} must be given, one of {known}.")

    def write(self, kind, name, result):
        """Write a result: its JSON, its table, and its figure.

        Args:
            kind: The name of the study.
            name: What to call the result unless told otherwise.
            result: What JSON knows.

        Returns:
            Its folder.
        """
        folder = pathlib.Path(self.output_dir) / kind / (self.name or name)
        results.write(folder, result)
        return folder


# More than any attack has, so that what is called AutoAttack is the standard
# suite: the cpu preset would shorten it.
_WHOLE = {"max_attack_steps": 5000}
# What an experiment of a study is told besides its preset.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeated(Study):
    """A study that repeats one of the paper's experiments."""

    script: str = option(
        "mnist_small_cnn",
        "Experiment to repeat.",
        ("mnist_small_cnn", "cifar10_small_cnn", "cifar10_wrn"),
    )
    dataset: str | None = option(
        None, "Data set, if not that of the experiment."
    )
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

    def fields(self, **given):
        """What an experiment of the study is told besides its preset."""
        given = {**_SIZES.get((self.script, self.preset), {}), **given}
        if self.dataset:
            given["dataset"] = self.dataset
        return given

    def short_name(self, usual, more):
        """What to call the result: by its data, its size, and its choices.

        Args:
            usual: The study with what is chosen if nothing is given.
            more: Flags of the experiments that were given by hand.
        """
        parts = [self.script.replace("_small_cnn", ""), self.dataset]
        name = "-".join(part for part in (*parts, self.preset) if part)
        told = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _ELSEWHERE
        }
        chosen = {k: v for k, v in told.items() if v != getattr(usual, k)}
        if not chosen and not more:
            return name
        text = json.dumps([chosen, list(more)], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=2).hexdigest()
        return f"{name}-{digest}"


# What is in the name already, or changes nothing in the result.
_ELSEWHERE = (
    "script",
    "dataset",
    "preset",
    "list",
    "data_dir",
    "runs_dir",
    "output_dir",
    "name",
)
