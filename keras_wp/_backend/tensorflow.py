"""TensorFlow: gradient tapes and graph functions."""

import contextlib
import contextvars
import functools
import math
import os

import keras
import numpy as np
import tensorflow as tf

ANYWHERE = (None,)
DYNAMIC_BATCH = True
# A loop of one iteration takes some milliseconds longer than the iteration.
LOOPS_COST = True

# Into how many parts a pass through a model is divided in what is traced.
_parts = contextvars.ContextVar("parts", default=1)
# Smaller parts of the slots, fewer than 8 images, are less efficient; and what
# passes of images of fewer numbers cost is to begin each operation.
_MOST_PARTS = 4
_LEAST_SIZE = 256


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


def gradient(fn, tensors):
    tensors = [tf.convert_to_tensor(x) for x in tensors]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = fn(tensors)
    found = tape.gradient(
        value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # That of an embedding is sparse.
    return [tf.convert_to_tensor(x) for x in found]


def over_replicas(tensors):
    replica = tf.distribute.get_replica_context()
    if not tensors or replica is None or replica.num_replicas_in_sync == 1:
        return tensors
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def select(mask, yes, no):
    yes = tf.convert_to_tensor(yes)
    if yes.dtype.is_floating:
        # A row for a row. `tf.where` has every pixel look for its mask, and
        # takes ten times as long.
        return tf.raw_ops.Select(condition=mask, x=yes, y=no)
    mask = tf.reshape(mask, [-1, *[1] * (yes.shape.rank - 1)])
    return tf.where(mask, yes, no)


def words(x):
    return x


def of_shape(x, like):
    x = tf.convert_to_tensor(x)
    x.set_shape(like.shape)
    return x


def in_parts(fn, x):
    parts = _parts.get()
    small = math.prod(x.shape[1:]) < _LEAST_SIZE
    if parts == 1 or small or tf.executing_eagerly():
        return fn(x)
    count = tf.shape(x)[0]
    size = (count + parts - 1) // parts
    outputs = []
    for part in range(parts):
        # Where there are too few rows for all, the last parts repeat the last
        # row, and that is cut off.
        begin = tf.minimum(part * size, count - 1)
        outputs.append(fn(x[begin : begin + size]))
    return tf.concat(outputs, axis=0)[:count]


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


@contextlib.contextmanager
def dividing():
    # On some processors TensorFlow runs small convolutions of one batch on two
    # cores 1.5 times as fast as on one, and those of two halves side by side
    # 1.9 times. On others, halves of 16 images win a tenth, and those of fewer
    # than 4 lose.
    only = len(tf.config.list_logical_devices()) == 1
    token = _parts.set(min(_cores(), _MOST_PARTS) if only else 1)
    try:
        yield
    finally:
        _parts.reset(token)


def devices(variables):
    for variable in variables:
        value = getattr(variable, "value", variable)
        if isinstance(value, tf.distribute.DistributedValues):
            return _devices_of(value.distribute_strategy)
    strategy = tf.distribute.get_strategy()
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    return ANYWHERE if variables or not mirrored else _devices_of(strategy)


def _devices_of(strategy):
    return tuple(strategy.extended.worker_devices)


class _Spread:
    """A tensor of which each of several devices has some rows."""

    def __init__(self, *parts):
        self.parts = parts


def _part(x, index):
    return x.parts[index] if isinstance(x, _Spread) else x


def _join(*parts):
    return parts[0] if len(parts) == 1 else _Spread(*parts)


def spread(tree, devices, shares=None):
    def one(x):
        if len(devices) == 1:
            parts = [x]
        elif shares is None:
            parts = np.array_split(x, len(devices))
        else:
            parts = np.split(x, np.cumsum(shares)[:-1])
        return _join(*map(_to_device, parts, devices))

    return keras.tree.map_structure(one, tree)


def _to_device(x, device):
    with _on(device):
        return tf.convert_to_tensor(x)


def _on(device):
    return contextlib.nullcontext() if device is None else tf.device(device)


def to_numpy(x):
    if isinstance(x, _Spread):
        return np.concatenate([part.numpy() for part in x.parts])
    return keras.ops.convert_to_numpy(x)


def rows(x, places):
    places, found, begin = np.asarray(places), [], 0
    for part in x.parts if isinstance(x, _Spread) else (x,):
        count = part.shape[0]
        mine = places[(begin <= places) & (places < begin + count)] - begin
        begin += count
        if len(mine):
            with tf.device(part.device):
                found.append(tf.gather(part, mine).numpy())
    return np.concatenate(found)


class compile:
    """A graph function with a free first axis, traced at the first call.

    Later arguments must have the structure of the first ones.

    On several devices, one graph holds a tower for each: an image in one of
    them costs a step of all, and all of them run at once.
    """

    def __init__(self, fn, variables=tuple, devices=ANYWHERE):
        # A graph reads its variables by reference: each tower, in a mirrored
        # variable, the copy of its own device.
        del variables
        self._fn = fn
        self._compiled = self._graph = None
        # What arguments and results look like, without their tensors.
        self._taken = self._returned = None
        self.devices = devices
        self.traces = 0

    def _traced(self, *towers):
        results = []
        for device, tensors in zip(self.devices, towers, strict=True):
            self.traces += 1
            args = tf.nest.pack_sequence_as(self._taken, tensors)
            with _on(device), dividing():
                result = self._fn(*args)
            self._returned = _structure(result)
            results.append(tf.nest.flatten(result))
        return results

    def __call__(self, *args):
        tensors = [_tensors(x) for x in tf.nest.flatten(args)]
        towers = [
            [_part(x, i) for x in tensors] for i in range(len(self.devices))
        ]
        if self._compiled is None:
            self._taken = _structure(args)
            signature = tf.nest.map_structure(
                lambda t: tf.TensorSpec(_free_batch(t.shape), t.dtype), towers
            )
            # No jit_compile: on a CPU, XLA is slower than the graph.
            # TensorFlow counts traces by a function's code, and would warn of
            # one function traced too often; a partial has no code.
            self._compiled = tf.function(
                functools.partial(self._traced),
                input_signature=signature,
                autograph=False,
            )
        call = self._compiled
        if not tf.config.functions_run_eagerly():
            # With its one trace at hand, a call costs half of what it does
            # otherwise.
            self._graph = self._graph or call.get_concrete_function()
            call = self._graph
        try:
            results = map(_join, *call(*towers))
        except tf.errors.InvalidArgumentError as error:
            if "Detected Infinity or NaN" not in str(error):
                raise
            # Distances of images that resist are infinite, on purpose.
            raise ValueError(
                "Attacks use infinities: call tf.debugging."
                "disable_check_numerics() before. Received: numerics that are "
                "checked (tf.debugging.enable_check_numerics)"
            ) from None
        return tf.nest.pack_sequence_as(self._returned, list(results))


def _structure(tree):
    return tf.nest.map_structure(lambda _: None, tree)


def _tensors(x):
    return x if isinstance(x, _Spread) else tf.convert_to_tensor(x)


def _free_batch(shape):
    return [None, *shape[1:]] if shape.rank else []


def preferred_slots(batch_size):
    # On a CPU larger batches suffer page faults from the allocator; in smaller
    # ones, what surrounds a call is paid more often.
    if tf.config.list_logical_devices("GPU"):
        return batch_size
    return min(batch_size, 64)


def coarse_products():
    coarse = tf.config.experimental.tensor_float_32_execution_enabled()
    if coarse and tf.config.list_logical_devices("GPU"):
        return (
            "call tf.config.experimental."
            "enable_tensor_float_32_execution(False)"
        )
    return None


def steps_at_once():
    # To call a graph and to look at what it returns takes about a millisecond,
    # much of a small network's step. More would make Ctrl-C wait for longer.
    return 8


def repeat(times, body, state):
    if times == 1:
        return body(state)  # See `LOOPS_COST`.
    return keras.ops.fori_loop(0, times, lambda _, s: body(s), state)
