"""SavedModels, which TensorFlow alone can run, as callables."""

import keras
import numpy as np


class SavedModel:
    """The serving signature of a SavedModel, from images to logits.

    Args:
        path: Its directory.

    Attributes:
        input_shape: The shape of one image, None where it may vary.
        differentiable: Whether it has gradients with respect to images. What
            was exported from JAX has none, nor has what rounds its inputs.

    Raises:
        ValueError: If Keras's backend is another than TensorFlow, or the
            signature does not map one batch of images to one tensor.
    """

    def __init__(self, path):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "A SavedModel runs on the backend 'tensorflow' only. "
                f"Received: backend={keras.backend.backend()!r}"
            )
        import tensorflow as tf

        # Its functions live as long as the module they were read with.
        self._module = tf.saved_model.load(str(path))
        signatures = dict(self._module.signatures)
        function = signatures.get("serving_default")
        if function is None:
            raise ValueError(
                "The SavedModel must have a signature 'serving_default'. "
                f"Received: {sorted(signatures)}"
            )
        inputs = function.structured_input_signature[1]
        outputs = function.structured_outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                "The SavedModel must map one input to one output. Received: "
                f"the inputs {sorted(inputs)} and the outputs "
                f"{sorted(outputs)}"
            )
        ((self._input, spec),) = inputs.items()
        ((self._output, _),) = outputs.items()
        if not spec.dtype.is_floating or spec.shape.rank is None:
            raise ValueError(
                "The SavedModel must take floating-point images of a known "
                f"number of axes. Received: an input of type {spec.dtype.name} "
                f"and shape {spec.shape}"
            )
        if spec.shape[0] is not None:
            raise ValueError(
                "The SavedModel must take batches of any size. Received: an "
                f"input of shape {spec.shape}"
            )
        self._function, self._dtype = function, spec.dtype
        self.input_shape = tuple(spec.shape[1:])
        self.name = getattr(path, "name", None) or str(path)
        self.differentiable = self._is_differentiable()

    def __call__(self, x):
        shape = tuple(x.shape[1:])
        fits = len(shape) == len(self.input_shape) and all(
            wanted in (None, given)
            for wanted, given in zip(self.input_shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"The SavedModel takes images of the shape {self.input_shape}. "
                f"Received: images of the shape {shape}"
            )
        x = keras.ops.cast(x, self._dtype.name)
        return self._function(**{self._input: x})[self._output]

    def _is_differentiable(self):
        import tensorflow as tf

        shape = [8 if axis is None else axis for axis in self.input_shape]
        x = np.random.default_rng(0).uniform(size=(2, *shape))
        x = tf.constant(x, tf.float32)
        try:
            with tf.GradientTape() as tape:
                tape.watch(x)
                logits = self(x)
            # No gradient is registered for some operations.
            return tape.gradient(logits, x) is not None
        except (LookupError, tf.errors.OpError):
            return False
