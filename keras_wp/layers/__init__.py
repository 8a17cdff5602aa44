"""Classification heads."""

import keras
from keras import ops

from keras_wp import _compiled, simplex
from keras_wp.layers.hypersphere import HypersphereHead
from keras_wp.regularizers import SimplexRegularizer

__all__ = ["HypersphereHead", "MaxMahalanobisHead", "RobustHead"]

# The heads below are told by this module's name: an interrupted evaluation of
# an earlier version finds its model again.


@keras.saving.register_keras_serializable(package="keras_wp")
class RobustHead(keras.layers.Layer):
    """The paper's classification layer: an activation, then class weights.

    `logits = activation(inputs) @ kernel`, without bias, and with a
    `SimplexRegularizer` on `kernel`. Give it what the layer before it
    computes with no activation of its own (in the authors' networks, the
    output of a `BatchNormalization`), and train with a loss that takes
    logits.

    A saturating activation rounds to a constant where its input is large: on
    float32 `tanh` from about 9 on, in bfloat16 from about 3.5. Gradients
    vanish there, and attacks that follow them fail without the model being
    robust. Under a mixed precision policy, pass `dtype="float32"`, unless you
    mean to have the head and its logits in the compute type.

    Args:
        units: Number of classes, an integer of at least 2.
        s: Length of a class weight, a positive number. Defaults to `0.1`.
        alpha: Weight of the penalty, a number of at least 0. Defaults to
            `100.0`.
        activation: Activation applied to the inputs: a name, a function, or
            a layer such as `keras.layers.PReLU()`. Defaults to `"tanh"`;
            `None` leaves them as they are.
        kernel_initializer: Initializer of the kernel. Defaults to
            `"glorot_uniform"`; `keras_wp.initializers.SimplexVertices(s)`
            starts where the penalty is zero.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Input shape:
        `(..., features)`, usually `(batch, features)`.

    Output shape:
        `(..., units)`.

    Attributes:
        activation: The activation, a callable: `activation(inputs)` are the
            features whose angles the paper reasons about.
        dense: The `keras.layers.Dense` layer on the features.
        kernel: Its weights, of shape `(features, units)`.

    Raises:
        ValueError: If an argument is out of its range; when built, if
            `features` is unknown or less than `units - 1`; when training
            begins, if it ends a model that is compiled with a loss of
            probabilities, such as `"sparse_categorical_crossentropy"`.

    Reference:
        Xu, Li and Yang, "Improve adversarial robustness via weight
        penalization on classification layer", Section 3.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((784,)),
    ...         keras.layers.Dense(200),
    ...         keras.layers.BatchNormalization(),
    ...         RobustHead(10),
    ...     ]
    ... )
    >>> model.compile(
    ...     "adam",
    ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ... )
    """

    def __init__(
        self,
        units,
        s=0.1,
        alpha=100.0,
        activation="tanh",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        simplex.validate_num_classes(units, name="units")
        self.units = int(units)
        self.s = s
        self.alpha = alpha
        self.activation = keras.activations.get(activation)
        self.dense = keras.layers.Dense(
            self.units,
            use_bias=False,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=SimplexRegularizer(s, alpha),
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="dense",
        )
        # Keras tells layers within when it is changed, and not before.
        if isinstance(self.activation, keras.layers.Layer):
            self.activation.trainable &= self.trainable

    def build(self, input_shape):
        """Creates the kernel for inputs of a known last axis."""
        features = _known_features(self, input_shape)
        simplex.validate_dimensions(self.units, features)
        activation = self.activation
        if isinstance(activation, keras.layers.Layer) and not activation.built:
            activation.build(input_shape)
        self.dense.build(input_shape)

    @_compiled.with_logits
    def call(self, inputs):
        """Returns the logits of `inputs`."""
        return self.dense(self.activation(inputs))

    def compute_output_shape(self, input_shape):
        """Returns the shape of the logits."""
        return tuple(input_shape[:-1]) + (self.units,)

    @property
    def kernel(self):
        """The class weights, of shape `(features, units)`."""
        return self.dense.kernel

    def min_angle(self):
        """Smallest angle between two class weights, in radians.

        It approaches `keras_wp.simplex.ideal_angle(units)` in training.
        """
        return simplex.min_angle(self.kernel)

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            "units": self.units,
            "s": self.s,
            "alpha": self.alpha,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(
                self.dense.kernel_initializer
            ),
        }


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
        features = _known_features(self, input_shape)
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


def _known_features(layer, input_shape):
    """The last axis of the input shape, if it is known."""
    features = input_shape[-1]
    if features is None:
        raise ValueError(
            f"`{type(layer).__name__}` must know the number of features, the "
            "last axis of its input. Received: "
            f"input_shape={tuple(input_shape)}"
        )
    return features
