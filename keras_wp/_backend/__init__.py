"""The few operations that `keras.ops` lacks, for each backend.

This package is the only place that names TensorFlow, JAX or PyTorch. A backend
module offers:

- `vjp(fn, x)`: `(fn(x), pullback)`, where `pullback` may be called many times
  and maps a cotangent of the output to one of `x`.
- `gradient(fn, tensors)`: the gradient of a scalar, `fn(tensors)`, in each of
  them.
- `over_replicas(tensors)`: their sums over the replicas that a training step
  runs on, where each sees its own part of the batch.
- `in_parts(fn, x)`: `fn(x)`, of a function that treats each row separately.
  Where that is faster, and within `dividing`, it is called on parts of the
  rows, which run side by side.
- `dividing()`: a context in which passes are divided among the cores of
  a processor that is the only device. Compiled functions are traced in it.
- `devices(variables)`: the devices that variables are copied to, or, if there
  are no variables, those of the distribution in force. Hashable; `ANYWHERE`
  if there is but one, and the backend knows best.
- `compile(fn, variables, devices)`: `fn` compiled for tensors whose first axis
  may vary, with `variables()` read afresh at each call. On several devices,
  each runs `fn` on its own share of the rows, which `spread` has sent there,
  and keeps its results. The compiled function has its `devices` and a counter
  of `traces`. Another one may call it, once it has been called by itself (on
  TensorFlow).
- `coarse_products()`: None if the device multiplies float32 as float32, or what
  to do about it.
- `select(mask, yes, no)`: the rows of `yes` where `mask` `(N,)` holds, those of
  `no`, of the same shape, elsewhere.
- `words(x)`: integers as words of 32 bits, where `uint32` may hold more.
- `of_shape(x, like)`: `x`, of which a graph then knows that it has the shape of
  `like`.
- `spread(tree, devices, shares)`: arrays of the host on devices; the first
  `shares[0]` rows on the first, and so on. Without `shares` they are equal, or
  differ by one.
- `to_numpy(x)`: all the rows of a tensor, in order, on the host.
- `repeat(times, body, state)`: `body(body(... state))`, within a graph.
- `rows(x, places)`: some of them, in rising order.
- `DYNAMIC_BATCH`: whether a compiled function serves every batch size with
  one trace. If not, the shares must always be the same.
- `preferred_slots(batch_size)`: how many images at a time are fastest here,
  on each device.
- `steps_at_once()`: how many iterations of an attack a compiled function may
  do in one call, on one device.
- `LOOPS_COST`: whether a loop of one iteration is worth a program without it.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_wp._backend.tensorflow import *  # noqa: F403
elif keras.backend.backend() == "jax":
    from keras_wp._backend.jax import *  # noqa: F403
elif keras.backend.backend() == "torch":
    from keras_wp._backend.torch import *  # noqa: F403
else:
    raise ImportError(
        "keras_wp runs on the Keras backends 'tensorflow', 'jax' and 'torch'. "
        f"Received: backend={keras.backend.backend()!r}"
    )
