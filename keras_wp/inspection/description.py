"""What a model is made of, besides its weights, as values to compare."""

import functools
import hashlib
import types
import weakref
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from keras_wp.inspection.ensemble import Ensemble
from keras_wp.inspection.telling import (
    PLAIN,
    UNTOLD,
    bases,
    config_of,
    digest_of,
    identity,
    is_graph,
    name_of,
    names_set_by,
    of_framework,
    read_by,
    tensor,
)


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


def part_digest(part):
    """What tells a loss, an optimizer or a layer from others: hexadecimal.

    It counts by its class and its configuration, and what is no layer by its
    attributes too, if the class is not Keras's. Weights do not count.
    """
    told = [name_of(type(part)), config_of(part)]
    if not isinstance(part, keras.layers.Layer):
        told.append(part)
    text = repr(_Teller(None, portable=True)._tell(told, {})).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


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
        own = not of_framework(kind)
        self.found[place, "class"] = name_of(kind)
        self.found[place, "dtype"] = layer.dtype_policy.name
        # Within a process, attributes say it all; and to ask for configurations
        # has Keras import TensorFlow, whatever the backend.
        if self._portable and is_graph(layer):
            self.found[place, "graph"] = self._tell_graph(layer)
        # The code of a lambda is in its configuration with its file and line.
        elif self._portable and not isinstance(layer, keras.layers.Lambda):
            self.found[place, "config"] = self._tell(config_of(layer), {})
        if kind not in self._skipped:
            skipped = bases(kind, own and self._portable)
            self._skipped[kind] = names_set_by(*skipped)
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
        elif of_framework(type(model)) or not hasattr(model, "__dict__"):
            self.found["callable"] = self._tell(model, {})
        else:
            for name, value in vars(model).items():
                if name not in UNTOLD:
                    self.found["callable", name] = self._tell(value, {})
            self.found["class"] = name_of(type(model))
            self._tell_class(type(model))

    def _tell_class(self, kind):
        for base in kind.__mro__:
            place = "class", name_of(base)
            if of_framework(base) or base is object or place in self.found:
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
            skipped = names_set_by(keras.Operation)
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
            found.append((name_of(type(op)), settings, repr(given)))
        return found

    def _tell(self, value, seen):
        """A value as nested lists of text."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, PLAIN):
            return repr(value)
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return digest_of(value)
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

        value = getattr(value, "told_as", value)
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
            case types.FunctionType() if not of_framework(value):
                return tell(read_by(value))
        if ops.is_tensor(value):
            return tensor(value)
        # What `jax.jit` and `tf.function` return.
        for name in ("__wrapped__", "python_function"):
            if callable(value) and getattr(value, name, None) is not None:
                return tell([getattr(value, name)])
        if hasattr(value, "__name__"):
            return name_of(value)
        if hasattr(value, "__dict__") and not of_framework(kind):
            return [name_of(kind), *tell_items(vars(value))]
        return name_of(kind), None if self._portable else identity(value)


def digest(classifier, x):
    """A model's layers, or a callable's code, and its weights: hexadecimal.

    What changes with each call of the model is left out.

    Args:
        classifier: The `Classifier`.
        x: An image to call the model with, `(1, ...)`.
    """
    model = classifier.model
    if isinstance(model, Ensemble):
        # Not its members' classifiers, which count the layers they make.
        text = repr([digest(member, x) for member in model.members]).encode()
        return hashlib.blake2b(text, digest_size=8).hexdigest()
    told = describe(model, portable=True)
    for image in (x, x[:, ::-1]):
        classifier.eager(image)
        now = describe(model, portable=True)
        told = {k: v for k, v in told.items() if now.get(k) == v}
    told = sorted((str(name), repr(value)) for name, value in told.items())
    weights = weights_digest(model) if hasattr(model, "weights") else ""
    text = repr((told, weights)).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()
