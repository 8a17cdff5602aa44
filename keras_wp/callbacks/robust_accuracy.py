"""The accuracy under an attack, during training."""

import math
import warnings

from keras_wp._checks import check_at_least
from keras_wp.attacks import Attack
from keras_wp.callbacks.backup import Kept
from keras_wp.evaluation import evaluate
from keras_wp.evaluation.data import Data


class RobustAccuracy(Kept):
    """Measures the accuracy under an attack every so many epochs.

    Before the training, and at the end of epochs `every`, `2 * every` and so
    on, it measures `robust_accuracy` (on `data`) and `val_robust_accuracy`
    (on `validation_data`) as `keras_wp.evaluate` finds them. Every epoch's
    logs, and so the history that `fit` returns, have the last value measured;
    the first epochs, that of the model before it was trained. Whatever
    `evaluate` refuses is refused before the first step.

    Callbacks that are to see the values, such as `keras.callbacks.CSVLogger`,
    `EarlyStopping`, `ModelCheckpoint` and `TensorBoard`, come after this one
    in the list. Those that monitor them need `mode="max"`.

    With a defense (`keras_wp.defenses`), it is the inner model that is
    attacked. The defense's own `robust_accuracy`, if it was compiled with an
    accuracy, is that of the images it trains on, in training mode: it is then
    called `training_robust_accuracy` in the logs. The images meet the same
    random numbers each time.

    A model that can no longer be measured, as its weights are no longer
    finite, has the value NaN from then on, with one warning.

    Args:
        data: `(x, y)` arrays or a dataset of such pairs that ends, the same
            each time: a part of the training set, for the training curve.
        attack: A `keras_wp.attacks.Attack`.
        every: Number of epochs between measurements, at least 1.
        validation_data: As `data`, a part of the test set; or `None`.
        batch_size: As in `keras_wp.evaluate`.
        inputs: As in `keras_wp.evaluate`.
        output: As in `keras_wp.evaluate`.

    Raises:
        ValueError: If an argument is not as described; when training begins,
            if the data or the model cannot be evaluated.

    Source: Xu, Li and Yang, "Improve Adversarial Robustness via Weight
    Penalization on Classification Layer", Figure 4.

    Example:

    >>> curves = keras_wp.callbacks.RobustAccuracy(
    ...     (x_train[:1000], y_train[:1000]),
    ...     keras_wp.attacks.PGD(eps=8 / 255, steps=20, step_size=0.0031),
    ...     every=20,
    ...     validation_data=(x_test[:1000], y_test[:1000]),
    ... )
    >>> history = model.fit(x_train, y_train, epochs=400, callbacks=[curves])
    >>> history.history["val_robust_accuracy"][19::20]
    """

    def __init__(
        self,
        data,
        attack,
        every=20,
        validation_data=None,
        batch_size=128,
        *,
        inputs=None,
        output=None,
    ):
        super().__init__()
        check_at_least(1, every=every)
        if not isinstance(attack, Attack):
            raise ValueError(
                "Argument `attack` must be a keras_wp.attacks.Attack. "
                f"Received: {type(attack).__name__}"
            )
        self._data = {"robust_accuracy": data}
        if validation_data is not None:
            self._data["val_robust_accuracy"] = validation_data
        for some in self._data.values():
            Data(some, output=output)  # Which says what it cannot read.
        self._attack = attack
        self._every = every
        self._options = {
            "batch_size": batch_size,
            "inputs": inputs,
            "output": output,
        }
        self._values, self.clean = {}, {}

    @property
    def values(self):
        """The last values measured, by their names in the logs."""
        return dict(self._values)

    def on_train_begin(self, logs=None):
        """Measures the model as it is.

        Raises:
            ValueError: If the data or the model cannot be evaluated.
        """
        self._values = self._measured()

    def state(self):
        """The values, and those without an attack."""
        clean = {f"clean_{name}": value for name, value in self.clean.items()}
        return {**self._values, **clean}

    def resume(self, state):
        """Takes the values of a state for the last ones measured."""
        self._values = {name: state[name] for name in self._data}
        self.clean = {name: state[f"clean_{name}"] for name in self._data}

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0:
            try:
                self._values = self._measured()
            except ValueError as error:
                # Whatever else could be refused was, before the training.
                if not any(map(math.isnan, self._values.values())):
                    warnings.warn(
                        "RobustAccuracy cannot measure the model any longer "
                        f"and is NaN from epoch {epoch + 1} on: {error}",
                        stacklevel=2,
                    )
                self._values = dict.fromkeys(self._data, math.nan)
        if logs is not None:
            for name, value in self._values.items():
                if name in logs:
                    logs[f"training_{name}"] = logs[name]
                logs[name] = value

    def _measured(self):
        found = {
            name: evaluate(
                self.model,
                data,
                [self._attack],
                progress=False,
                adaptive=False,
                audit=False,
                **self._options,
            )
            for name, data in self._data.items()
        }
        self.clean = {n: report.clean_accuracy for n, report in found.items()}
        return {n: report.robust_accuracy for n, report in found.items()}
