"""Metrics for `compile`."""

import keras
from keras import ops

from keras_wp import _checks


@keras.saving.register_keras_serializable(package="keras_wp")
class CertifiedAccuracy(keras.metrics.Mean):
    """Share of images that are right by more than a radius, by their margins.

    An image counts if `(z_y - z_j) / distance > eps` for all other classes
    `j`. It is what `keras_wp.certify` proves where nothing before the head
    stretches distances, but for float32 rounding, and costs nothing. Whether
    the network is such, and what rounding takes, is not looked at:
    `keras_wp.callbacks.CertifiedAccuracy` does.

    Args:
        eps: The l2 radius, in units of the pixels, at least 0.
        distance: The distance of two class weights, as in
            `keras_wp.losses.CertifiedMargin`. Defaults to 1.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> metric = CertifiedAccuracy(eps=1.0)
    >>> metric.update_state(np.array([0, 0]), np.array([[3.0, 0], [0.5, 0]]))
    >>> float(metric.result())
    0.5
    """

    def __init__(self, eps, distance=1.0, name="margin_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        _checks.check_not_negative(eps=eps)
        _checks.check_positive(distance=distance)
        self.eps = float(eps)
        self.distance = float(distance)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes labels `(N,)` or `(N, 1)`, and logits `(N, K)`."""
        labels = _checks.batch_labels(y_true)
        own = ops.one_hot(labels, y_pred.shape[-1], dtype="bool")
        others = ops.max(ops.where(own, -float("inf"), y_pred), axis=-1)
        right = ops.sum(ops.where(own, y_pred, 0.0), axis=-1)
        certified = right - others > self.eps * self.distance
        return super().update_state(
            ops.cast(certified, self.dtype), sample_weight
        )

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "eps": self.eps,
            "distance": self.distance,
        }
