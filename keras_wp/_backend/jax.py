"""JAX: pure functions of the variables' values."""

import contextlib

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

ANYWHERE = (None,)
DYNAMIC_BATCH = False
# A program of one iteration beside the loop would be compiled, too.
LOOPS_COST = False

# More copies of a loop's body take too long to compile.
_MOST_UNROLLED = 50
_AXIS = "slots"
_EVERYWHERE, _BY_ROWS = PartitionSpec(), PartitionSpec(_AXIS)


def vjp(fn, x):
    outputs, pull = jax.vjp(fn, x)
    return outputs, lambda cotangent: pull(cotangent)[0]


def gradient(fn, tensors):
    return jax.grad(fn)(list(tensors))


def over_replicas(tensors):
    return tensors  # A program is one for all the devices.


def select(mask, yes, no):
    mask = jnp.reshape(mask, (-1, *[1] * (jnp.ndim(yes) - 1)))
    return jnp.where(mask, yes, no)


def words(x):
    return x


def of_shape(x, like):
    del like
    return x


def in_parts(fn, x):
    return fn(x)


def dividing():
    return contextlib.nullcontext()


def devices(variables):
    meshes = []
    for variable in variables:
        sharding = variable.value.sharding
        if isinstance(sharding, NamedSharding):
            meshes.append(sharding.mesh.devices)
    distribution = keras.distribution.distribution()
    if not variables and distribution is not None:
        meshes.append(distribution.device_mesh.backend_mesh.devices)
    found = max(meshes, key=np.size, default=np.empty(0)).ravel()
    if len(found) < 2:
        return ANYWHERE
    processes = {device.process_index for device in found}
    if len(processes) > 1:
        raise ValueError(
            "Attacks run on the devices of one process: load the model in a "
            "process without the others. Received: a model on the devices of "
            f"{len(processes)} processes"
        )
    return tuple(found)


def _mesh(devices):
    return Mesh(np.array(devices), (_AXIS,))


def spread(tree, devices, shares=None):
    del shares  # All are equal.
    if len(devices) == 1:
        return keras.tree.map_structure(keras.ops.convert_to_tensor, tree)
    return jax.device_put(tree, NamedSharding(_mesh(devices), _BY_ROWS))


def to_numpy(x):
    return np.asarray(x)


def rows(x, places):
    places, found, begin = np.asarray(places), [], 0
    for shard in sorted(x.addressable_shards, key=_first_row):
        count = len(shard.data)
        mine = places[(begin <= places) & (places < begin + count)] - begin
        begin += count
        if len(mine):
            # Each number of rows is compiled separately: let there be few.
            padded = np.resize(mine, 1 << (len(mine) - 1).bit_length())
            some = np.asarray(_take(shard.data, padded))
            found.append(some[: len(mine)])
    return np.concatenate(found)


def _first_row(shard):
    return shard.index[0].start or 0


@jax.jit
def _take(x, places):
    return x[places]


class compile:
    """A jitted function that takes the variables' values as an argument.

    A closure would bake the weights of the moment into the program.
    """

    def __init__(self, fn, variables=tuple, devices=ANYWHERE):
        self._fn = fn
        self._variables = variables
        self._compiled = jax.jit(
            self._traced if len(devices) == 1 else self._on_each
        )
        self.devices = devices
        self.traces = 0
        self._calls = 0

    def _traced(self, values, call, *args):
        self.traces += 1
        mapping = [
            (variable, _fresh(variable, value, call))
            for variable, value in zip(self._variables(), values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=mapping):
            return self._fn(*args)

    def _on_each(self, values, call, *args):
        """One program, which every device runs on its own rows."""
        layouts = keras.tree.map_structure(
            lambda x: _BY_ROWS if x.ndim else _EVERYWHERE, args
        )
        run = jax.shard_map(
            self._traced,
            mesh=_mesh(self.devices),
            in_specs=(_EVERYWHERE, _EVERYWHERE, *layouts),
            out_specs=_BY_ROWS,
            # Rows never meet, so there is nothing to check; and the branches
            # of a condition may differ in what varies with the device.
            check_vma=False,
        )
        return run(values, call, *args)

    def __call__(self, *args):
        values = [variable.value for variable in self._variables()]
        self._calls += 1
        return self._compiled(values, np.uint32(self._calls), *args)


def _fresh(variable, value, call):
    """A variable's value; for a generator's state, another in each call.

    What a call makes of that state is lost with it, and the next one would
    draw the same random numbers.
    """
    if variable.name != "seed_generator_state":
        return value
    return value + jnp.stack([jnp.zeros_like(call), call])


def preferred_slots(batch_size):
    # XLA on a CPU runs convolutions on 8 images at 1 to 1.7 times the cost of
    # TensorFlow's, and on more images at 2 to 2.7 times.
    if jax.default_backend() == "cpu":
        return min(batch_size, 8)
    return batch_size


def coarse_products():
    fine = jax.config.jax_default_matmul_precision in ("highest", "float32")
    if jax.default_backend() != "cpu" and not fine:
        return (
            'call jax.config.update("jax_default_matmul_precision", "highest")'
        )
    return None


def steps_at_once():
    # See `repeat`.
    return 1 if jax.default_backend() == "cpu" else 8


def repeat(times, body, state):
    # In a loop, XLA on a CPU takes several times as long for a convolution.
    if jax.default_backend() == "cpu" and times <= _MOST_UNROLLED:
        for _ in range(times):
            state = body(state)
        return state
    return jax.lax.fori_loop(0, times, lambda _, s: body(s), state)
