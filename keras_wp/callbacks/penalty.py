"""The penalty of the weights, during training."""

import keras
from keras import ops


class Penalty(keras.callbacks.Callback):
    """Adds the penalty of the weights to the logs, apart from the loss.

    At the end of each epoch, `penalty` is the sum of what the regularizers
    make of the model's weights, such as `keras_wp.SimplexRegularizer` of the
    kernel of a `keras_wp.RobustHead`. `val_loss - penalty` is then the
    compiled loss on the validation data; for the cross-entropy as a metric,
    compile with `keras.metrics.SparseCategoricalCrossentropy(
    from_logits=True)`.

    A defense measures its penalty itself, in every step, and keeps that.
    Callbacks that are to see it come after this one in the list.

    Example:

    >>> history = model.fit(x, y, callbacks=[keras_wp.callbacks.Penalty()])
    >>> history.history["penalty"]
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and "penalty" not in logs:
            logs["penalty"] = sum(
                float(ops.convert_to_numpy(weight.regularizer(weight)))
                for weight in self.model.trainable_weights
                if weight.regularizer is not None
            )
