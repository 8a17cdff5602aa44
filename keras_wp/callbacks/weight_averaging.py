"""Exponential averages of a model's weights, and of its statistics."""

import contextlib
import weakref

import keras
import numpy as np
from keras import ops

from keras_wp import _backend
from keras_wp.callbacks.backup import Kept
from keras_wp.inspection.anatomy import undefended

# By the model that is trained, what averages its weights.
_AVERAGING = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def set_aside(model):
    """While it lasts, a model in training has its weights as they are trained.

    Yields its `WeightAveraging`, or None.
    """
    averaging = _AVERAGING.get(model)
    averaged = averaging is not None and averaging.averaged
    if averaged:
        averaging.swap(False)
    yield averaging
    if averaged:
        averaging.swap(True)


def is_late(model):
    """Whether averages are still to be put in place, as by a later callback."""
    averaging = _AVERAGING.get(model)
    return bool(averaging and averaging._count and not averaging.averaged)


class WeightAveraging(Kept):
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

    A training that is continued goes on with its averages if this callback is
    among those of a `keras_wp.callbacks.Backup`. (Keras's `BackupAndRestore`
    comes before this one in the list, as it is to save the weights as they
    are; averages then begin anew.)

    Where a model is compiled with `steps_per_execution`, steps are counted by
    executions.

    Args:
        decay: The largest `d`, at least 0 and below 1. The average is over
            about the last `1 / (1 - decay)` steps. Defaults to `0.995`, that
            of the source.

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

    def __init__(self, decay=0.995):
        super().__init__()
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(
                "Argument `decay` must be a number of at least 0 and below 1. "
                f"Received: decay={decay!r}"
            )
        self._decay = float(decay)
        self._forget()

    def on_train_begin(self, logs=None):
        """Forgets earlier averages."""
        self._forget()
        _AVERAGING[self.model] = self

    def state(self):
        """The averages, and the weights that they are in the place of."""
        return {
            "count": self._count,
            "averages": self._averages or [],
            "weights": self._weights or [],
        }

    def resume(self, state):
        """Continues with the averages of a state."""
        self.on_train_begin()
        self.restore(state)
        weights = state.get("weights", [])
        self._weights = [ops.convert_to_tensor(w) for w in weights] or None

    def restore(self, state):
        """Takes the averages of a state for those of the weights as they are.

        Only while the weights are in their place.
        """
        self._count, averages = state["count"], state.get("averages", [])
        self._averages = [ops.convert_to_tensor(each) for each in averages]

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
        self.swap(False)

    def on_epoch_end(self, epoch, logs=None):
        """Puts the averages in place."""
        self.swap(True)

    def on_test_begin(self, logs=None):
        """Puts the averages in place."""
        self.swap(True)

    def on_test_end(self, logs=None):
        """Puts the weights back."""
        self.swap(False)

    def on_train_end(self, logs=None):
        """Leaves the averages in the model."""
        self.swap(True)
        self._weights = None
        _AVERAGING.pop(self.model, None)

    def _forget(self):
        self._count, self._averages, self._program = 0, None, None
        # The weights as they are, while averages are in their place.
        self._weights = None

    @property
    def averaged(self):
        """Whether the averages are in the place of the weights."""
        return self._weights is not None

    def swap(self, averaged):
        """Put the averages in place, or the weights; if there are any."""
        if not self._count or averaged == self.averaged:
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
