"""A run of an experiment: its folder, its beginning and its end."""

import dataclasses
import functools
import itertools
import json
import pathlib
import sys

import keras
import numpy as np

import keras_wp as kwp
from keras_wp import _startup
from keras_wp._files import write_json
from keras_wp.cli import files
from keras_wp.experiments import attacks, config, devices, heads, options
from keras_wp.experiments.publish import record
from keras_wp.models.small_cnn import sizes

# What a run leaves in its folder.
_STATE = (
    "settings.json",  # what it was started with
    "checkpoint.weights.h5",  # the state after the last whole epoch
    "history.json",  # one record per epoch
    "snapshots",  # the model after --snapshots
    "model.keras",  # the trained model
    "saved_model",  # the same for TensorFlow Serving
    "evaluation",  # verdicts as they come
    "report.html",  # the result, to read
    "report.json",  # the same, to compute with
    "report.md",  # the same, to paste
    "record.json",  # what the result depends on
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: what it was asked for, its folder, and the devices that train."""

    config: config.Config
    folder: pathlib.Path
    devices: devices.Devices
    num_classes: int
    preset_changes: list

    def path(self, name):
        return self.folder / name

    def read(self, name):
        return json.loads(self.path(name).read_text())


def start(experiment, given):
    """Set seeds and devices, load the data, prepare the run's folder.

    Returns `(run, (x_train, y_train), (x_test, y_test))`.
    """
    chosen = config.resolve(experiment, **given)
    changes = config.preset_changes(experiment, chosen.preset, given)
    changes = options.as_flags(changes)
    if changes:
        print(f"--preset={chosen.preset} stands for {' '.join(changes)}")
    _check(chosen)
    shared = devices.set_up(chosen)
    keras.config.set_dtype_policy(chosen.precision)
    keras.utils.set_random_seed(chosen.seed)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    try:
        train, test = kwp.datasets.load(chosen.dataset, chosen.data_dir)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    # What they do not know ends the run now, not after the training.
    attacks.named(chosen, train[0])
    # Of all the data: a few images may lack a class.
    num_classes = int(train[1].max()) + 1
    folder = pathlib.Path(chosen.output_dir)
    run = Run(chosen, folder, shared, num_classes, changes)
    data = record.data(chosen.dataset, chosen.data_dir)
    _prepare_folder(
        run, {**chosen.settings(), "backend": backend, "data": data}
    )
    shared.wait()
    train = first(chosen.train_images, train)
    return run, train, first(chosen.test_images, test)


def first(count, data):
    """The first so many of arrays; 0 and None are for all."""
    return tuple(array[: count or None] for array in data)


def _check(chosen):
    """End the run if values do not go together."""
    attacks.eps(chosen)
    if chosen.defense == "mart" and chosen.head == "mmc":
        raise SystemExit(
            "--defense=mart has a loss of its own, and cannot train "
            "--head=mmc with the Max-Mahalanobis center loss: use "
            "--defense=at or trades."
        )
    if not all(epoch.isdecimal() for epoch in chosen.snapshots):
        given = ",".join(chosen.snapshots)
        raise SystemExit(
            f"--snapshots must be numbers of epochs. Received: {given}"
        )


def _prepare_folder(run, settings):
    folder, path = run.folder, run.path("settings.json")
    if run.config.resume and path.exists():
        if changed := differences(run.read("settings.json"), settings):
            raise SystemExit(
                f"The run in {folder} was started with other settings: "
                f"{changed}. Repeat them to resume it, or leave out --resume "
                "to start afresh."
            )
        return
    if run.config.resume:
        print(f"There is no run to resume in {folder}: starting afresh.")
    if not run.devices.writes:
        return
    old = [folder / name for name in _STATE if (folder / name).exists()]
    if old not in ([], [path]):
        kept = (folder / f"earlier-{n}" for n in itertools.count(1))
        kept = next(path for path in kept if not path.exists())
        print(
            f"Starting afresh: the earlier run in {folder} is moved to "
            f"{kept} (--resume would have continued it)."
        )
        kept.mkdir()
        for item in old:
            item.rename(kept / item.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def differences(earlier, settings):
    """In which settings an earlier run differs, as flags; or nothing."""
    # What an earlier version did not ask was as the default is now.
    earlier = {**config.Config().settings(), **earlier}
    return ", ".join(
        f"--{name}={before} (now {value})"
        for name, value in settings.items()
        if (before := earlier.get(name)) != value
    )


def network_arguments(run, images):
    """What every network of `keras_wp.models` takes."""
    names = ("head", "activation", "s", "alpha")
    return {
        "input_shape": images.shape[1:],
        "num_classes": run.num_classes,
        **{name: getattr(run.config, name) for name in names},
        "mean": images.mean(axis=(0, 1, 2), dtype=np.float64),
        "std": images.std(axis=(0, 1, 2), dtype=np.float64),
    }


def network(run, images):
    """The network of a run, untrained, for these images."""
    config, size = run.config, {}
    make = getattr(kwp.models, config.network)
    if config.network == "wide_resnet":
        make = functools.partial(make, config.depth, config.width)
    elif config.network == "small_cnn":
        size = sizes(images.shape[-1], config.narrow)
    return heads.build(make, **size, **network_arguments(run, images))


def evaluate(run, model, test):
    """Attack a model, show the result, and write it and the exported model."""
    data = first(run.config.eval_images, test)
    source = run.read("settings.json")["data"]
    print(f"\nAttacking {len(data[0])} test images.")
    report = kwp.evaluate(
        model,
        data,
        attacks=attacks.named(run.config, data[0]),
        eps=attacks.eps(run.config),
        seed=run.config.seed,
        adaptive=run.config.adaptive,
        audit=False,
        resume_dir=run.path("evaluation"),
        progress=sys.stdout.isatty(),
    )
    print(report)
    told = {
        **report.environment,
        "dataset": f"{source}, test, {len(report)} images",
        "command": record.command(),
    }
    report = dataclasses.replace(report, environment=told)
    for suffix in files.SUFFIXES:
        files.write(report, run.path(f"report{suffix}"))
    with _startup.without_stderr():
        model.export(run.path("saved_model"), verbose=False)
    # A snapshot has cost nothing: its run counts the epochs.
    trained = [] if run.config.snapshot_of else run.read("history.json")
    depends_on = {
        **record.process(),
        "data": source,
        "preset_changes": run.preset_changes,
        "seed": run.config.seed,
        "seconds": {
            "training": sum(epoch["seconds"] for epoch in trained),
            "evaluation": sum(result.seconds for result in report.results),
        },
    }
    write_json(run.path("record.json"), depends_on)
    names = "model.keras, saved_model and report.html, .json and .md"
    print(f"\nWritten to {run.folder}: {names}")
