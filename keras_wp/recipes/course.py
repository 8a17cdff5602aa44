"""How far a training is: on disk, and on the screen."""

import dataclasses
import json
import pathlib
import time

import keras
from rich import console

from keras_wp._files import write_json, write_whole

_SETTINGS, _HISTORY = "settings.json", "history.json"
_BACKUP, _WEIGHTS = "backup", "robust.weights.h5"
# Of `keras.callbacks.BackupAndRestore`.
_METADATA = "training_metadata.json"


def say(line):
    """Print a line, as it is."""
    console.Console().print(line, soft_wrap=True, highlight=False, markup=False)


class Course:
    """The folder of a training that can be continued; or none.

    Args:
        directory: The folder, or None.
        settings: What decides what is trained, as JSON knows it.

    Attributes:
        history: By name, a list of values by epoch.

    Raises:
        ValueError: If the folder is that of another training.
    """

    def __init__(self, directory, settings):
        self.folder = None if directory is None else pathlib.Path(directory)
        self.history, self._settings = {}, json.loads(json.dumps(settings))
        if self.folder is None or not self._path(_SETTINGS).exists():
            return
        earlier = self._read(_SETTINGS)
        names = [n for n in settings if earlier.get(n) != self._settings[n]]
        if names:
            told = ", ".join(
                f"{n}={self._settings[n]!r} (there: {earlier.get(n)!r})"
                for n in names
            )
            raise ValueError(
                "Argument `directory` must be new, or that of the same call. "
                f"Received: {str(directory)!r}, with {told}"
            )
        if self._path(_HISTORY).exists():
            self.history = self._read(_HISTORY)

    @property
    def epoch(self):
        """The epoch to continue with."""
        if self.folder is None or not self._path(_BACKUP, _METADATA).exists():
            return 0
        return self._read(_BACKUP, _METADATA)["epoch"]

    @property
    def finished(self):
        """Whether the training has ended."""
        return self.folder is not None and self._path(_WEIGHTS).exists()

    def begin(self):
        """Begin a training, or continue one; returns the folder of backups."""
        self.history = {n: v[: self.epoch] for n, v in self.history.items()}
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(_SETTINGS), self._settings)
        return str(self._path(_BACKUP))

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
        self._shown, self._attack = shown, None

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the budget of the epoch, if it grows."""
        self._begun = time.monotonic()
        ramp = self._recipe.ramp
        if self._attack is None:
            self._attack = self.model.attack
        if epoch <= ramp and ramp:
            eps = self._attack.eps * (epoch + 1) / (ramp + 1)
            self.model.attack = dataclasses.replace(self._attack, eps=eps)

    def on_epoch_end(self, epoch, logs=None):
        """Adds what the epoch has measured."""
        logs = logs or {}
        self._course.add(logs)
        if not self._shown:
            return
        best = self._best
        seconds = time.monotonic() - self._begun
        say(
            f"epoch {epoch + 1:3}/{self._recipe.epochs}  "
            f"loss {logs['loss']:.4f}  validation: clean "
            f"{100 * logs['val_clean_accuracy']:.1f} %, robust "
            f"{100 * logs['val_robust_accuracy']:.1f} % "
            f"(best {100 * best.best:.1f} % after {best.best_epoch + 1})  "
            f"{seconds:.0f} s"
        )
