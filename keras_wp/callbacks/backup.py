"""A training that can be continued, with what its callbacks know."""

import abc
import collections
import functools
import pathlib

import keras
import numpy as np
from keras import ops

from keras_wp._files import write_whole

_FILE = "backup.npz"


class Kept(keras.callbacks.Callback, abc.ABC):
    """A callback whose state a `Backup` keeps."""

    @abc.abstractmethod
    def state(self):
        """What it knows: numbers and lists of arrays, by name."""

    @abc.abstractmethod
    def resume(self, state):
        """Begin with a state, in the place of `on_train_begin`."""


class Backup(keras.callbacks.Callback):
    """Keeps a training on disk, with its callbacks, to be continued.

    When an epoch is over, and `callbacks` have had their part in it, all that
    the next epoch depends on is written to one file, whole or not at all: the
    weights, the states of random layers, the optimizer, and what this
    package's callbacks have gathered, such as averages and the best weights
    so far. After an interruption, the same call of `fit` continues with the
    epoch that was interrupted, from what was there at its beginning.

    `keras.callbacks.BackupAndRestore` knows of the weights and the optimizer
    alone, so that averages begin anew, and the best weights are forgotten.

    Images come in the order that `fit` gives them, which Keras does not keep:
    `keras_wp.datasets.batches(first_epoch=backup.epoch)` does.

    Args:
        backup_dir: The folder to write to.
        callbacks: The callbacks, in their order: `CatastrophicOverfitting`,
            `WeightAveraging`, `BestRobust`. They are not given to `fit`
            besides. Others may be among them, and begin anew.
        delete_checkpoint: Whether to delete the file when the training has
            ended.

    Attributes:
        epoch: The epoch to continue with, from 0 on.

    Raises:
        ValueError: When training begins, if the folder has the backup of
            another model or of other callbacks.

    Example:

    >>> backup = keras_wp.callbacks.Backup(
    ...     "runs/backup",
    ...     [
    ...         keras_wp.callbacks.WeightAveraging(),
    ...         keras_wp.callbacks.BestRobust((x_val, y_val)),
    ...     ],
    ... )
    >>> defense.fit(x, y, epochs=100, callbacks=[backup])
    """

    def __init__(self, backup_dir, callbacks=(), delete_checkpoint=True):
        super().__init__()
        self._path = pathlib.Path(backup_dir) / _FILE
        self._callbacks, self._delete = list(callbacks), delete_checkpoint
        hooks = {name for name in dir(type(self)) if name.startswith("on_")}
        for hook in hooks - set(vars(type(self))):
            # Not one that no callback has: for one of batches, Keras would
            # wait for each to hand over its logs.
            default = getattr(keras.callbacks.Callback, hook)
            if any(getattr(type(c), hook) != default for c in self._callbacks):
                setattr(self, hook, functools.partial(self._each, hook))

    @property
    def epoch(self):
        """The epoch to continue with, from 0 on."""
        if not self._path.exists():
            return 0
        with np.load(self._path) as file:
            return int(file["0.epoch"])

    def set_params(self, params):
        super().set_params(params)
        self._each("set_params", params)

    def set_model(self, model):
        super().set_model(model)
        self._each("set_model", model)

    def on_train_begin(self, logs=None):
        """Restores what is there.

        Raises:
            ValueError: If that is another training's.
        """
        if not self._path.exists():
            self._each("on_train_begin", logs)
            return
        # As `keras.callbacks.BackupAndRestore` does.
        self.model._initial_epoch, states = self._restored()
        for callback, state in zip(self._callbacks, states, strict=True):
            if isinstance(callback, Kept):
                callback.resume(state)
            else:
                callback.on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the file, after the callbacks."""
        self._each("on_epoch_end", epoch, logs)
        states = [
            {
                "epoch": epoch + 1,
                "stopped": bool(self.model.stop_training),
                "values": _variables(self.model),
            },
            *map(_state, self._callbacks),
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, lambda to: np.savez(to, **_flat(states)))

    def on_train_end(self, logs=None):
        """Deletes the file, after the callbacks."""
        self._each("on_train_end", logs)
        if self._delete:
            self._path.unlink(missing_ok=True)

    def _each(self, name, *arguments, **given):
        for callback in self._callbacks:
            getattr(callback, name)(*arguments, **given)

    def _restored(self):
        """Restore the model; returns `(epoch, states)`, the callbacks'."""
        with np.load(self._path) as file:
            own, *states = _nested(file)
        variables, values = _variables(self.model), own.get("values", [])
        shapes = [tuple(variable.shape) for variable in variables]
        kinds = [_kind(callback) for callback in self._callbacks]
        if shapes != [value.shape for value in values] or kinds != [
            state["kind"] for state in states
        ]:
            raise ValueError(
                "Argument `backup_dir` must be new, or have the backup of a "
                "training of the same model with the same callbacks. "
                f"Received: backup_dir={str(self._path.parent)!r}"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return self.params["epochs"] if own["stopped"] else own["epoch"], states


def _kind(callback):
    return type(callback).__name__


def _state(callback):
    own = callback.state() if isinstance(callback, Kept) else {}
    return {"kind": _kind(callback), **own}


def _variables(model):
    """What a training changes."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return [*model.variables, *optimizer.variables]


def _flat(states):
    """Numbers and lists of arrays, as entries of a file."""
    entries = {}
    for place, state in enumerate(states):
        for name, value in state.items():
            if isinstance(value, list):
                for i, each in enumerate(value):
                    entries[f"{place}.{name}.{i}"] = _known(each)
            else:
                entries[f"{place}.{name}"] = value
    return entries


def _nested(file):
    """The states in a file."""
    states = collections.defaultdict(dict)
    for key in file.files:  # In the order in which they were written.
        place, name, *rest = key.split(".")
        if rest:
            states[place].setdefault(name, []).append(file[key])
        else:
            states[place][name] = file[key].item()
    return list(states.values())


def _known(array):
    """An array of a type that files have."""
    array = ops.convert_to_numpy(array)
    return array.astype(np.float32) if array.dtype.kind == "V" else array
