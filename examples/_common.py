"""What the experiments share: a run's folder, its beginning and its end.

An experiment declares its flags with `_flags.define`, calls `start`, trains
with `_training.train` and ends with `evaluate`. A run lives in a folder:

    settings.json            the flags it was started with
    checkpoint.weights.h5    the state after the last whole epoch
    history.json             one record an epoch
    snapshots/               the model after --snapshots
    model.keras              the trained model
    saved_model/             the same for TensorFlow Serving
    evaluation/              verdicts as they come
    report.html              the result, to read
    report.json, report.md   the same, to compute with and to paste
    record.json              what the result depends on
"""

import dataclasses
import itertools
import json
import os
import pathlib
import sys

import _attacks
import _devices
import _flags
import _heads
import _quiet
import _record
import keras
import numpy as np
from absl import flags

import keras_wp as kwp
from keras_wp.models.small_cnn import (
    COLOR_DENSE,
    COLOR_WIDTHS,
    GREY_DENSE,
    GREY_WIDTHS,
)

FLAGS = flags.FLAGS

_STATE = (
    "settings.json",
    "checkpoint.weights.h5",
    "history.json",
    "snapshots",
    "model.keras",
    "saved_model",
    "evaluation",
    "report.html",
    "report.json",
    "report.md",
    "record.json",
)
# The small network's convolutions, and its dense layers.
_SIZES = {
    "mnist": (GREY_WIDTHS, GREY_DENSE),
    "cifar10": (COLOR_WIDTHS, COLOR_DENSE),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, the devices that train, and the number of classes."""

    folder: pathlib.Path
    devices: _devices.Devices
    num_classes: int

    def path(self, name):
        return self.folder / name

    def read(self, name):
        return json.loads(self.path(name).read_text())


def start(argv):
    """Set seeds and devices, load the data, prepare the run's folder.

    Args:
        argv: The script's name, and what was left of its command line.

    Returns:
        `(run, (x_train, y_train), (x_test, y_test))`.
    """
    if argv[1:]:
        raise SystemExit(f"Flags begin with `--`. Received: {argv[1]}")
    _flags.apply_preset()
    _flags.check()
    _attacks.eps()
    devices = _devices.set_up()
    keras.config.set_dtype_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    train, test = _load_data()
    # What they do not know ends the run now, not after the training.
    _attacks.named(train[0])
    # Of all the data: a few images may lack a class.
    num_classes = int(train[1].max()) + 1
    train = tuple(array[: FLAGS.train_images] for array in train)
    test = tuple(array[: FLAGS.test_images] for array in test)
    run = Run(pathlib.Path(FLAGS.output_dir), devices, num_classes)
    settings = {
        **_flags.settings(),
        "backend": keras.backend.backend(),
        "data": _record.data(FLAGS.dataset, FLAGS.data_dir),
    }
    _prepare_folder(run, settings)
    devices.wait()
    return run, train, test


def _load_data():
    try:
        return kwp.datasets.load(FLAGS.dataset, FLAGS.data_dir)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None


def _prepare_folder(run, settings):
    path = run.path("settings.json")
    if FLAGS.resume and path.exists():
        if changed := differences(run.read("settings.json"), settings):
            raise SystemExit(
                f"The run in {run.folder} was started with other settings: "
                f"{changed}. Repeat them to resume it, or leave "
                "out --resume to start afresh."
            )
        return
    if FLAGS.resume:
        print(f"There is no run to resume in {run.folder}: starting afresh.")
    if not run.devices.writes:
        return
    old = [run.path(name) for name in _STATE if run.path(name).exists()]
    if any(item != path for item in old):
        kept = _unused(run.folder)
        print(
            f"Starting afresh: the earlier run in {run.folder} is moved to "
            f"{kept} (--resume would have gone on with it)."
        )
        kept.mkdir()
        for item in old:
            item.rename(kept / item.name)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _unused(folder):
    """The first of `earlier-1`, `earlier-2`, ... that is not in a folder."""
    names = (folder / f"earlier-{n}" for n in itertools.count(1))
    return next(path for path in names if not path.exists())


def differences(earlier, settings):
    """In which settings an earlier run differs, as flags; or nothing."""
    return ", ".join(
        f"--{name}={earlier.get(name)} (now {value})"
        for name, value in settings.items()
        if earlier.get(name) != value
    )


def write_whole(path, write):
    """Write a file whole or not at all, whenever the process is killed."""
    # The suffixes stay, because Keras tells formats by them.
    partial = path.with_name(f"partial-{path.name}")
    write(partial)
    os.replace(partial, path)


def write_json(path, value):
    text = json.dumps(value, indent=1) + "\n"
    write_whole(path, lambda to: to.write_text(text, encoding="utf-8"))


def network_arguments(run, images):
    """What every network of `keras_wp.models` takes, from data and flags."""
    return {
        "input_shape": images.shape[1:],
        "num_classes": run.num_classes,
        "head": FLAGS.head,
        "activation": FLAGS.activation,
        "s": FLAGS.s,
        "alpha": FLAGS.alpha,
        "mean": images.mean(axis=(0, 1, 2), dtype=np.float64),
        "std": images.std(axis=(0, 1, 2), dtype=np.float64),
    }


def small_cnn(run, images):
    """The small network for these images, `--narrow` times narrower."""
    widths, dense = _SIZES[_attacks.budgets(images)]
    return _heads.build(
        kwp.models.small_cnn,
        widths=[width // FLAGS.narrow for width in widths],
        dense=[width // FLAGS.narrow for width in dense],
        **network_arguments(run, images),
    )


def evaluate(run, model, test):
    """Attack a model, show the result, and write it and the exported model."""
    count = FLAGS.eval_images or len(test[0])
    data = tuple(array[:count] for array in test)
    source = run.read("settings.json")["data"]
    print(f"\nAttacking {len(data[0])} test images.")
    report = kwp.evaluate(
        model,
        data,
        attacks=_attacks.named(data[0]),
        eps=_attacks.eps(),
        seed=FLAGS.seed,
        adaptive=FLAGS.adaptive,
        resume_dir=run.path("evaluation"),
        progress=sys.stdout.isatty(),
    )
    print(report)
    report = dataclasses.replace(
        report,
        environment={
            **report.environment,
            "dataset": f"{source}, test, {len(report)} images",
            "command": _record.command(),
        },
    )
    report.to_html(run.path("report.html"))
    report.to_json(run.path("report.json"))
    run.path("report.md").write_text(report.to_markdown())
    with _quiet.stderr():
        model.export(run.path("saved_model"), verbose=False)
    write_json(run.path("record.json"), _dependencies(run, report, source))
    names = "model.keras, saved_model and report.html, .json and .md"
    print(f"\nWritten to {run.folder}: {names}")
    return report


def _dependencies(run, report, source):
    # A snapshot has cost nothing: its run counts the epochs.
    trained = [] if FLAGS.snapshot_of else run.read("history.json")
    return {
        "command": _record.command(),
        "commit": _record.commit(),
        "versions": _record.versions(),
        "device": _record.device(),
        "data": source,
        "preset_changes": _flags.preset_changes(),
        "seed": FLAGS.seed,
        "seconds": {
            "training": sum(epoch["seconds"] for epoch in trained),
            "evaluation": sum(result.seconds for result in report.results),
        },
    }
