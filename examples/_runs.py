"""Experiments as scripts of several run them, and what they leave.

Each is a script of this folder in a process of its own, in a folder of its
own: a command that can be repeated by hand. One that is finished is not run
again, and one that was interrupted goes on.
"""

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys

import _record
from absl import flags

FLAGS = flags.FLAGS
_HERE = pathlib.Path(__file__).parent
# Flags that a record tells of by other fields.
_TOLD = ("preset", "output_dir", "data_dir", "resume", "attacks", "adaptive")


def define_flags():
    """The flags of every script that runs several."""
    flags.DEFINE_enum(
        "preset",
        "paper",
        ["paper", "gpu", "cpu", "smoke"],
        "Size of the experiments.",
    )
    flags.DEFINE_bool("list", False, "Show the experiments' commands only.")
    flags.DEFINE_string("data_dir", None, "TFDS directory.")
    flags.DEFINE_string("runs_dir", "runs", "Where the experiments are kept.")
    flags.DEFINE_string("output_dir", "results", "Where the result is put.")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A script, and the flags it is run with.

    Attributes:
        name: What to call it, and its folder.
        script: File name of the script, without `.py`.
        flags: Flags besides those that all have.
    """

    name: str
    script: str
    flags: dict

    @property
    def folder(self):
        name = f"{self.script}-{self.name}-{FLAGS.preset}"
        return pathlib.Path(FLAGS.runs_dir) / name

    def command(self, more=()):
        """The command line; `more` are flags to add as they are."""
        given = {"preset": FLAGS.preset, **self.flags}
        if FLAGS.data_dir:
            given["data_dir"] = FLAGS.data_dir
        given["output_dir"] = self.folder
        given = [f"--{name}={_text(value)}" for name, value in given.items()]
        return ["python", f"{_HERE.name}/{self.script}.py", *given, *more]

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
        experiments: A list of `Experiment`.
        more: Flags to add to each, such as `--distribute=mirrored`.
    """
    for number, experiment in enumerate(experiments, start=1):
        command = experiment.command(more)
        print(f"[{number}/{len(experiments)}] {shlex.join(command)}")
        if FLAGS.list:
            continue
        if _is_finished(experiment, command):
            print("Finished before.")
            continue
        sys.stdout.flush()
        if (experiment.folder / "settings.json").exists():
            command.append("--resume")
        script = _HERE.parent / command[1]
        result = subprocess.run([sys.executable, script, *command[2:]])
        if result.returncode:
            raise SystemExit(result.returncode)
    if FLAGS.list:
        raise SystemExit(0)


def _is_finished(experiment, command):
    if not (experiment.folder / "record.json").exists():
        return False
    earlier = shlex.split(experiment.record()["command"])
    return earlier in (command, [*command, "--resume"])


def _text(value):
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def records(experiments):
    """What a table or figure made of these depends on."""
    found = [experiment.record() for experiment in experiments]

    def shared(key):
        values = list(dict.fromkeys(json.dumps(r[key]) for r in found))
        values = [json.loads(value) for value in values]
        return values[0] if len(values) == 1 else values

    return {
        "command": _record.command(),
        "preset": FLAGS.preset,
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
        shlex.split(experiment.record()["command"])[2:]
        for experiment in experiments
    ]
    return [
        flag
        for flag in first
        if all(flag in other for other in others)
        and flag.lstrip("-").partition("=")[0] not in _TOLD
    ]
