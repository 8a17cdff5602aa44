"""The head of fixed class centers."""

import keras
from keras import ops

from keras_wp import _compiled, simplex
from keras_wp.layers.shapes import known_features


@keras.saving.register_keras_serializable(package="keras_wp")
class MaxMahalanobisHead(keras.layers.Layer):
    """Logits are minus the squared distances from fixed class centers.

    `logits_k = -||inputs - mu_k||_2^2`, where the centers `mu_k`, of length
    `scale`, are the vertices of a regular simplex: `simplex.vertices`. It has
    no weights. The prediction is the nearest center. Give it linear features,
    the output of a `Dense` layer without activation, and train with
    `keras_wp.losses.MaxMahalanobisCenter`.

    Under a mixed precision policy, pass `dtype="float32"`, unless you mean to
    have the distances in the compute type.

    Args:
        units: Number of classes, an integer of at least 2.
        scale: Length of a center, a positive number. Defaults to `10.0`, the
            authors' choice.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Input shape:
        `(batch, features)`.

    Output shape:
        `(batch, units)`.

    Attributes:
        centers: `(units, features)`, once it is built.

    Raises:
        ValueError: If an argument is out of its range; when built, if
            `features` is unknown or less than `units - 1`; when training
            begins, if it ends a model that is compiled with a loss of
            probabilities, such as `"sparse_categorical_crossentropy"`.

    Reference:
        Pang et al., "Rethinking softmax cross-entropy loss for adversarial
        robustness" (ICLR 2020), section 3.3, and the authors' code.

    Example:

    >>> head = MaxMahalanobisHead(3, scale=1.0)
    >>> head.build((None, 2))
    >>> logits = head(head.centers)
    >>> [int(row.argmax()) for row in np.asarray(logits)]
    [0, 1, 2]
    """

    def __init__(self, units, scale=10.0, **kwargs):
        super().__init__(**kwargs)
        simplex.validate_num_classes(units, name="units")
        simplex.validate_s(scale, name="scale")
        self.units = int(units)
        self.scale = float(scale)

    def build(self, input_shape):
        """Places the centers among inputs of a known last axis."""
        features = known_features(self, input_shape)
        centers = simplex.vertices(self.units, features, self.scale)
        self.centers = centers.astype("float32")

    @_compiled.with_logits
    def call(self, inputs):
        """Returns the logits of `inputs`."""
        centers = ops.cast(self.centers, inputs.dtype)
        # Not by the binomial formula: it cancels near a center.
        delta = inputs[:, None, :] - centers[None]
        return -ops.sum(ops.square(delta), axis=-1)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the logits."""
        return tuple(input_shape[:-1]) + (self.units,)

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            "units": self.units,
            "scale": self.scale,
        }
