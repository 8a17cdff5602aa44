"""Losses of classification heads."""

import keras
from keras import ops

from keras_wp import _checks


@keras.saving.register_keras_serializable(package="keras_wp")
class MaxMahalanobisCenter(keras.losses.Loss):
    """Squared distance of the features from the center of their class.

    `loss = ||z - mu_y||_2^2`, read off the logits of a
    `keras_wp.layers.MaxMahalanobisHead`: minus that of the right class. (The
    paper has half of it; this is what the authors ran.)

    Args:
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`, the mean.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: When called with labels of another shape than below.

    Input shape:
        `y_true`: integer labels `(N,)` or `(N, 1)`; `y_pred`: logits `(N, K)`.

    Reference:
        Pang et al., "Rethinking softmax cross-entropy loss for adversarial
        robustness" (ICLR 2020), equation 8, and the authors' code.

    Example:

    >>> loss = MaxMahalanobisCenter()
    >>> logits = np.array([[-4.0, -9.0], [-1.0, -2.0]])
    >>> float(loss(np.array([0, 1]), logits))
    3.0
    """

    def __init__(
        self,
        reduction="sum_over_batch_size",
        name="max_mahalanobis_center",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Returns the squared distance of each image, `(N,)`.

        Raises:
            ValueError: If there is not one label for each image.
        """
        labels = _checks.batch_labels(y_true)
        own = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        # Where it is 0 a product would turn an infinite logit into NaN.
        return -ops.sum(ops.where(own > 0, y_pred, 0.0), axis=-1)
