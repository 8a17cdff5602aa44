"""The head whose margins are distances."""

import keras
import numpy as np
from keras import ops

from keras_wp import simplex
from keras_wp.lipschitz import kernels
from keras_wp.lipschitz.dense import _Dense


@keras.saving.register_keras_serializable(package="keras_wp")
class LipschitzHead(_Dense):
    """A classification layer whose class weights always form the simplex.

    `logits = inputs @ kernel`, without bias. The class weights are the
    vertices of a regular simplex around the origin, at a distance of 1 from
    each other: `kernel = (Q - mean of its columns) / sqrt(2)`, where the
    columns of `Q` are orthonormal. It turns as it learns, and needs no
    penalty. (Its distances are short of 1 by 6e-5, for float32.)

    The margin `z_y - z_j` of an image is then the length by which the features
    must move, at least, to make it class `j`: behind layers that stretch no
    distance, the image itself must. Train with
    `keras_wp.losses.CertifiedMargin`.

    Args:
        units: Number of classes, an integer of at least 2.
        kernel_initializer: Initializer of the free weights. Defaults to
            `"glorot_uniform"`.
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        `(..., features)`, usually `(batch, features)`.

    Output shape:
        `(..., units)`.

    Attributes:
        free: The weights that are trained, `(features, units)`.
        kernel: The class weights of the last training step, of the same
            shape.

    Raises:
        ValueError: If an argument is out of its range; when built, if
            `features` is unknown or less than `units`.

    Reference:
        Xu, Li and Yang, "Improve adversarial robustness via weight
        penalization on classification layer", Section 3; the radius is that
        of Tsuzuku, Sato and Sugiyama, "Lipschitz-margin training" (NeurIPS
        2018), for the distances of each pair of classes.
    """

    def __init__(self, units, kernel_initializer="glorot_uniform", **kwargs):
        simplex.validate_num_classes(units, name="units")
        super().__init__(units, False, kernel_initializer, **kwargs)

    def build(self, input_shape):
        """Creates the kernel for inputs of a known last axis."""
        if input_shape[-1] is not None and input_shape[-1] < self.units:
            raise ValueError(
                "`LipschitzHead` needs at least as many features as classes. "
                f"Received: {input_shape[-1]} features for {self.units} "
                "classes"
            )
        super().build(input_shape)

    def constrained(self, free):
        """The class weights that free weights stand for."""
        columns = kernels.orthogonal(free)
        columns = columns - ops.mean(columns, axis=1, keepdims=True)
        return columns * float(np.sqrt(0.5))

    def get_config(self):
        """Returns the arguments that make an equal one."""
        config = super().get_config()
        del config["use_bias"]
        return config
