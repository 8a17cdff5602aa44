"""How far a training is: on disk, and on the screen."""

import dataclasses
import json
import pathlib
import shutil
import time
import warnings

import keras
from rich import console

from keras_wp._files import write_json, write_whole
from keras_wp.callbacks import Backup

_SETTINGS, _HISTORY = "settings.json", "history.json"
_BACKUP, _WEIGHTS = "backup", "robust.weights.h5"


def say(line):
    """Print a line, as it is."""
    console.Console().print(line, soft_wrap=True, highlight=False, markup=False)


class Course:
    """The folder of a training that can be continued; or none.

    Args:
        directory: The folder, or None.
        settings: What decides what is trained, as JSON knows it.
        parts: The same, as digests.
        weights: The digest of the weights to begin with. Those of a network
            that nobody has seeded are others each time, so that a training
            from others is continued, with a warning.

    Attributes:
        history: By name, a list of values by epoch.
        epoch: The epoch to continue with.

    Raises:
        ValueError: If the folder is that of another training.
    """

    def __init__(self, directory, settings, parts, weights):
        self.folder = None if directory is None else pathlib.Path(directory)
        self.history, self.epoch = {}, 0
        told = {**settings, "parts": parts, "weights": weights}
        self._settings = json.loads(json.dumps(told))
        if self.folder is None or not self._path(_SETTINGS).exists():
            if self.folder is not None and self.folder.is_file():
                raise ValueError(
                    "Argument `directory` must be a folder. Received: a file, "
                    f"{str(directory)!r}"
                )
            return
        earlier = self._read(_SETTINGS)
        others = [
            f"{n}={self._settings[n]!r} (there: {earlier.get(n)!r})"
            for n in settings
            if earlier.get(n) != self._settings[n]
        ]
        known = earlier.get("parts", {})
        others += [f"another {n}" for n in parts if known.get(n) != parts[n]]
        if others:
            raise ValueError(
                "Argument `directory` must be new, or that of the same call. "
                f"Received: {str(directory)!r}, with {', '.join(others)}"
            )
        if earlier["weights"] != weights:
            warnings.warn(
                f"The training in {str(directory)!r} began with other weights "
                "than those that the model has now, and its own are taken. "
                "Name another `directory` to train from these.",
                stacklevel=3,
            )
        self._settings = earlier
        self.epoch = Backup(self._path(_BACKUP)).epoch
        if self._path(_HISTORY).exists():
            self.history = self._read(_HISTORY)

    @property
    def finished(self):
        """Whether the training has ended."""
        return self.folder is not None and self._path(_WEIGHTS).exists()

    @property
    def told(self):
        """How far it is, for the line that a training begins with."""
        if self.finished:
            return f"; trained already, in {self.folder}"
        return f"; continued with epoch {self.epoch + 1}" if self.epoch else ""

    def begin(self, callbacks):
        """Begin a training, or continue one; returns what `fit` is to have."""
        self.history = {n: v[: self.epoch] for n, v in self.history.items()}
        if self.folder is None:
            return callbacks
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(_SETTINGS), self._settings)
        backup = self._path(_BACKUP)
        return [Backup(backup, callbacks, delete_checkpoint=False)]

    def add(self, logs):
        """Add what an epoch has measured."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if self.folder is not None:
            write_json(self._path(_HISTORY), self.history)

    def end(self, model):
        """Keep the weights of a model that has been trained."""
        if self.folder is not None:
            write_whole(self._path(_WEIGHTS), model.save_weights)
            shutil.rmtree(self._path(_BACKUP))

    def restore(self, model):
        """Give a model the weights that were kept."""
        model.load_weights(self._path(_WEIGHTS))

    def resume_dir(self):
        """Where the evaluation keeps its outcomes, or None."""
        return None if self.folder is None else str(self._path("report"))

    def _path(self, *names):
        return self.folder.joinpath(*names)

    def _read(self, *names):
        return json.loads(self._path(*names).read_text("utf-8"))


class Followed(keras.callbacks.Callback):
    """Adds each epoch to a `Course`, and prints a line for it.

    Args:
        course: The `Course`.
        best: The `keras_wp.callbacks.BestRobust` before it in the list.
        recipe: The `Recipe`.
        shown: Whether to print.
    """

    def __init__(self, course, best, recipe, shown):
        super().__init__()
        self._course, self._best, self._recipe = course, best, recipe
        self._shown, self._attack, self._set = shown, None, None

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the budget of the epoch, if it grows."""
        self._begun = time.monotonic()
        ramp = self._recipe.ramp
        if self.model.attack is not self._set:
            # At first; and when an alarm has put another in its place.
            self._attack = self.model.attack
        if epoch <= ramp and ramp:
            eps = self._attack.eps * (epoch + 1) / (ramp + 1)
            self._set = dataclasses.replace(self._attack, eps=eps)
            self.model.attack = self._set

    def on_epoch_end(self, epoch, logs=None):
        """Adds what the epoch has measured."""
        logs = logs or {}
        self._course.add(logs)
        if not self._shown:
            return
        best = self._best
        when = "before"
        if best.best_epoch >= 0:
            when = f"after {best.best_epoch + 1}"
        seconds = time.monotonic() - self._begun
        say(
            f"epoch {epoch + 1:3}/{self._recipe.epochs}  "
            f"loss {logs['loss']:.4f}  validation: clean "
            f"{100 * logs['val_clean_accuracy']:.1f} %, robust "
            f"{100 * logs['val_robust_accuracy']:.1f} % "
            f"(best {100 * best.best:.1f} % {when})  "
            f"{seconds:.0f} s"
        )
