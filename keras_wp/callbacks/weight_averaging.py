"""Exponential averages of a model's weights, and of its statistics."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_wp import _backend
from keras_wp.callbacks import backups
from keras_wp.inspection.anatomy import undefended

_FILE = "weight_averaging.npz"


class WeightAveraging(keras.callbacks.Callback):
    """Averages the weights over the steps of training, statistics included.

    After step `t = 0, 1, ...`, `average = d average + (1 - d) weights` with
    `d = min(decay, (1 + t) / (10 + t))`, and 0 at first, so that the weights
    before the training are soon forgotten. It averages all floating-point
    weights of the model, or of the model inside a defense: those that are
    trained, and the moving means and variances of `BatchNormalization`. (The
    averages of Keras's optimizers, `use_ema=True`, leave these as they are in
    the model that is trained, where they do not belong to averaged weights:
    networks with `BatchNormalization` can fall to guessing.)

    Training goes on with the weights as they are. Averages take their place

    - in validation;
    - from the end of an epoch to the beginning of the next, for callbacks that
      come after this one in the list, such as `RobustAccuracy`, `BestRobust`,
      `keras.callbacks.ModelCheckpoint` and `EarlyStopping`;
    - when the training has ended. A further `fit` starts from there.

    `keras.callbacks.BackupAndRestore` comes before this one in the list, as it
    is to save the weights as they are. With its folder for `backup_dir`, a
    training that it restores continues with the averages, too.

    Where a model is compiled with `steps_per_execution`, steps are counted by
    executions.

    Args:
        decay: The largest `d`, at least 0 and below 1. The average is over
            about the last `1 / (1 - decay)` steps. Defaults to `0.995`, that
            of the source.
        backup_dir: The folder of `keras.callbacks.BackupAndRestore`, or None.

    Raises:
        ValueError: If `decay` is out of its range.

    Source: Gowal et al., "Uncovering the limits of adversarial training
    against norm-bounded adversarial examples" (2020), section 4.4; the first
    steps as in public code for Rebuffi et al., "Data augmentation can improve
    robustness" (NeurIPS 2021). That takes the statistics of the model that is
    trained; PyTorch's `AveragedModel(use_buffers=True)` averages them.

    Example:

    >>> averaging = keras_wp.callbacks.WeightAveraging()
    >>> best = keras_wp.callbacks.BestRobust((x_val, y_val))
    >>> defense.fit(x, y, epochs=100, callbacks=[averaging, best])
    """

    def __init__(self, decay=0.995, backup_dir=None):
        super().__init__()
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(
                "Argument `decay` must be a number of at least 0 and below 1. "
                f"Received: decay={decay!r}"
            )
        self._decay = float(decay)
        self._folder = backup_dir
        self._count, self._averages, self._program = 0, None, None
        # The weights as they are, while averages are in their place.
        self._weights = None

    def on_train_begin(self, logs=None):
        """Forgets earlier averages, or takes up those of a backup."""
        self._count, self._averages, self._program = 0, None, None
        self._weights = None
        saved = backups.load(self._folder, _FILE, self.model)
        if saved is None:
            return
        numbers, arrays = saved
        if numbers["iterations"] != backups.iterations(self.model):
            warnings.warn(
                "WeightAveraging continues with averages up to step "
                f"{numbers['iterations']} of a training that is restored at "
                f"step {backups.iterations(self.model)}.",
                stacklevel=2,
            )
        self._count = numbers["count"]
        self._averages = [ops.convert_to_tensor(array) for array in arrays]

    def on_train_batch_end(self, batch, logs=None):
        """Averages the weights."""
        variables = self._variables()
        if not self._count:
            self._averages = [ops.copy(_exact(v)) for v in variables]
        else:
            if self._program is None:
                self._program = _averaging(variables)
            ramp = (1 + self._count) / (10 + self._count)
            share = np.float32(min(self._decay, ramp))
            self._averages = self._program(self._averages, share)
        self._count += 1

    def on_epoch_begin(self, epoch, logs=None):
        """Puts the weights back."""
        self._swap(False)

    def on_epoch_end(self, epoch, logs=None):
        """Puts the averages in place, and saves them."""
        if self._folder is not None and self._count:
            backups.save(
                self._folder,
                _FILE,
                [ops.convert_to_numpy(average) for average in self._averages],
                iterations=backups.iterations(self.model),
                count=self._count,
            )
        self._swap(True)

    def on_test_begin(self, logs=None):
        """Puts the averages in place."""
        self._swap(True)

    def on_test_end(self, logs=None):
        """Puts the weights back."""
        self._swap(False)

    def on_train_end(self, logs=None):
        """Leaves the averages in the model."""
        self._swap(True)
        self._weights = None

    def _swap(self, averaged):
        if not self._count or averaged == (self._weights is not None):
            return
        variables = self._variables()
        values = self._averages
        if averaged:
            self._weights = [ops.copy(v) for v in variables]
        else:
            values, self._weights = self._weights, None
        for variable, value in zip(variables, values, strict=True):
            # Copies, as a training step may give the memory of a variable
            # away.
            variable.assign(ops.copy(value))

    def _variables(self):
        return [
            variable
            for variable in undefended(self.model).variables
            if "float" in keras.backend.standardize_dtype(variable.dtype)
        ]


def _exact(variable):
    """Its value in float32, at least: a step may be less than it rounds."""
    kind = keras.backend.result_type(variable.dtype, "float32")
    return ops.cast(variable, kind)


def _averaging(variables):
    """`program(averages, d)`, which is compiled."""

    def averaged(averages, share):
        return [
            ops.cast(share, average.dtype) * average
            + ops.cast(1 - share, average.dtype) * _exact(v)
            for average, v in zip(averages, variables, strict=True)
        ]

    return _backend.compile(averaged, lambda: variables)
