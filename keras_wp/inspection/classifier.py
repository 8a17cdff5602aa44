"""A model as attacks see it: images in, float32 logits out, nothing learned.

Also the cache of compiled functions. Both hold a Keras model weakly, so that
it is freed when its owner drops it.
"""

import weakref

import keras
import numpy as np
from keras import ops

from keras_wp import _backend, _checks
from keras_wp.inspection import features
from keras_wp.inspection.description import changes, describe
from keras_wp.inspection.description import weights_digest as weights_digest
from keras_wp.inspection.ensemble import meant
from keras_wp.inspection.masking import open_up
from keras_wp.inspection.view import View

_compiled = weakref.WeakKeyDictionary()
# How far logits of a model's compiled and eager calls may be apart, relative
# to the largest, if not 1e-3; and what changes with each call of it.
_tolerances = weakref.WeakKeyDictionary()
_restless = weakref.WeakKeyDictionary()
_TOLERANCE = 1e-3


class Classifier:
    """Calls a model in inference mode and returns float32 logits.

    Args:
        model: A Keras model or layer, or a differentiable callable from
            images `(N, ...)` to logits `(N, K)`; or a list of them, whose
            probabilities are averaged.
        view: The `View` that says how images become logits; defaults to one
            of images and logits as they are.

    Raises:
        ValueError: If `model` cannot be called.
    """

    def __init__(self, model, view=None):
        view = View() if view is None else view
        model = meant(model, lambda one: Classifier(one, view.inner()))
        if not callable(model):
            raise ValueError(
                "`model` must be a Keras model or a callable that maps images "
                f"to logits. Received: model={model!r}"
            )
        self._is_layer = isinstance(model, keras.layers.Layer)
        self.view = view.outer() if hasattr(model, "members") else view
        # Lambdas and bound methods often have no other owner.
        self._model = weakref.ref(model) if self._is_layer else lambda: model
        self._compiled, self._beside = {}, {}
        self._description = None
        self.opened = None

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
        return self.view(self.model, x)

    def settle(self, x):
        """Find out how the model's outputs become logits; see `View.settle`.

        Args:
            x: Some images, `(N, ...)` float32. Outside of a trace.
        """
        units = self.view.units
        for member in getattr(self.model, "members", ()):
            member.settle(x if units is None else units.to_data(x))
        self.build(x.shape[1:])
        if self.devices() == _backend.ANYWHERE:
            self.view.settle(self.model, x)

    def beside(self, model, x=None):
        """Another model that takes the same images, as a `Classifier`.

        Args:
            model: The model.
            x: Some images, `(N, ...)` float32, to `settle` it with.
        """
        known = self._beside.get(id(model))
        if known is None or known.model is not model:
            known = Classifier(model, self.view.of_member())
            self._beside[id(model)] = known
        if x is not None:
            known.settle(x)
        return known

    def given(self, extra):
        """The model for images that bring something of their own: itself."""
        del extra
        return self

    def copied(self, count):
        """The model for images of which there are copies: itself."""
        del count
        return self

    def open(self, x):
        """The model taken apart, once; see `inspection.masking.Opened`.

        Args:
            x: Some images, `(N, ...)` float32. Outside of a trace.
        """
        if self.opened is None:
            self.opened = open_up(self.model, self, x, self.view)
        return self.opened

    @property
    def opened_digest(self):
        """What tells the numbers in `opened` from others'."""
        anatomy = self.opened and self.opened.anatomy
        sites = self.opened and self.opened.sites
        return anatomy and (anatomy.digest, sites)

    def through(self, surrogate):
        """The model with the gradient that a surrogate has inside of it."""
        opened = self.opened
        instead = surrogate.instead(opened, self.model)
        return lambda x: _backend.in_parts(
            lambda part: ops.cast(opened.anatomy(part, instead), "float32"), x
        )

    def cut(self, surrogate=None):
        """The model's two halves, before and after its features.

        Args:
            surrogate: A `Surrogate` whose gradient the features have.

        Raises:
            ValueError: If the model has none; see `features.cut`.
        """
        opened, instead = self.opened, {}
        if surrogate is not None:
            instead = surrogate.instead(opened, self.model)
        if opened is not None and opened.anatomy is None:
            raise features.closed(self.model, opened.why)
        anatomy = opened and opened.anatomy
        if anatomy is None and not self.view.trivial:
            anatomy = self.view.dissect(self.model)
        return features.cut(self.model, anatomy, instead)

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
        _checks.image_shape(self.model, shape)
        if not self.model.built:
            self(ops.zeros((1, *shape)))

    def compile(self, key, make, more_variables=lambda: ()):
        """The compiled form of `make()`, kept as long as the model lives.

        It is made anew when the model has got other layers, activations,
        variables or types, a layer other attributes, or the model lies on
        other devices. Attributes are looked at once for this object, and again
        by `refresh`: with many layers that takes tens of milliseconds.
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
        if not self.view.trivial:
            key = (key, self.view.key)
        if self._is_layer:
            model = self.model
            if self._description is None:
                self._description = describe(model)
            description = self._description
            # Not the variables themselves: equal where their values are.
            names = [(v.path, id(v)) for v in model.variables]
            layers = [*map(weakref.ref, model._flatten_layers())]
            found = devices, names, layers, description
            old, known = _compiled.get(model, (None, {}))
            if old is None or not _same(old, found, _restless.get(model, ())):
                known = {}
                _compiled[model] = found, known
        if key not in known:
            known[key] = _backend.compile(
                make(),
                lambda: [*self.variables(), *more_variables()],
                devices,
            )
        return known[key]

    def forget(self):
        """Drop all that is compiled for the model."""
        self._compiled.clear()
        self.opened = self._description = None
        if self._is_layer:
            _compiled.pop(self.model, None)

    def refresh(self, x, logits=None):
        """Drop what is compiled if the model computes something else by now.

        What `compile` cannot see, such as a global variable, shows in the
        logits of an eager call. Of a callable nothing is kept between
        evaluations, and a model on several devices has no eager call.

        Args:
            x: Images, of which at most two are looked at.
            logits: What the compiled forward pass makes of them, if known.

        Returns:
            Whether it did.
        """
        if not self._is_layer or self.devices() != _backend.ANYWHERE:
            return False
        model, x = self.model, np.asarray(x[:2], np.float32)
        shape = x.shape[1:]
        self.build(shape)
        before = describe(model)
        expected = self.eager(x)
        if expected is None:
            self._description = before
            return False
        after = self._description = describe(model)
        _restless.setdefault(model, set()).update(changes(before, after))

        def distance(found):
            found = np.nan_to_num(np.asarray(found[: len(x)], np.float32))
            scale = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
            return float(np.abs(found - expected).max() / scale)

        def compiled():
            """Its distance, and whether it had to be traced for that."""
            program = self.compile(("forward", shape), lambda: self)
            traces = program.traces
            found = _backend.to_numpy(program(ops.convert_to_tensor(x)))
            return distance(found), program.traces > traces

        limit = _tolerances.get(model, _TOLERANCE)
        if logits is not None and distance(logits) <= limit:
            return False
        _, known = _compiled.get(model, (None, {}))
        used = any(program.traces for program in known.values())
        # What is traced just now says nothing of what was before; and logits
        # may depend on the other images of their batch.
        found, traced = compiled()
        if not used or (found <= limit and not traced):
            return False
        self.forget()
        again, _ = compiled()
        if again > limit:
            # It is randomized, or rounds more coarsely.
            _tolerances[model] = 4 * again
        return True

    def eager(self, x):
        """Float32 logits of images by a call that is not compiled, or None.

        Nothing in a Keras model changes; None if it cannot be called so.
        """
        try:
            with keras.StatelessScope():
                logits = self(ops.convert_to_tensor(x))
            return np.nan_to_num(ops.convert_to_numpy(logits))
        except Exception:
            return None


def _same(old, new, restless):
    return old[:-1] == new[:-1] and changes(old[-1], new[-1]) <= {*restless}
