"""Studies as tests run them, and what their experiments might leave."""

import json
import shlex

from processes import LIMIT, ROOT, run_python

from keras_wp.experiments import config, options


def run_experiments(command, *flags, timeout=LIMIT, **variables):
    """Run `python -m keras_wp.experiments` to its end, in a process."""
    module = "-m", "keras_wp.experiments", command
    return run_python(*module, *flags, timeout=timeout, **variables)


def flags_of(command):
    """The flags of a command line that was split into words."""
    words = [word for word in command if word.startswith("--")]
    return dict(word.lstrip("-").split("=", 1) for word in words)


def settings_of(command):
    """What `settings.json` holds of a run of this command of a study."""
    experiment = config.EXPERIMENTS[command[command.index("train") + 1]]
    given = options.parse(experiment, command)
    return config.resolve(experiment, **given).settings()


def listed(study, *flags):
    """The commands that a study consists of, split into words."""
    if "--list" not in flags:
        flags = "--list", *flags
    result = run_experiments(study, *flags)
    assert (result.returncode, result.stderr) == (0, "")
    return [shlex.split(line)[1:] for line in result.stdout.splitlines()]


def leave(command, record, **files):
    """Write what a run of this command leaves: JSON by the file's name."""
    folder = ROOT / flags_of(command)["output_dir"]
    folder.mkdir(parents=True, exist_ok=True)
    files["record"] = {**record, "command": shlex.join(command)}
    files["settings"] = settings_of(command)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder
