"""Gradients from a stand-in for the model, where its own are of no use.

An activation that saturates, logits that are too large for the loss, or a
layer without a derivative leave attacks without a direction, and the model no
more robust than before. A `Surrogate` says whose gradient an attack follows
instead. What counts as a success is decided by the model itself, always.

Source: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense
of security" (ICML 2018), section 4: backward pass differentiable
approximation; Tramèr et al., "On adaptive attacks to adversarial example
defenses" (NeurIPS 2020).
"""

import dataclasses
import weakref
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_wp import features, links, objectives
from keras_wp.classifier import Classifier, weights_digest

RESCALINGS = ("image", "unit")
# A unit's own scale is at least this share of the image's, or units that
# happen to be near zero would have all the gradient.
_LEAST_SCALE = 0.1
# How far logits may be from those of the model's layers called in turn.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surrogate:
    """Where an attack takes its gradient from.

    Given to an attack as `surrogate`. On the way forward everything is the
    model itself; on the way back,

    - `activation`: the last activation of the model, `h = act(u)`, has the
      derivative of another one, at `u`. `"linear"` is the straight-through
      estimator.
    - `rescale`: that derivative is taken where units do not saturate, at
      `u / scale`. For `"image"`, `scale` is the root of the mean of `u^2`
      over the units of an image; for `"unit"`, it is `|u|` of the unit by
      itself (at least a tenth of the image's scale).
    - `standardize`: the loss sees `(z - mean(z)) / std(z)` instead of the
      logits `z`, mean and deviation over the classes of an image and without
      a derivative. A cross-entropy does not vanish then, however large or
      small the logits are.
    - `model`: the gradient is that of another model's logits, at the same
      point: a transfer attack. It takes the loss's derivative at the logits
      of the model attacked.

    The first three may be combined, and cost no more than the gradient
    itself. Several surrogates in turn are several attacks in turn: see
    `keras_wp.attacks.InTurn`.

    Args:
        activation: The name of a Keras activation, or None for the model's
            own.
        rescale: None, `"image"` or `"unit"`.
        standardize: Whether the loss sees standardized logits. It matters
            to attacks that follow a loss of the logits (`FGSM`, `PGD`,
            `APGD`, `MultiTarget` with the margin).
        model: A Keras model with the same inputs and classes, or None.

    Raises:
        ValueError: If nothing is asked for, an argument is not as described,
            or `model` is combined with `activation` or `rescale`. When used
            with one of these two: if the model attacked has no activation
            that ends it but for linear layers (see `keras_wp.links.head`).

    Example:

    >>> attack = keras_wp.attacks.PGD(
    ...     eps=0.3,
    ...     steps=40,
    ...     loss="margin",
    ...     surrogate=keras_wp.Surrogate(rescale="image"),
    ... )
    >>> x_adv = attack(model, x, y)
    """

    activation: str | None = None
    rescale: str | None = None
    standardize: bool = False
    model: object = None

    def __post_init__(self):
        if self.activation is not None:
            try:
                found = isinstance(self.activation, str)
                keras.activations.get(self.activation)
            except ValueError:
                found = False
            if not found:
                raise ValueError(
                    "Argument `activation` must be the name of a Keras "
                    f"activation. Received: activation={self.activation!r}"
                )
        if self.rescale is not None and self.rescale not in RESCALINGS:
            raise ValueError(
                "Invalid value for argument `rescale`. Expected None or one "
                f"of {sorted(RESCALINGS)}. Received: rescale={self.rescale!r}"
            )
        if not isinstance(self.model, (keras.layers.Layer, _Weak, type(None))):
            raise ValueError(
                "Argument `model` must be a Keras model. Received: "
                f"model={self.model!r}"
            )
        if self.model is not None and self._of_head:
            raise ValueError(
                "`model` must not be combined with `activation` or "
                f"`rescale`. Received: activation={self.activation!r}, "
                f"rescale={self.rescale!r}"
            )
        if not self._of_head and self.model is None and not self.standardize:
            raise ValueError(
                "A surrogate must have at least one of `activation`, "
                "`rescale`, `standardize` and `model`. Received: none"
            )

    @property
    def _of_head(self):
        return self.activation is not None or self.rescale is not None

    @property
    def label(self):
        """What reports call it, such as `"linear"` or `"rescale-image"`."""
        parts = [] if self.activation is None else [self.activation]
        parts += [] if self.rescale is None else [f"rescale-{self.rescale}"]
        parts += ["standardize"] if self.standardize else []
        if self.model is not None:
            parts.append(f"model-{getattr(self.stand_in, 'name', 'unnamed')}")
        return "-".join(parts)

    def config(self):
        """The surrogate as plain values, its model as name and digest."""
        values = {
            "activation": self.activation,
            "rescale": self.rescale,
            "standardize": self.standardize,
        }
        if self.model is not None:
            values["model"] = {
                "name": self.stand_in.name,
                "digest": weights_digest(self.stand_in),
            }
        return values

    @property
    def stand_in(self):
        """The model whose gradient is taken, or None."""
        held = self.model
        return held.model if isinstance(held, _Weak) else held

    def weak(self):
        """The same surrogate, but one that does not keep its model alive."""
        if self.model is None:
            return self
        return dataclasses.replace(
            self, model=_Weak(weakref.ref(self.stand_in))
        )

    def variables(self):
        """The variables that the stand-in has and the model has not."""
        return () if self.model is None else self.stand_in.variables

    def prepare(self, classifier, shape):
        """Build and check, before anything is traced.

        Args:
            classifier: The `Classifier` attacked.
            shape: The shape of one image.

        Raises:
            ValueError: If the surrogate does not fit the model.
        """
        image = np.random.default_rng(0).uniform(size=(1, *shape))
        image = ops.convert_to_tensor(image.astype(np.float32))
        expected = ops.convert_to_numpy(classifier(image))
        if self.model is not None:
            found = ops.convert_to_numpy(Classifier(self.stand_in)(image))
            if found.shape != expected.shape:
                raise ValueError(
                    "The surrogate's model must have the classes of the model "
                    f"attacked, which has {expected.shape[-1]}. Received: "
                    f"{found.shape[-1]} classes"
                )
        elif self._of_head:
            found = ops.convert_to_numpy(_View(self, classifier)(image))
            limit = _TOLERANCE * (np.abs(expected).max() + np.ptp(expected))
            if not np.abs(found - expected).max() <= limit:
                raise ValueError(
                    "The model must do what its layers do in turn, for a "
                    "surrogate of its last activation. Received: a "
                    f"{type(classifier.model).__name__} that does otherwise"
                )

    def adapt(self, problem):
        """The problem as an attack with this surrogate sees it."""
        seen = objectives.standardized if self.standardize else problem.seen
        model = problem.model
        if self._of_head or self.model is not None:
            model = _View(self, model)
        return dataclasses.replace(problem, model=model, seen=seen)

    def derivative_of(self, head, u):
        """A value whose derivative at pre-activations `u` is to be used."""
        function = head.activation
        if self.activation is not None:
            function = keras.activations.get(self.activation)
        if self.rescale is None:
            return function(u)
        axes = tuple(range(1, len(u.shape)))
        square = ops.mean(ops.square(u), axis=axes, keepdims=True)
        scale = ops.sqrt(square)
        if self.rescale == "unit":
            scale = ops.maximum(ops.abs(u), _LEAST_SCALE * scale)
        scale = ops.where(scale > 0, scale, ops.ones_like(scale))
        return function(u / ops.stop_gradient(scale))


class _Weak(NamedTuple):
    """A model that may be freed; equal to another if that is the same."""

    reference: weakref.ref

    @property
    def model(self):
        return self.reference()


class _View:
    """A model with the gradient of a surrogate: images to logits."""

    def __init__(self, surrogate, model):
        self._surrogate = surrogate
        self._model = model

    def __call__(self, x):
        if self._surrogate.model is not None:
            stand_in = Classifier(self._surrogate.stand_in)
            return _with_gradient_of(self._model(x), stand_in(x))
        head = self._head()
        return head.after(self._features(head, x))

    def cut(self):
        """The model's two halves, the first with the surrogate's gradient."""
        if self._surrogate.model is not None:
            raise ValueError(
                "A loss of the features needs the model's own gradient, or "
                "that of a surrogate of its last activation. Received: a "
                "surrogate by another model"
            )
        head = self._head()
        return features.Cut(
            lambda x: ops.cast(self._features(head, x), "float32"),
            head.after,
            self._model.cut().head,
        )

    def _head(self):
        model = getattr(self._model, "model", self._model)
        found = links.head(model)
        if found is None:
            raise ValueError(
                "The model must end in an activation and linear layers, for a "
                "surrogate of its last activation. Received: a model of type "
                f"{type(model).__name__} where none was found"
            )
        return found

    def _features(self, head, x):
        u = head.before(x)
        other = self._surrogate.derivative_of(head, u)
        return _with_gradient_of(head.activation(u), other)


def _with_gradient_of(value, other):
    """`value` exactly, as `other - other` is 0, but with its derivative."""
    other = ops.cast(other, value.dtype)
    change = other - ops.stop_gradient(other)
    return ops.stop_gradient(value) + change
