"""Training that a killed process can take up again, to the same numbers."""

import json
import sys
import time

import _common as common
import keras
import numpy as np
from absl import flags

import keras_wp

FLAGS = flags.FLAGS


class Batches(keras.utils.PyDataset):
    """Whole batches, in an order that depends on seed and epoch only.

    A resumed run thus sees the images that it would have seen. The few images
    that do not fill a batch sit out, others each epoch: a batch of one image
    would leave a replica of `MirroredStrategy` with none.
    """

    def __init__(self, x, y, batch_size, seed=None):
        super().__init__()
        self._data = x, y
        self._batch_size = min(batch_size, len(x))
        self._seed = seed
        self.start_epoch(0)

    def start_epoch(self, epoch):
        self._order = np.arange(len(self._data[0]))
        if self._seed is not None:
            np.random.default_rng([self._seed, epoch]).shuffle(self._order)

    def __len__(self):
        return len(self._order) // self._batch_size

    def __getitem__(self, index):
        start = index * self._batch_size
        chosen = self._order[start : start + self._batch_size]
        return tuple(array[chosen] for array in self._data)


class Epochs(keras.callbacks.Callback):
    """What happens around an epoch: order the data, report, checkpoint."""

    def __init__(self, run, batches, history):
        super().__init__()
        self._run = run
        self._batches = batches
        self._history = history

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()
        self._batches.start_epoch(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if sys.stdout.isatty():
            print(f"\r  step {batch + 1}/{len(self._batches)}", end="")

    def on_epoch_end(self, epoch, logs=None):
        kernel = self.model.get_layer("head").kernel
        angle = np.degrees(keras_wp.simplex.min_angle(kernel))
        record = {name: float(value) for name, value in logs.items()}
        record["min_angle"] = float(angle)
        self._history.append(record)
        lead = "\r" if sys.stdout.isatty() else ""
        print(
            f"{lead}{epoch + 1:>5} {record['loss']:>10.4f} "
            f"{record['accuracy']:>10.2%} {record['val_accuracy']:>10.2%} "
            f"{angle:>10.2f}° {time.monotonic() - self._started:>8.1f} s",
            flush=True,
        )
        common.write_whole(
            self._run.path("history.json"),
            lambda to: to.write_text(json.dumps(self._history, indent=1)),
        )
        # Last, and in one file: its step counter is the epoch to resume at.
        common.write_whole(
            self._run.path("checkpoint.weights.h5"), self.model.save_weights
        )


def train(run, build_model, train_data, test_data):
    """Train a model, or take up a training that was interrupted.

    Args:
        run: What `start` returned.
        build_model: Function of no arguments that returns an untrained model
            whose last layer, named `"head"`, has a `kernel`.
        train_data: `(x, y)` to train on.
        test_data: `(x, y)` for the accuracy shown after each epoch.

    Returns:
        The trained model as read back from `model.keras`, on one device.
    """
    path = run.path("model.keras")
    if not path.exists():
        with run.scope():
            model = build_model()
            model.compile(
                keras.optimizers.Adam(FLAGS.learning_rate),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
            )
            model.optimizer.build(model.trainable_variables)
        _fit(run, model, train_data, test_data)
        common.write_whole(path, model.save)
    keras.distribution.set_distribution(None)
    return keras.models.load_model(path, compile=False)


def _fit(run, model, train_data, test_data):
    batches = Batches(*train_data, FLAGS.batch_size, FLAGS.seed)
    history, first_epoch = _restore(run, model, len(batches))
    units = model.get_layer("head").kernel.shape[-1]
    ideal = np.degrees(keras_wp.simplex.ideal_angle(units))
    print(
        f"Training on {len(train_data[0])} images. The class weights are "
        f"{ideal:.2f}° apart at best.\n"
        "epoch       loss   accuracy       test  min. angle       time"
    )
    model.fit(
        batches,
        shuffle=False,  # Or Keras would put the batches in another order.
        epochs=FLAGS.epochs,
        initial_epoch=first_epoch,
        validation_data=Batches(*test_data, FLAGS.batch_size),
        callbacks=[Epochs(run, batches, history)],
        verbose=0,
    )


def _restore(run, model, steps_per_epoch):
    """The history so far, and the epoch to go on with."""
    path = run.path("checkpoint.weights.h5")
    if not path.exists():
        return [], 0
    model.load_weights(path)
    epoch = int(model.optimizer.iterations) // steps_per_epoch
    print(f"Resuming after epoch {epoch}.")
    history = json.loads(run.path("history.json").read_text())
    return history[:epoch], epoch
