"""What can be told of a layer, a class, a function or a value."""

import dis
import functools
import hashlib
import inspect
import types
import weakref

import keras
import numpy as np
from keras import ops

# What classes of these packages hold is their own affair.
_FRAMEWORKS = {"keras", "numpy", "jaxlib", keras.backend.backend()}
PLAIN = (type(None), bool, int, float, complex, str, bytes)
# What a function may look up in a global, besides other functions.
_HELD = *PLAIN, tuple, list, dict, set, np.ndarray, np.generic
# Keras numbers names, from one process to another otherwise; and the shapes
# a layer was built for have the size of a batch.
UNTOLD = ("name", "build_config")


def read_by(function):
    """What the result of a function depends on besides its arguments."""
    code = function.__code__
    yield code
    yield function.__defaults__
    yield function.__kwdefaults__
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            yield None  # It is empty yet.
    for name in code.co_names:
        yield from _of_global(function.__globals__.get(name), code.co_names)


def _of_global(value, names):
    """What a function may see of a global and of attributes so named."""
    if isinstance(value, (*_HELD, types.FunctionType)):
        yield value
        return
    kind = value if isinstance(value, (type, types.ModuleType)) else type(value)
    if package_of(kind) in (*_FRAMEWORKS, "builtins", "keras_wp"):
        return
    # Of a module, a class or an object, those that the code names.
    held = getattr(value, "__dict__", {})
    found = {name: held.get(name) for name in sorted({*names} & {*held})}
    yield [(k, v) for k, v in found.items() if isinstance(v, _HELD)]


def name_of(thing):
    """The full name of a class or a function."""
    name = getattr(thing, "__qualname__", None) or thing.__name__
    return f"{getattr(thing, '__module__', None)}.{name}"


def of_framework(thing):
    """Whether a class or a function is of Keras, NumPy or the backend."""
    return package_of(thing) in _FRAMEWORKS


def package_of(thing):
    """The package that a class, a function or a module is of."""
    module = getattr(thing, "__module__", thing.__name__)
    return str(module).partition(".")[0]


def is_graph(layer):
    """Whether a layer consists of others that it calls in a graph."""
    return isinstance(layer, keras.Sequential) or hasattr(
        layer, "_nodes_by_depth"
    )


@functools.cache
def _common_bases():
    inputs = keras.Input((1,))
    functional = type(keras.Model(inputs, inputs))
    kinds = keras.Model, keras.Sequential, functional
    return {base for kind in kinds for base in kind.__mro__} - {object}


def bases(kind, all_of_keras):
    """The classes whose attributes say nothing of what a layer computes."""
    return tuple(
        base
        for base in kind.__mro__
        if (of_framework(base) if all_of_keras else base in _common_bases())
    )


@functools.cache
def names_set_by(*kinds):
    """The attributes that the methods of these classes assign."""
    names = {"history", "name"}
    for kind in kinds:
        for member in vars(kind).values():
            # Of properties, class methods and static methods, the functions.
            parts = ("fget", "fset", "__func__")
            for part in (member, *(getattr(member, p, None) for p in parts)):
                code = getattr(inspect.unwrap(part), "__code__", None)
                for step in dis.get_instructions(code) if code else ():
                    if step.opname == "STORE_ATTR":
                        names.add(step.argval)
    return names


def config_of(layer):
    """What a layer was made with, and may have been given since."""
    try:
        return _without_names(layer.get_config())
    except Exception:
        return None  # It cannot tell.


def _without_names(config):
    if isinstance(config, dict):
        return {
            key: _without_names(value)
            for key, value in config.items()
            if key not in UNTOLD
        }
    if isinstance(config, (list, tuple)):
        return [_without_names(value) for value in config]
    return config


def digest_of(array):
    """The shape, dtype and digest of an array."""
    raw = np.ascontiguousarray(array).tobytes()
    digest = hashlib.blake2b(raw, digest_size=8).hexdigest()
    return f"{array.shape} {array.dtype} {digest}"


def tensor(value):
    """The same of a tensor."""
    try:
        return digest_of(ops.convert_to_numpy(value))
    except Exception:
        return "tensor"  # It is one of a trace.


def identity(value):
    """What tells an object from every other that is alive."""
    try:
        return weakref.ref(value)
    except TypeError:
        return id(value)
