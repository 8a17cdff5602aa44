"""The head of angles: normalized features and normalized class weights."""

import keras
from keras import ops

from keras_wp import _checks, _compiled, simplex

# Shorter vectors are not brought to length 1, but divided by this. A gradient
# is at most its inverse, which float16 must be able to hold.
SHORTEST = 1e-6
SHORTEST_HALF = 1e-2


def unit(vectors, axis, shortest=SHORTEST):
    """Vectors divided by their lengths: `v / max(||v||_2, shortest)`.

    Computed in float32, at least, and returned in the type of `vectors`.
    """
    kind = keras.backend.result_type(vectors.dtype, "float32")
    exact = ops.cast(vectors, kind)
    square = ops.sum(ops.square(exact), axis=axis, keepdims=True)
    length = ops.sqrt(ops.maximum(square, shortest**2))
    return ops.cast(exact / length, vectors.dtype)


class _UnitDense(keras.layers.Dense):
    """A dense layer without bias, the columns of whose kernel have length 1."""

    @property
    def kernel(self):
        return unit(ops.convert_to_tensor(self._kernel), axis=0)

    def save_own_variables(self, store):
        store["0"] = self._kernel

    def load_own_variables(self, store):
        self._kernel.assign(store["0"])


@keras.saving.register_keras_serializable(package="keras_wp")
class HypersphereHead(keras.layers.Layer):
    """Logits are cosines of angles to the class weights, times a scale.

    `logits_k = scale * cos(angle of inputs and w_k)`, without bias: features
    and class weights count by their directions alone. Train with
    `keras_wp.losses.HypersphereMargin` of the same scale, or without a margin,
    as attacks do, with the cross-entropy of the logits.

    The authors put it behind the last activation of their networks and its
    pooling; it takes linear features as well. They bring class weights back to
    length 1 after each step of training; here the length is divided by in each
    pass, so that averaged or perturbed weights lie on the sphere, too.

    Features shorter than 1e-6 (1e-2 where they are float16) are divided by
    that instead of their length: zeros have the logits 0 and a finite
    gradient. Lengths are computed in float32. Under a mixed precision policy,
    pass `dtype="float32"`, unless you mean to have logits in the compute type.

    Args:
        units: Number of classes, an integer of at least 2.
        scale: The largest logit, a positive number. Defaults to `15.0`, the
            authors' choice.
        kernel_initializer: Initializer of the class weights. Defaults to
            `"glorot_uniform"`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Input shape:
        `(..., features)`, usually `(batch, features)`.

    Output shape:
        `(..., units)`.

    Attributes:
        dense: The layer with the class weights, on features of the length
            `scale`.
        kernel: The class weights, `(features, units)`, each of length 1.

    Raises:
        ValueError: If an argument is out of its range; when built, if
            `features` is unknown; when training begins, if it ends a model
            that is compiled with a loss of probabilities, such as
            `"sparse_categorical_crossentropy"`.

    Reference:
        Pang et al., "Boosting adversarial training with hypersphere embedding"
        (NeurIPS 2020), section 3.2, and the authors' code.

    Example:

    >>> head = HypersphereHead(2, scale=10.0)
    >>> head.build((None, 2))
    >>> head.set_weights([np.array([[1.0, 0.0], [0.0, 5.0]])])
    >>> logits = head(np.array([[3.0, 4.0]], "float32"))
    >>> [round(float(logit), 3) for logit in logits[0]]
    [6.0, 8.0]
    """

    def __init__(
        self,
        units,
        scale=15.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        simplex.validate_num_classes(units, name="units")
        _checks.check_positive(scale=scale)
        self.units = int(units)
        self.scale = float(scale)
        self.dense = _UnitDense(
            self.units,
            use_bias=False,
            kernel_initializer=kernel_initializer,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="dense",
        )

    def build(self, input_shape):
        """Creates the class weights for inputs of a known last axis."""
        if input_shape[-1] is None:
            raise ValueError(
                "`HypersphereHead` must know the number of features, the last "
                "axis of its input. Received: "
                f"input_shape={tuple(input_shape)}"
            )
        self.dense.build(input_shape)

    @_compiled.with_logits
    def call(self, inputs):
        """Returns the logits of `inputs`."""
        half = keras.backend.standardize_dtype(inputs.dtype) == "float16"
        shortest = SHORTEST_HALF if half else SHORTEST
        return self.dense(self.scale * unit(inputs, -1, shortest))

    def compute_output_shape(self, input_shape):
        """Returns the shape of the logits."""
        return tuple(input_shape[:-1]) + (self.units,)

    @property
    def kernel(self):
        """The class weights as they count, `(features, units)`."""
        return self.dense.kernel

    def min_angle(self):
        """Smallest angle between two class weights, in radians."""
        return simplex.min_angle(self.kernel)

    def get_config(self):
        """Returns the arguments that make an equal one."""
        return {
            **super().get_config(),
            "units": self.units,
            "scale": self.scale,
            "kernel_initializer": keras.initializers.serialize(
                self.dense.kernel_initializer
            ),
        }
