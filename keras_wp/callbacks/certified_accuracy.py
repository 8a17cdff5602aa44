"""The certified accuracy, during training."""

import keras

from keras_wp._checks import check_at_least, check_not_negative
from keras_wp.evaluation import certify
from keras_wp.inspection.anatomy import undefended


class CertifiedAccuracy(keras.callbacks.Callback):
    """Measures the certified accuracy every so many epochs.

    At the end of epochs `every`, `2 * every` and so on, it adds
    `certified_accuracy` (on `data`) and `val_certified_accuracy` (on
    `validation_data`) to the logs: the shares of images that are classified
    correctly within `eps` in l2, as `keras_wp.certify` proves them. It costs
    a forward pass. With a defense, it is the inner model that is certified.

    Args:
        data: `(x, y)` arrays or a dataset of such pairs.
        eps: The l2 radius, in units of the pixels, at least 0.
        every: Number of epochs between measurements, at least 1.
        validation_data: As `data`, or `None`.
        batch_size: As in `keras_wp.certify`.

    Raises:
        ValueError: If an argument is not as described; in training, if the
            model cannot be certified.

    Example:

    >>> proved = keras_wp.callbacks.CertifiedAccuracy(
    ...     (x_train[:1000], y_train[:1000]),
    ...     eps=1.58,
    ...     validation_data=(x_test, y_test),
    ... )
    >>> history = model.fit(x_train, y_train, epochs=20, callbacks=[proved])
    >>> history.history["val_certified_accuracy"]
    """

    def __init__(
        self, data, eps, every=1, validation_data=None, batch_size=128
    ):
        super().__init__()
        check_at_least(1, every=every)
        check_not_negative(eps=eps)
        self._data = {"certified_accuracy": data}
        if validation_data is not None:
            self._data["val_certified_accuracy"] = validation_data
        self._eps, self._every = eps, every
        self._batch_size = batch_size

    def on_epoch_end(self, epoch, logs=None):
        if logs is None or (epoch + 1) % self._every:
            return
        model = undefended(self.model)
        for name, data in self._data.items():
            found = certify(model, data, batch_size=self._batch_size)
            logs[name] = found.accuracy(self._eps)
