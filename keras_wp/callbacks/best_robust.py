"""The weights of the epoch with the best accuracy under attack."""

import math
import pathlib
import warnings

import numpy as np

from keras_wp._checks import check_at_least
from keras_wp._files import write_whole
from keras_wp.attacks import PGD
from keras_wp.callbacks.backup import Kept
from keras_wp.callbacks.robust_accuracy import RobustAccuracy
from keras_wp.callbacks.weight_averaging import is_late
from keras_wp.inspection.anatomy import undefended

STEPS = 10
_NAME = "val_robust_accuracy"
_MEASURED = "measured_"
_SUFFIXES = (".keras", ".weights.h5")


class BestRobust(Kept):
    """Keeps the weights that are most accurate under attack.

    Before the training, and at the end of epochs `every`, `2 * every` and so
    on, it measures the accuracy of the model, or of the model inside a
    defense, on `validation_data` under an attack, as
    `keras_wp.callbacks.RobustAccuracy` does: logs have it as
    `val_robust_accuracy`. When the training has ended, the model gets back the
    weights that were the most accurate. If several were, it is those of them
    that are more accurate without an attack; then the first. If that is how
    the model came, there is a warning.
    The last ones are rarely the best: robust accuracy on images that were not
    trained on falls again in long trainings, while that on others rises.

    Take images for `validation_data` that are neither trained nor tested on:
    what was chosen on them is no longer measured by them.

    In the list, it comes after `WeightAveraging`: then it is averaged weights
    that are measured, kept, and given back. Callbacks that are to see the
    value, such as `keras.callbacks.CSVLogger`, come after this one. Among
    those of a `keras_wp.callbacks.Backup`, it knows of the best weights so
    far when a training is continued.

    Args:
        validation_data: `(x, y)` arrays or a dataset of such pairs that ends,
            the same each time.
        attack: A `keras_wp.attacks.Attack`. Defaults to PGD of 10 steps
            within the budget of the defense that is trained.
        every: Number of epochs between measurements, at least 1.
        patience: Number of epochs without a better value after which a
            measurement that finds none stops the training, at least 1; or
            None, to go on to the end.
        path: File to write the best model to, whenever there is a better one:
            `"….keras"` for the model, `"….weights.h5"` for its weights; or
            None. With a defense, it is the model inside.
        batch_size: As in `keras_wp.evaluate`.
        inputs: As in `keras_wp.evaluate`. Defaults to those of the defense.
        output: As in `keras_wp.evaluate`.

    Attributes:
        best: The best value so far; None before the training.
        best_epoch: The epoch at whose end it was measured, from 0 on; -1 if
            it was before the training.

    Raises:
        ValueError: If an argument is not as described; when training begins,
            if the data or the model cannot be evaluated, or if there is
            neither an attack nor a defense.

    Source: Rice, Wong and Kolter, "Overfitting in adversarially robust deep
    learning" (ICML 2020), section 3: validation-based early stopping.

    Example:

    >>> best = keras_wp.callbacks.BestRobust((x_val, y_val), patience=20)
    >>> history = defense.fit(x, y, epochs=200, callbacks=[best])
    >>> best.best_epoch, best.best
    """

    def __init__(
        self,
        validation_data,
        attack=None,
        every=1,
        patience=None,
        path=None,
        batch_size=128,
        *,
        inputs=None,
        output=None,
    ):
        super().__init__()
        check_at_least(1, every=every)
        if patience is not None:
            check_at_least(1, patience=patience)
        if path is not None and not str(path).endswith(_SUFFIXES):
            raise ValueError(
                "Argument `path` must end in '.keras' or '.weights.h5'. "
                f"Received: path={str(path)!r}"
            )
        self._attack, self._inputs = attack, inputs
        self._options = {"batch_size": batch_size, "output": output}
        self._data, self._every = validation_data, every
        self._patience = patience
        self._path = None if path is None else pathlib.Path(path)
        # Which says what is wrong with the arguments.
        self._measuring(
            PGD(eps=1.0, steps=STEPS) if attack is None else attack, inputs
        )
        self._forget()

    def on_train_begin(self, logs=None):
        """Measures the model as it is.

        Raises:
            ValueError: If it cannot be evaluated.
        """
        self._forget()
        self._measure = self._for(self.model)
        self._measure.on_train_begin()
        self._consider(-1)

    def state(self):
        """The best weights so far, and what is known of them."""
        measured = self._measure.state()
        return {
            "best": math.nan if self.best is None else self.best,
            "epoch": self.best_epoch,
            "clean": self._clean,
            "first": self._first,
            "weights": self._weights or [],
            **{_MEASURED + name: value for name, value in measured.items()},
        }

    def resume(self, state):
        """Continues with the best weights of a state."""
        self._forget()
        self._measure = self._for(self.model)
        self._measure.resume(
            {
                name.removeprefix(_MEASURED): value
                for name, value in state.items()
                if name.startswith(_MEASURED)
            }
        )
        self.best = None if math.isnan(state["best"]) else state["best"]
        self.best_epoch, self._clean = state["epoch"], state["clean"]
        self._first, self._weights = state["first"], state.get("weights")

    def on_epoch_begin(self, epoch, logs=None):
        """Begins to wait for a better value."""
        if self._first is None:
            self._first = epoch

    def on_epoch_end(self, epoch, logs=None):
        """Measures the model, if it is time to."""
        if epoch == self._first and is_late(self.model):
            warnings.warn(
                "BestRobust comes before WeightAveraging in the list of "
                "callbacks: it chooses among weights that are not averaged, "
                "and the averages are lost. Put it behind.",
                stacklevel=2,
            )
        self._measure.on_epoch_end(epoch)
        if logs is not None:
            logs[_NAME] = self._value
        if (epoch + 1) % self._every:
            return
        self._consider(epoch)
        waited = epoch - max(self.best_epoch, self._first - 1)
        if self._patience is not None and waited >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Gives the model the best weights."""
        if self._weights is None:  # None could be measured.
            return
        undefended(self.model).set_weights(self._weights)
        if self.best_epoch < 0:
            warnings.warn(
                "No epoch has made the model more robust: it has the weights "
                "with which it came. Train for more epochs, or with a smaller "
                "`eps` first (`ramp` of a keras_wp.recipes.Recipe).",
                stacklevel=2,
            )

    def _forget(self):
        self.best, self.best_epoch, self._weights = None, -1, None
        self._measure = self._first = None
        self._clean = -1.0  # Of the best weights, without an attack.

    @property
    def _value(self):
        return self._measure.values["robust_accuracy"]

    def _consider(self, epoch):
        value, clean = self._value, self._measure.clean["robust_accuracy"]
        if math.isnan(value) or (value, clean) <= (self.best or 0, self._clean):
            return
        model = undefended(self.model)
        self.best, self.best_epoch, self._clean = value, epoch, clean
        self._weights = [np.array(w) for w in model.get_weights()]
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            alone = self._path.name.endswith(_SUFFIXES[1])
            save = model.save_weights if alone else model.save
            write_whole(self._path, save)

    def _measuring(self, attack, inputs):
        return RobustAccuracy(
            self._data, attack, self._every, inputs=inputs, **self._options
        )

    def _for(self, model):
        """What measures this model."""
        attack, inputs = self._attack, self._inputs
        trained = getattr(model, "attack", None)
        defended = undefended(model) is not model
        if attack is None:
            if not defended or trained is None:
                raise ValueError(
                    "`BestRobust` needs an `attack` for a model that is "
                    "trained without a defense. Received: attack=None for a "
                    f"model of type {type(model).__name__}"
                )
            attack = PGD(
                eps=trained.eps,
                norm=trained.norm,
                bounds=trained.bounds,
                steps=STEPS,
            )
        if inputs is None and defended:
            inputs = getattr(model, "inputs", None)
        measure = self._measuring(attack, inputs)
        measure.set_model(model)
        return measure
