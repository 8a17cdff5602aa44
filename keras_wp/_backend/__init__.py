"""The few operations that `keras.ops` lacks, for each backend.

This package is the only place that names TensorFlow or JAX. A backend
module offers:

- `vjp(fn, x)`: `(fn(x), pullback)`, where `pullback` may be called many times
  and maps a cotangent of the output to one of `x`.
- `compile(fn, variables)`: `fn` compiled for tensors whose first axis may
  vary, with `variables()` read afresh at each call. The result has a `traces`
  counter.
- `DYNAMIC_BATCH`: whether a compiled function serves every batch size with
  one trace.
- `preferred_slots(batch_size)`: how many images at a time are fastest here.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_wp._backend.tensorflow import (
        DYNAMIC_BATCH,
        compile,
        preferred_slots,
        vjp,
    )
elif keras.backend.backend() == "jax":
    from keras_wp._backend.jax import (
        DYNAMIC_BATCH,
        compile,
        preferred_slots,
        vjp,
    )
else:
    raise ImportError(
        "keras_wp runs on the Keras backends 'tensorflow' and 'jax'. "
        f"Received: backend={keras.backend.backend()!r}"
    )

__all__ = ["DYNAMIC_BATCH", "compile", "preferred_slots", "vjp"]
