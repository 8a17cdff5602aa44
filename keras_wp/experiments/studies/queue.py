"""Experiments as studies run them, and what they leave.

Each is a process of its own, in a folder of its own: a command that can be
repeated by hand. One that is finished is not run again, and one that was
interrupted is continued.
"""

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys

from keras_wp.experiments import config, options
from keras_wp.experiments.publish import record

# Flags that a record tells of by other fields.
_TOLD = ("preset", "output_dir", "data_dir", "resume", "attacks", "adaptive")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment of a study.

    Attributes:
        study: The `Study`.
        name: What to call it, and its folder.
        script: Its name in `config.EXPERIMENTS`.
        fields: Fields of the `Config` that it changes.
    """

    study: object
    name: str
    script: str
    fields: dict

    @property
    def folder(self):
        """Where it runs."""
        name = f"{self.script}-{self.name}-{self.study.preset}"
        return pathlib.Path(self.study.runs_dir) / name

    @property
    def given(self):
        """What is given on its command line: `{field: value}`."""
        found = {"preset": self.study.preset, **self.fields}
        if self.study.data_dir:
            found["data_dir"] = self.study.data_dir
        return {**found, "output_dir": str(self.folder)}

    def command(self, more=()):
        """The command line; `more` are flags to add as they are."""
        module = ["python", "-m", "keras_wp.experiments", "train", self.script]
        return [*module, *options.as_flags(self.given), *more]

    def is_finished(self, more):
        """Whether it has run, with all that decides what it computes."""
        if not (self.folder / "record.json").exists():
            return False
        known = config.EXPERIMENTS[self.script]
        words = options.parse(known, self.command(more))
        wanted = config.resolve(known, **words).settings()
        earlier = self.read("settings.json")
        return all(
            earlier.get(name, getattr(known, name)) == value
            for name, value in wanted.items()
        )

    def read(self, name):
        return json.loads((self.folder / name).read_text())

    def history(self):
        """One record an epoch."""
        return self.read("history.json")

    def report(self):
        return self.read("report.json")

    def record(self):
        return self.read("record.json")


def run(experiments, more=()):
    """Run those experiments that are not finished yet, one after another.

    Args:
        experiments: A list of `Experiment`, of one study.
        more: Flags to add to each, such as `--distribute=mirrored`.
    """
    show_only = experiments[0].study.list
    for number, experiment in enumerate(experiments, start=1):
        command = experiment.command(more)
        print(f"[{number}/{len(experiments)}] {shlex.join(command)}")
        if show_only:
            continue
        if experiment.is_finished(more):
            print("Finished before.")
            continue
        sys.stdout.flush()
        if (experiment.folder / "settings.json").exists():
            command.append("--resume")
        result = subprocess.run([sys.executable, *command[1:]])
        if result.returncode:
            raise SystemExit(result.returncode)
    if show_only:
        raise SystemExit(0)


def records(experiments):
    """What a table or figure made of these depends on."""
    found = [experiment.record() for experiment in experiments]

    def shared(key):
        values = list(dict.fromkeys(json.dumps(r[key]) for r in found))
        values = [json.loads(value) for value in values]
        return values[0] if len(values) == 1 else values

    return {
        "command": record.command(),
        "preset": experiments[0].study.preset,
        **{
            key: shared(key)
            for key in ("commit", "versions", "device", "data", "seed")
        },
        # In any of the experiments.
        "preset_changes": list(
            dict.fromkeys(c for r in found for c in r.get("preset_changes", []))
        ),
        # On the command line of all of them.
        "flags": _shared_flags(experiments),
        "seconds": round(sum(sum(r["seconds"].values()) for r in found), 1),
        "experiments": [record["command"] for record in found],
    }


def _shared_flags(experiments):
    first, *others = [
        [f for f in shlex.split(e.record()["command"]) if f.startswith("--")]
        for e in experiments
    ]
    return [
        flag
        for flag in first
        if all(flag in other for other in others)
        and flag.lstrip("-").partition("=")[0] not in _TOLD
    ]
