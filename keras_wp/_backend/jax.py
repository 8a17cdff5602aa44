"""JAX: pure functions of the variables' values."""

import jax
import keras

DYNAMIC_BATCH = False


def vjp(fn, x):
    outputs, pull = jax.vjp(fn, x)
    return outputs, lambda cotangent: pull(cotangent)[0]


class compile:
    """A jitted function that takes the variables' values as an argument.

    A closure would bake the weights of the moment into the program.
    """

    def __init__(self, fn, variables=lambda: ()):
        self._fn = fn
        self._variables = variables
        self._compiled = jax.jit(self._traced)
        self.traces = 0

    def _traced(self, values, *args):
        self.traces += 1
        mapping = list(zip(self._variables(), values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return self._fn(*args)

    def __call__(self, *args):
        values = [variable.value for variable in self._variables()]
        return self._compiled(values, *args)


def preferred_slots(batch_size):
    # XLA on a CPU runs convolutions on 8 images at the cost of TensorFlow's,
    # and on more images at up to twice that.
    if jax.default_backend() == "cpu":
        return min(batch_size, 8)
    return batch_size
