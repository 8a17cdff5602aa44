"""What a model is made of, besides its weights, as values to compare."""

import dis
import functools
import hashlib
import inspect
import types
import weakref
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

# What classes of these packages hold is their own affair.
_FRAMEWORKS = {"keras", "numpy", "jaxlib", keras.backend.backend()}
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Keras numbers names, from one process to another otherwise; and the shapes
# a layer was built for have the size of a batch.
_UNTOLD = ("name", "build_config")


def describe(model, portable=False):
    """The description of a model: a dictionary of nested lists of text.

    Of each layer: its class and the code of that, and the attributes that it
    has beyond those of every Keras layer. Functions count by their code, by
    what they have closed over, and by the plain values that they read from
    their module.

    Args:
        model: A Keras model or layer, or a callable.
        portable: Whether it is to be the same in another process. Layers
            then count by their configuration too, and Keras's own by that and
            by their functions alone.
    """
    teller = _Teller(model, portable)
    if not teller.layers:
        teller.tell_callable(model)
    for place, layer in enumerate(teller.layers):  # They may become more.
        teller.tell_layer(place, layer)
    return teller.found


def changes(old, new):
    """The names of the entries in which two descriptions differ."""
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


def weights_digest(model):
    """What tells a Keras model's weights from others, as hexadecimal."""
    digest = hashlib.blake2b(digest_size=8)
    for weight in model.weights:
        value = np.ascontiguousarray(ops.convert_to_numpy(weight))
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


class _Teller:
    """Describes layers and what they hold; `found` is the description."""

    def __init__(self, model, portable):
        self.found, self.layers = {}, []
        self._portable = portable
        self._places, self._weights, self._skipped = {}, {}, {}
        if isinstance(model, keras.layers.Layer):
            self._weights = {id(w): i for i, w in enumerate(model.weights)}
            self._add(model)

    def _add(self, layer):
        for part in layer._flatten_layers():
            if id(part) not in self._places:
                self._places[id(part)] = len(self.layers)
                self.layers.append(part)

    def tell_layer(self, place, layer):
        kind = type(layer)
        own = not _of_framework(kind)
        self.found[place, "class"] = _name_of(kind)
        self.found[place, "dtype"] = layer.dtype_policy.name
        # Within a process, attributes say it all; and to ask for configurations
        # has Keras import TensorFlow, whatever the backend.
        if self._portable and _is_graph(layer):
            self.found[place, "graph"] = self._tell_graph(layer)
        # The code of a lambda is in its configuration with its file and line.
        elif self._portable and not isinstance(layer, keras.layers.Lambda):
            self.found[place, "config"] = self._tell(_config(layer), {})
        if kind not in self._skipped:
            bases = _bases(kind, own and self._portable)
            self._skipped[kind] = _names_set_by(*bases)
            self._tell_class(kind)
        for name, value in vars(layer).items():
            if name in self._skipped[kind] or name.startswith("__"):
                continue
            if own or not self._portable or callable(value):
                self.found[place, name] = self._tell(value, {})

    def tell_callable(self, model):
        """A callable that is no layer: by its attributes, or its code."""
        if isinstance(model, types.FunctionType):
            self.found["code"] = self._tell(model, {})
        elif _of_framework(type(model)) or not hasattr(model, "__dict__"):
            self.found["callable"] = self._tell(model, {})
        else:
            for name, value in vars(model).items():
                if name not in _UNTOLD:
                    self.found["callable", name] = self._tell(value, {})
            self.found["class"] = _name_of(type(model))
            self._tell_class(type(model))

    def _tell_class(self, kind):
        for base in kind.__mro__:
            place = "class", _name_of(base)
            if _of_framework(base) or base is object or place in self.found:
                continue
            self.found[place] = [
                (name, self._tell(getattr(value, "__func__", value), {}))
                for name, value in sorted(vars(base).items())
                if name == "__call__" or not name.startswith(("__", "_abc_"))
            ]

    def _tell_graph(self, model):
        """The operations of a functional model, and what they are given."""
        operations = getattr(model, "operations", ())
        places = {id(op): i for i, op in enumerate(operations)}
        depths = getattr(model, "_nodes_by_depth", {}).values()
        nodes = {id(node) for depth in depths for node in depth}

        def tell(value):
            if not isinstance(value, keras.KerasTensor):
                return self._tell(value, {})
            source = value._keras_history
            place = places.get(id(source.operation))
            return f"output {source.tensor_index} of {place}"

        found = []
        for op in operations:
            own = {} if isinstance(op, keras.layers.Layer) else vars(op)
            skipped = _names_set_by(keras.Operation)
            settings = [
                (name, self._tell(value, {}))
                for name, value in sorted(own.items())
                if name not in skipped
            ]
            given = [
                keras.tree.map_structure(
                    tell, (node.arguments.args, node.arguments.kwargs)
                )
                for node in op._inbound_nodes
                if id(node) in nodes
            ]
            found.append((_name_of(type(op)), settings, repr(given)))
        return found

    def _tell(self, value, seen):
        """A value as nested lists of text."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return _digest_of(value)
        if isinstance(value, keras.Variable):
            return f"weight {self._weights.get(id(value))}"
        if isinstance(value, keras.layers.Layer):
            return self._tell_part(value)
        if id(value) in seen:
            return f"seen {seen[id(value)][0]}"
        # It is kept, or another object might get its identity.
        seen[id(value)] = len(seen), value
        return self._tell_object(value, seen)

    def _tell_part(self, layer):
        if id(layer) in self._places:
            return f"layer {self._places[id(layer)]}"
        self._add(layer)  # Nobody has told Keras of it, nor of its weights.
        return f"layer {self._places[id(layer)]} {weights_digest(layer)}"

    def _tell_object(self, value, seen):
        def tell(values):
            return [self._tell(v, seen) for v in values]

        def tell_items(mapping):
            known = sorted((str(k), i) for i, k in enumerate(mapping))
            values = list(mapping.values())
            return [(key, self._tell(values[i], seen)) for key, i in known]

        kind = type(value)
        match value:
            case list() | tuple() | np.ndarray():
                return tell(value)
            case Mapping():
                return tell_items(value)
            case set() | frozenset():
                return sorted(map(repr, tell(value)))
            case functools.partial():
                return tell([value.func, value.args, value.keywords])
            case types.MethodType():
                return tell([value.__func__, value.__self__])
            case property():
                return tell([value.fget])
            case weakref.ref():
                return tell([value()])
            case types.CodeType():
                return tell([value.co_code, value.co_names, value.co_consts])
            case types.FunctionType() if not _of_framework(value):
                return tell(_read_by(value))
        if ops.is_tensor(value):
            return _tensor(value)
        # What `jax.jit` and `tf.function` return.
        for name in ("__wrapped__", "python_function"):
            if callable(value) and getattr(value, name, None) is not None:
                return tell([getattr(value, name)])
        if hasattr(value, "__name__"):
            return _name_of(value)
        if hasattr(value, "__dict__") and not _of_framework(kind):
            return [_name_of(kind), *tell_items(vars(value))]
        return _name_of(kind), None if self._portable else _identity(value)


def _read_by(function):
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
    kinds = *_PLAIN, tuple, np.ndarray, np.generic, types.FunctionType
    for name in code.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, kinds):
            yield value


def _name_of(thing):
    name = getattr(thing, "__qualname__", None) or thing.__name__
    return f"{getattr(thing, '__module__', None)}.{name}"


def _of_framework(thing):
    return str(thing.__module__).partition(".")[0] in _FRAMEWORKS


def _is_graph(layer):
    return isinstance(layer, keras.Sequential) or hasattr(
        layer, "_nodes_by_depth"
    )


@functools.cache
def _common_bases():
    inputs = keras.Input((1,))
    functional = type(keras.Model(inputs, inputs))
    kinds = keras.Model, keras.Sequential, functional
    return {base for kind in kinds for base in kind.__mro__} - {object}


def _bases(kind, all_of_keras):
    """The classes whose attributes say nothing of what a layer computes."""
    return tuple(
        base
        for base in kind.__mro__
        if (_of_framework(base) if all_of_keras else base in _common_bases())
    )


@functools.cache
def _names_set_by(*kinds):
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


def _config(layer):
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
            if key not in _UNTOLD
        }
    if isinstance(config, (list, tuple)):
        return [_without_names(value) for value in config]
    return config


def _digest_of(array):
    raw = np.ascontiguousarray(array).tobytes()
    digest = hashlib.blake2b(raw, digest_size=8).hexdigest()
    return f"{array.shape} {array.dtype} {digest}"


def _tensor(value):
    try:
        return _digest_of(ops.convert_to_numpy(value))
    except Exception:
        return "tensor"  # It is one of a trace.


def _identity(value):
    try:
        return weakref.ref(value)
    except TypeError:
        return id(value)
