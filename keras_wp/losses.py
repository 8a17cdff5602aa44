"""Losses of classification heads."""

import keras
from keras import ops

from keras_wp import _checks, objectives


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


@keras.saving.register_keras_serializable(package="keras_wp")
class CertifiedMargin(keras.losses.Loss):
    """Cross-entropy of margins, as distances, less the radius to certify.

    `loss = T log(1 + sum_j exp((eps - (z_y - z_j) / d) / T))` over the classes
    `j` other than `y`. Behind layers that stretch no distance, a margin over
    the distance `d` of the class weights is the radius within which the
    prediction cannot change: the loss is a smooth form of `eps` less that
    radius, where it is too short.

    Args:
        eps: The l2 radius to certify, in units of the pixels, at least 0. A
            larger one trades clean accuracy for certified accuracy.
        temperature: The temperature `T`, above 0, in the same units. Defaults
            to 0.3.
        distance: The distance `d` of two class weights. Defaults to 1, that
            of `keras_wp.lipschitz.LipschitzHead`; with a `RobustHead`, it is
            `s * sqrt(2 K / (K - 1))`.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`, the mean.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: If an argument is out of its range; when called with
            labels of another shape than below.

    Input shape:
        `y_true`: integer labels `(N,)` or `(N, 1)`; `y_pred`: logits `(N, K)`.

    Reference:
        Prach and Lampert, "Almost-orthogonal layers for efficient
        general-purpose Lipschitz networks" (ECCV 2022), section 5: the loss
        with an offset and a temperature.

    Example:

    >>> loss = CertifiedMargin(eps=1.0, temperature=0.01)
    >>> logits = np.array([[1.0, 0.0], [0.5, 0.0]])
    >>> [round(float(loss(np.array([0]), row[None])), 3) for row in logits]
    [0.007, 0.5]
    """

    def __init__(
        self,
        eps,
        temperature=0.3,
        distance=1.0,
        reduction="sum_over_batch_size",
        name="certified_margin",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _checks.check_not_negative(eps=eps)
        _checks.check_positive(temperature=temperature, distance=distance)
        self.eps = float(eps)
        self.temperature = float(temperature)
        self.distance = float(distance)

    def call(self, y_true, y_pred):
        """Returns the loss of each image, `(N,)`.

        Raises:
            ValueError: If there is not one label for each image.
        """
        labels = _checks.batch_labels(y_true)
        own = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        radii = y_pred / self.distance - self.eps * own
        entropy = ops.categorical_crossentropy(
            own, radii / self.temperature, from_logits=True
        )
        return self.temperature * entropy

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            "eps": self.eps,
            "temperature": self.temperature,
            "distance": self.distance,
        }


@keras.saving.register_keras_serializable(package="keras_wp")
class HypersphereMargin(keras.losses.Loss):
    """Cross-entropy of cosines, less a margin for that of the right class.

    `loss = -log(exp(z_y - scale m) / (exp(z_y - scale m) + sum_j exp(z_j)))`
    over the classes `j` other than `y`, where `z = scale cos(angles)` are the
    logits of a `keras_wp.layers.HypersphereHead`: the margin is taken from the
    cosine, not added to the angle, so that there is no arc cosine, and
    gradients are finite everywhere. Without a margin it is the cross-entropy
    of the logits, which is what the authors' attacks in training increase, as
    those of a `keras_wp.defenses.Defense` do.

    Args:
        margin: The margin `m` of the cosine, from 0 to below 2. Defaults to
            `0.2`, the authors' choice for adversarial training and TRADES.
        scale: The scale of the head. Defaults to `15.0`, the authors' choice.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`, the mean.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: If an argument is out of its range; when called with
            labels of another shape than below.

    Input shape:
        `y_true`: integer labels `(N,)` or `(N, 1)`; `y_pred`: logits `(N, K)`.

    Reference:
        Pang et al., "Boosting adversarial training with hypersphere embedding"
        (NeurIPS 2020), section 3.2, and the authors' code.

    Example:

    >>> loss = HypersphereMargin(margin=0.2, scale=10.0)
    >>> logits = np.array([[2.0, 0.0], [-1.0, 1.0]])
    >>> round(float(loss(np.array([0, 0]), logits)), 3)
    2.356
    """

    def __init__(
        self,
        margin=0.2,
        scale=15.0,
        reduction="sum_over_batch_size",
        name="hypersphere_margin",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _checks.check_not_negative(margin=margin)
        if margin >= 2:
            raise ValueError(
                "Argument `margin` must be below 2, as two cosines differ by "
                f"no more. Received: margin={margin!r}"
            )
        _checks.check_positive(scale=scale)
        self.margin = float(margin)
        self.scale = float(scale)

    def call(self, y_true, y_pred):
        """Returns the loss of each image, `(N,)`.

        Raises:
            ValueError: If there is not one label for each image.
        """
        labels = _checks.batch_labels(y_true)
        own = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        shifted = y_pred - self.scale * self.margin * own
        return objectives.cross_entropy(shifted, labels)

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "scale": self.scale,
        }
