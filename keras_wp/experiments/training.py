"""Training that a killed process can take up again, to the same numbers.

Not by `keras.callbacks.BackupAndRestore`: it keeps the weights and the number
of the epoch in two files, which disagree if it is killed in between, and the
data must know the epoch before `fit` begins.
"""

import dataclasses
import functools
import pathlib
import shutil
import sys
import tempfile
import time

import keras
import numpy as np

import keras_wp as kwp
from keras_wp._files import write_json, write_whole
from keras_wp.experiments import attacks, heads, options
from keras_wp.experiments.config import of_training
from keras_wp.experiments.run import (
    differences,
    evaluate,
    first,
    network,
    start,
)
from keras_wp.inspection.anatomy import undefended

DECAY_EPOCHS = 60
# By their names in `--defense`.
DEFENSES = {
    "at": kwp.defenses.AdversarialTraining,
    "trades": kwp.defenses.TRADES,
    "mart": kwp.defenses.MART,
}
# Weights as published, where they are not the defense's default.
_BETA = {("trades", "mnist"): 1.0}
_TITLES = "epoch       loss   accuracy       test  min. angle       time"


def train(run, train_data, test_data):
    """Train a model, or take up a training that was interrupted.

    Returns it as read back from `model.keras`, on one device.
    """
    path = run.path("model.keras")
    if run.config.snapshot_of:
        _take_snapshot(run)
    elif not path.exists():
        size = _batch_size(run, train_data)
        with run.devices.scope():
            model = network(run, train_data[0])
            trained = defend(run.config, model, train_data[0])
            optimizer = adam(run.config, len(train_data[0]) // size)
            loss = loss_of(run.config)
            trained.compile(optimizer, loss, metrics=["accuracy"])
            trained.optimizer.build(trained.trainable_variables)
        _fit(run, trained, train_data, test_data)
        _save(run, "model.keras", model.save)
    run.devices.leave()
    return keras.models.load_model(path, compile=False)


def _take_snapshot(run):
    """Take the model, and its history, from a longer run of the same kind."""
    folder, epochs = pathlib.Path(run.config.snapshot_of), run.config.epochs
    source, name = dataclasses.replace(run, folder=folder), _snapshot(epochs)

    def refuse(kind, received):
        raise SystemExit(f"--snapshot_of needs a {kind}. Received: {received}")

    if not source.path(name).exists():
        lacks = f"{folder}, which has no {name}"
        refuse(f"run with --snapshots={epochs}", lacks)
    ours = of_training(run.read("settings.json"))
    if changed := differences(source.read("settings.json"), ours):
        other = f"{folder}, which has {changed}"
        refuse("run that was trained in the same way", other)
    if heads.depends_on_length(head := run.config.head):
        refuse("training that is the same in a longer run", f"--head={head}")
    if run.devices.writes:
        history = source.read("history.json")[:epochs]
        write_json(run.path("history.json"), history)
        copy = functools.partial(shutil.copyfile, source.path(name))
        write_whole(run.path("model.keras"), copy)
    print(f"The model after epoch {epochs} of {folder}.")


def _snapshot(epoch):
    """Where a run keeps the model as it is after an epoch."""
    return f"snapshots/{epoch}.keras"


def defend(config, model, images):
    """The model to train: the network itself, or a defense around it."""
    if config.defense == "none":
        return model
    beta = config.beta
    if beta is None:
        beta = _BETA.get((config.defense, attacks.budgets(images)))
    given = {} if beta is None or config.defense == "at" else {"beta": beta}
    attack = attacks.in_training(config, images)
    return DEFENSES[config.defense](model, attack, **given)


def loss_of(config):
    """The loss that fits the head."""
    if config.head == "mmc":
        return kwp.losses.MaxMahalanobisCenter()
    if config.head == "hypersphere":
        return kwp.losses.HypersphereMargin()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def adam(config, steps_per_epoch):
    """Adam, whose learning rate falls by `decay` every 60 epochs."""
    rate = config.learning_rate
    if config.decay != 1.0:
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, DECAY_EPOCHS * steps_per_epoch, config.decay, staircase=True
        )
    return keras.optimizers.Adam(rate)


def _batch_size(run, data):
    """`--batch_size`, but less for small data: what all devices can share."""
    size = min(run.config.batch_size, len(data[0]))
    return size - size % run.devices.count


def _fit(run, model, train_data, test_data):
    config, devices = run.config, run.devices
    size = _batch_size(run, train_data)
    steps = len(train_data[0]) // size
    history, first_epoch = _restore(run, model)
    part = {"part": devices.process, "parts": devices.processes}
    batches = kwp.datasets.batches(
        *train_data,
        size,
        seed=config.seed,
        first_epoch=first_epoch,
        augment=config.augment,
        **part,
    )
    # Less than in training, if whole batches are to hold all images.
    largest, count = _batch_size(run, test_data), len(test_data[0])
    sizes = range(largest, largest // 2, -devices.count)
    size = next((s for s in sizes if count % s == 0), largest)
    validation = kwp.datasets.batches(*test_data, size, seed=None, **part)
    callbacks = heads.callbacks(undefended(model), config.epochs)
    if config.robust_every:  # Figure 4's curves: both sets under attack.
        count = config.eval_images or count
        curves = kwp.callbacks.RobustAccuracy(
            first(count, train_data),
            attacks.of_curves(config, train_data[0]),
            every=config.robust_every,
            validation_data=first(count, test_data),
        )
        callbacks.append(curves)
    sentence = ""
    if (kernel := _class_weights(model)) is not None:
        ideal = np.degrees(kwp.simplex.ideal_angle(kernel.shape[-1]))
        sentence = f" The class weights are {ideal:.2f}° apart at best."
    print(f"Training on {len(train_data[0])} images.{sentence}\n{_TITLES}")
    model.fit(
        batches,
        shuffle=False,
        steps_per_epoch=steps,
        epochs=config.epochs,
        initial_epoch=first_epoch,
        validation_data=validation,
        callbacks=[*callbacks, Epochs(run, history)],
        verbose=0,
    )


def _restore(run, model):
    """The history so far, and the epoch to continue with."""
    path = run.path("checkpoint.weights.h5")
    if not path.exists():
        return [], 0
    model.load_weights(path)
    # Not steps by the epoch: with scaled losses some steps do not count.
    steps, history = _iterations(model), run.read("history.json")
    done = [record for record in history if record["iterations"] <= steps]
    print(f"Resuming after epoch {len(done)}.")
    return done, len(done)


def _iterations(model):
    """How many steps a model's optimizer has made."""
    # Not `int`, which does not know a mirrored variable.
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


class Epochs(keras.callbacks.Callback):
    """What happens after an epoch: report and checkpoint."""

    def __init__(self, run, history):
        super().__init__()
        self._run, self._history = run, history

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if sys.stdout.isatty():
            print(f"\r  step {batch + 1}/{self.params['steps']}", end="")

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.monotonic() - self._started
        every = self._run.config.robust_every
        record = recorded(logs, every is None or (epoch + 1) % every)
        shown = ""
        if (kernel := _class_weights(self.model)) is not None:
            angle = float(np.degrees(kwp.simplex.min_angle(kernel)))
            record["min_angle"], shown = angle, f"{angle:.2f}°"
        record["seconds"] = seconds
        record["iterations"] = _iterations(self.model)
        self._history.append(record)
        lead = "\r" if sys.stdout.isatty() else ""
        print(
            f"{lead}{epoch + 1:>5} {record['loss']:>10.4f} "
            f"{record['accuracy']:>10.2%} {record['val_accuracy']:>10.2%} "
            f"{shown:>11} {seconds:>8.1f} s",
            flush=True,
        )
        if self._run.devices.writes:
            write_json(self._run.path("history.json"), self._history)
        if epoch + 1 in map(int, self._run.config.snapshots):
            self._run.path("snapshots").mkdir(exist_ok=True)
            snapshot = undefended(self.model)
            _save(self._run, _snapshot(epoch + 1), snapshot.save)
        # Last, and in one file: its step counter is the epoch to resume at.
        _save(self._run, "checkpoint.weights.h5", self.model.save_weights)


# What a history calls the logs of a model or of a defense, if it has them.
_RECORDED = {
    "accuracy": ("accuracy", "clean_accuracy", "training_robust_accuracy"),
    "val_accuracy": ("val_clean_accuracy", "val_accuracy"),
}


def recorded(logs, unmeasured):
    """Logs of an epoch as a history has them.

    Args:
        logs: What Keras hands to callbacks.
        unmeasured: Whether `RobustAccuracy` has not measured in this epoch.
    """
    record = {name: float(value) for name, value in logs.items()}
    if unmeasured:
        # Of another epoch; or, in a defense alone, of the training's attack.
        measured = record.pop("robust_accuracy", None)
        record.pop("val_robust_accuracy", None)
        if measured is not None and "accuracy" not in record:
            record.setdefault("training_robust_accuracy", measured)
    for name, sources in _RECORDED.items():
        found = [record[source] for source in sources if source in record]
        record.update({name: found[0]} if found else {})
    return record


def _save(run, name, save):
    """Save whole or not at all; all processes do, and one keeps the file.

    To read variables that several processes share, they must all take part.
    """
    if run.devices.writes:
        write_whole(run.path(name), save)
        return
    with tempfile.TemporaryDirectory() as folder:
        save(pathlib.Path(folder) / name)


def _class_weights(model):
    """Those of the head; None if there are none."""
    return getattr(undefended(model).get_layer("head"), "kernel", None)


def main(experiment, argv=None):
    """Train and attack the network of a `Config`, as a command line says."""
    options.run(_main, experiment, argv or sys.argv)


def _main(experiment, given, left):
    options.no_more(left)
    run, train_data, test_data = start(experiment, given)
    evaluate(run, train(run, train_data, test_data), test_data)
