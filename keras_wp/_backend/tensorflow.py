"""TensorFlow: gradient tapes and graph functions."""

import functools

import keras
import tensorflow as tf

DYNAMIC_BATCH = True


def vjp(fn, x):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape(
        persistent=True, watch_accessed_variables=False
    ) as tape:
        tape.watch(x)
        outputs = fn(x)

    def pullback(cotangent):
        return tape.gradient(
            outputs,
            x,
            output_gradients=cotangent,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    return outputs, pullback


class compile:
    """A graph function with a free first axis, traced at the first call."""

    def __init__(self, fn, variables=lambda: ()):
        del variables  # A graph reads its variables by reference.
        self._fn = fn
        self._compiled = None
        self.traces = 0

    def _traced(self, *args):
        self.traces += 1
        return self._fn(*args)

    def __call__(self, *args):
        args = keras.tree.map_structure(tf.convert_to_tensor, args)
        if self._compiled is None:
            signature = keras.tree.map_structure(
                lambda t: tf.TensorSpec(_free_batch(t.shape), t.dtype), args
            )
            # No jit_compile: on a CPU, XLA is slower than the graph.
            # TensorFlow counts traces by a function's code, and would warn of
            # one function traced too often; a partial has no code.
            self._compiled = tf.function(
                functools.partial(self._traced),
                input_signature=signature,
                autograph=False,
            )
        return self._compiled(*args)


def _free_batch(shape):
    return [None, *shape[1:]] if shape.rank else []


def preferred_slots(batch_size):
    # On a CPU 32 images use the cores as well as 128, and larger batches
    # suffer page faults from the allocator.
    if tf.config.list_logical_devices("GPU"):
        return batch_size
    return min(batch_size, 32)
