"""Callbacks for training."""

import keras
import numpy as np

from keras_wp import _checks
from keras_wp._checks import check_at_least
from keras_wp.attacks import Attack
from keras_wp.defenses import Defense
from keras_wp.evaluation import evaluate


class RobustAccuracy(keras.callbacks.Callback):
    """Measures the accuracy under an attack every so many epochs.

    At the end of epochs `every`, `2 * every` and so on, `robust_accuracy`
    (on `data`) and `val_robust_accuracy` (on `validation_data`) are added to
    the logs, as `keras_wp.evaluate` finds them: `fit` returns them in its
    history, with one number for each of these epochs. Callbacks that are to
    see them, such as `keras.callbacks.TensorBoard`, come after this one in
    the list.

    With a defense (`keras_wp.defenses`), it is the inner model that is
    attacked. The images meet the same random numbers each time.

    Args:
        data: `(x, y)` arrays or a dataset of such pairs, the same each
            time: a part of the training set, for the training curve.
        attack: A `keras_wp.attacks.Attack`.
        every: Number of epochs between measurements, at least 1.
        validation_data: As `data`, a part of the test set; or `None`.
        batch_size: As in `keras_wp.evaluate`.

    Raises:
        ValueError: If an argument is not as described.

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
    >>> history.history["val_robust_accuracy"]
    """

    def __init__(
        self, data, attack, every=20, validation_data=None, batch_size=128
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
        self._attack = attack
        self._every = every
        self._batch_size = batch_size

    def on_train_begin(self, logs=None):
        """Looks at arrays of data before they are needed.

        Raises:
            ValueError: If they are not images within the bounds of the attack,
                or not one integer label for each.
        """
        model = self._attacked()
        for data in self._data.values():
            if isinstance(data, tuple) and len(data) == 2:
                x, y = map(np.asarray, data)
                _checks.images(x, self._attack.bounds)
                _checks.image_shape(model, x.shape[1:])
                if classes := _checks.num_classes(model):
                    _checks.labels(y, len(x), classes)

    def on_epoch_end(self, epoch, logs=None):
        if logs is None or (epoch + 1) % self._every:
            return
        for name, data in self._data.items():
            report = evaluate(
                self._attacked(),
                data,
                [self._attack],
                batch_size=self._batch_size,
                progress=False,
                adaptive=False,
                audit=False,
            )
            logs[name] = report.robust_accuracy

    def _attacked(self):
        """The model in training, or that inside of a defense."""
        defended = isinstance(self.model, Defense)
        return self.model.model if defended else self.model
