"""A model as attacks see it: images in, float32 logits out, nothing learned.

Also the cache of compiled functions. Both hold a Keras model weakly, so that
it is freed when its owner drops it.
"""

import hashlib
import inspect
import weakref

import keras
import numpy as np
from keras import ops

from keras_wp import _backend, checks, features

_compiled = weakref.WeakKeyDictionary()
_TAKEN = ("activation", "dtype_policy")


class Classifier:
    """Calls a model in inference mode and returns float32 logits.

    Args:
        model: A Keras model or layer, or a differentiable callable from
            images `(N, ...)` to logits `(N, K)`.

    Raises:
        ValueError: If `model` cannot be called.
    """

    def __init__(self, model):
        if not callable(model):
            raise ValueError(
                "`model` must be a Keras model or a callable that maps images "
                f"to logits. Received: model={model!r}"
            )
        self._is_layer = isinstance(model, keras.layers.Layer)
        self._inference = {"training": False} if _has_switch(model) else {}
        # Lambdas and bound methods often have no other owner.
        self._model = weakref.ref(model) if self._is_layer else lambda: model
        self._compiled = {}

    @property
    def model(self):
        return self._model()

    def variables(self):
        return self.model.variables if self._is_layer else ()

    def devices(self):
        """Where the model runs; see `keras_wp._backend.devices`."""
        return _backend.devices(self.variables())

    def __call__(self, x):
        return _backend.in_parts(self._logits, x)

    def _logits(self, x):
        logits = self.model(x, **self._inference)
        if isinstance(logits, (dict, list, tuple)):
            raise ValueError(
                "`model` must return one tensor of logits. Received: an "
                f"output of type {type(logits).__name__}"
            )
        if len(logits.shape) != 2:
            raise ValueError(
                "`model` must return logits of shape (N, K). Received: shape "
                f"{tuple(logits.shape)}"
            )
        return ops.cast(logits, "float32")

    def cut(self):
        """The model's two halves, before and after its features.

        Raises:
            ValueError: If the model has none; see `keras_wp.features.cut`.
        """
        return features.cut(self.model)

    def build(self, shape):
        """Create the weights of a Keras model that was never called.

        Inside a trace, they would be values of that trace.

        Args:
            shape: The shape of one image.

        Raises:
            ValueError: If the model takes images of another shape.
        """
        if not self._is_layer:
            return
        checks.image_shape(self.model, shape)
        if not self.model.built:
            self(ops.zeros((1, *shape)))

    def compile(self, key, make, more_variables=lambda: ()):
        """The compiled form of `make()`, kept as long as the model lives.

        It is made anew when the model has got other layers, activations,
        variables or types, a layer another configuration, or the model lies
        on other devices.
        That of a callable which is no Keras layer is kept with this object
        only: what it closes over may change unseen, and a compiled function
        would go on with the old.

        Args:
            key: Hashable; what tells this function from the model's others.
            make: Returns the function to compile. Neither may hold a Keras
                model.
            more_variables: Returns variables which the function reads and
                the model does not have.
        """
        known, devices = self._compiled, self.devices()
        if self._is_layer:
            layers = [devices, *_variables(self.model), *_layers(self.model)]
            old, known = _compiled.get(self.model, (None, {}))
            if old != layers:
                known = {}
                _compiled[self.model] = layers, known
        if key not in known:
            known[key] = _backend.compile(
                make(),
                lambda: [*self.variables(), *more_variables()],
                devices,
            )
        return known[key]


def weights_digest(model):
    """What tells a Keras model's weights from others, as hexadecimal."""
    digest = hashlib.blake2b(digest_size=8)
    for weight in model.weights:
        value = np.ascontiguousarray(ops.convert_to_numpy(weight))
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _variables(model):
    """Which variables there are: a function reads those that it has met."""
    # Not the variables themselves: they are equal where their values are.
    return [(variable.path, id(variable)) for variable in model.variables]


def _layers(layer):
    """What a compiled function takes for granted."""
    taken = (getattr(layer, name, None) for name in _TAKEN)
    parts = getattr(layer, "layers", ())
    yield weakref.ref(layer), *taken, None if parts else _config(layer)
    for part in parts:
        yield from _layers(part)


def _config(layer):
    """What a layer was made with, and may have been given since, as text."""
    try:
        return repr(layer.get_config())
    except (NotImplementedError, TypeError, ValueError):
        return None  # It cannot tell.


def _has_switch(model):
    if isinstance(model, keras.layers.Layer):
        return True
    try:
        return "training" in inspect.signature(model).parameters
    except (TypeError, ValueError):
        return False
