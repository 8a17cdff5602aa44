"""What a number depends on: command, commit, versions, device, data."""

import os
import pathlib
import platform
import shlex
import subprocess
import sys

import keras

_HERE = pathlib.Path(__file__).parent
# TensorFlow Datasets keeps the pixels of these as they are; a copy may not.
_LOSSLESS = ("mnist", "cifar10", "cifar100")


def process():
    """What a number depends on besides data and seed."""
    return {
        "command": command(),
        "commit": commit(),
        "versions": versions(),
        "device": device(),
    }


def command():
    """The command line of this process, as typed in the repository's root."""
    name, *arguments = sys.argv
    name = "/".join(pathlib.Path(name).resolve().parts[-2:])
    # A module that was run with -m has its file for a name.
    if "-m" in sys.orig_argv:
        name, *arguments = sys.orig_argv[sys.orig_argv.index("-m") :]
    return shlex.join(["python", name, *arguments])


def _checked_out():
    try:
        name = _git("rev-parse", "--short", "HEAD")
        # Records are what runs leave, and change nothing of what runs.
        paths = ("--", ":(top,exclude)results")
        changed = _git("diff", "HEAD", "--name-only", "--no-relative", *paths)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def _git(*arguments):
    return subprocess.check_output(
        ["git", *arguments], text=True, cwd=_HERE, stderr=subprocess.DEVNULL
    ).strip()


# What runs is what was loaded, whatever is committed before it ends.
_LOADED = _checked_out()


def commit():
    """The commit of this copy when this module was loaded, or "unknown"."""
    return _LOADED


def versions():
    """Of Python, and of what computes, by name."""
    names = ["keras_wp", "keras", keras.backend.backend(), "numpy"]
    found = {name: sys.modules[name].__version__ for name in names}
    return {**found, "python": platform.python_version()}


def data(name, data_dir=None):
    """The data set's name, and whether it is a copy with other pixels."""
    if name not in _LOSSLESS:
        return name
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    (example,) = builder.as_dataset(
        split="test", decoders={"image": tfds.decode.SkipDecoding()}
    ).take(1)
    lossy = example["image"].numpy().startswith(b"\xff\xd8\xff")
    return f"{name} (JPEG copy)" if lossy else name


def device():
    """The accelerators, or the processor's kind and how many cores of it."""
    if keras.backend.backend() == "jax":
        import jax

        names = [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    else:
        import tensorflow as tf

        names = [
            tf.config.experimental.get_device_details(gpu).get("device_name")
            for gpu in tf.config.list_physical_devices("GPU")
        ]
    if names:
        return f"{len(names)} x {names[0]}"
    # Those that this process may use, where the system knows.
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count()
    return f"{platform.machine()} CPU, cores: {cores}"
