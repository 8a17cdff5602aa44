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
import math
import weakref
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_wp import _calls, _checks, objectives
from keras_wp.attacks.surrogate_view import View, sites_of
from keras_wp.inspection.classifier import weights_digest
from keras_wp.inspection.stand_ins import derivative_of, stand_ins

RESCALINGS = ("image", "unit")
PLACES = ("last", "every")
# So many copies where a number is not given.
DRAWS = 16


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
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
    - `at`: where the two apply. `"last"` is the last operation of the model
      that levels off, or else its last activation; `"every"` is every one
      that loses much of a gradient on the images at hand, at whatever depth:
      those that level off, clip, round, compare, choose, or normalize with a
      low temperature (see `keras_wp.inspection.masking`).
    - `noise`: the gradient is that of the mean of the logits over copies of
      the image with normal noise, of a deviation of `noise * eps` for each
      pixel (in l2, so that its expected length is about `noise * eps`),
      clipped to the attack's bounds. It sees past what is flat or jagged near
      an image, and need not know where that comes from.
    - `draws`: the number of copies. Without noise the copies differ if the
      model is randomized: the gradient is then that of an expectation, and
      what the attack sees are mean logits.
    - `standardize`: the loss sees `(z - mean(z)) / std(z)` instead of the
      logits `z`, mean and deviation over the classes of an image and without
      a derivative.
    - `model`: the gradient is that of another model's logits, at the same
      point: a transfer attack. It takes the loss's derivative at the logits
      of the model attacked.

    They may be combined, except for `model` with `activation` or `rescale`.
    Copies multiply the cost of a gradient; the others leave it as it is.
    Several surrogates in turn are several attacks in turn: see
    `keras_wp.attacks.InTurn`.

    Args:
        activation: The name of a Keras activation, or None for the model's
            own.
        rescale: None, `"image"` or `"unit"`.
        standardize: Whether the loss sees standardized logits. It matters
            to attacks that follow a loss of the logits (`FGSM`, `PGD`,
            `APGD`, `MultiTarget` with the margin).
        model: A Keras model with the same inputs and classes, or None.
        at: `"last"` or `"every"`.
        noise: Deviation of the noise, as a share of the attack's `eps`, at
            least 0.
        draws: Number of copies, at least 1. Defaults to 16 with noise, and
            otherwise to 1.

    Raises:
        ValueError: If nothing is asked for, an argument is not as described,
            or `model` is combined with `activation` or `rescale`. When used
            with one of these two: if no such operation is found in the model
            attacked, or it cannot be opened.

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
    at: str = "last"
    noise: float = 0.0
    draws: int | None = None

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
        if self.rescale is not None:
            _checks.check_one_of(RESCALINGS, rescale=self.rescale)
        if not isinstance(self.model, (keras.layers.Layer, _Weak, type(None))):
            raise ValueError(
                "Argument `model` must be a Keras model. Received: "
                f"model={self.model!r}"
            )
        _checks.check_one_of(PLACES, at=self.at)
        noise = self.noise
        if isinstance(noise, bool) or not (
            isinstance(noise, (int, float)) and 0 <= noise < np.inf
        ):
            raise ValueError(
                "Argument `noise` must be a finite number of at least 0. "
                f"Received: noise={noise!r}"
            )
        if self.draws is not None:
            _checks.check_at_least(1, draws=self.draws)
        if self.model is not None and self.inside:
            raise ValueError(
                "`model` must not be combined with `activation` or "
                f"`rescale`. Received: activation={self.activation!r}, "
                f"rescale={self.rescale!r}"
            )
        others = self.model is not None or self.copies > 1
        if not (self.inside or self.standardize or others):
            raise ValueError(
                "A surrogate must have at least one of `activation`, "
                "`rescale`, `standardize`, `noise`, `draws` and `model`. "
                "Received: none"
            )

    @property
    def inside(self):
        return self.activation is not None or self.rescale is not None

    @property
    def noisy(self):
        """Whether copies differ by noise; its size may be a tensor."""
        return not isinstance(self.noise, (int, float)) or self.noise != 0

    @property
    def copies(self):
        """How many copies of an image a gradient is taken of."""
        return self.draws or (DRAWS if self.noisy else 1)

    @property
    def label(self):
        """What reports call it, such as `"linear"` or `"rescale-image"`."""
        parts = [] if self.activation is None else [self.activation]
        parts += [] if self.rescale is None else [f"rescale-{self.rescale}"]
        parts += ["every"] if self.inside and self.at == "every" else []
        parts += ["standardize"] if self.standardize else []
        parts += [f"noise-{self.noise:g}"] if self.noise else []
        if self.draws is not None:
            parts.append(f"draws-{self.draws}")
        if self.model is not None:
            parts.append(f"model-{getattr(self.stand_in, 'name', 'unnamed')}")
        return "-".join(parts)

    def __repr__(self):
        """The call that makes the surrogate again, except for its model."""
        return _calls.call("keras_wp.Surrogate", self)

    def config(self):
        """The surrogate as plain values, its model as name and digest."""
        values = {
            "activation": self.activation,
            "rescale": self.rescale,
            "standardize": self.standardize,
        }
        # What is left out was not there in earlier records.
        given = {"at": self.at, "noise": self.noise, "draws": self.draws}
        usual = {"at": "last", "noise": 0.0, "draws": None}
        values |= {k: v for k, v in given.items() if v != usual[k]}
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

    def prepare(self, classifier, x):
        """Build and check, before anything is traced.

        Args:
            classifier: The `Classifier` attacked.
            x: One or more of the images, `(N, ...)` float32.

        Raises:
            ValueError: If the surrogate does not fit the model.
        """
        if self.model is not None:
            image = ops.convert_to_tensor(x[:1])
            expected = classifier(image).shape[-1]
            found = classifier.beside(self.stand_in, x)(image).shape[-1]
            if found != expected:
                raise ValueError(
                    "The surrogate's model must have the classes of the model "
                    f"attacked, which has {expected}. Received: {found} classes"
                )
        elif self.inside:
            sites_of(self, classifier.open(x), classifier.model)

    def adapt(self, problem, eps=None, norm="linf"):
        """The problem as an attack with this surrogate sees it.

        Args:
            problem: A `Problem`.
            eps: The attack's budget, for the noise.
            norm: The attack's norm.
        """
        seen = objectives.standardized if self.standardize else problem.seen
        model = problem.model
        if self.inside and model.opened is None:
            model.open(ops.convert_to_numpy(problem.x))
        if self.inside or self.model is not None or self.copies > 1:
            deviation = 0.0
            if self.noisy:
                shape = problem.x.shape[1:]
                size = 1.0 if norm == "linf" else math.prod(shape) ** -0.5
                deviation = self.noise * size * eps
            model = View(self, model, deviation, problem.bounds)
        return dataclasses.replace(problem, model=model, seen=seen)

    def instead(self, opened, model):
        """What is called in the place of steps; see `stand_ins.stand_ins`."""
        if not self.inside:
            return {}
        activation = self.activation and keras.activations.get(self.activation)

        def slope(function, u, site):
            return derivative_of(function, u, site, activation, self.rescale)

        sites = sites_of(self, opened, model)
        return stand_ins(opened.anatomy, sites, slope, self.rescale or "image")


def drawn(surrogate, draws):
    """A surrogate, or the model's own gradient (None), of so many draws.

    One that has its own number of draws, or noise, stays as it is.
    """
    if surrogate is None:
        return Surrogate(draws=draws)
    if surrogate.copies > 1:
        return surrogate
    return dataclasses.replace(surrogate, draws=draws)


class _Weak(NamedTuple):
    """A model that may be freed; equal to another if that is the same."""

    reference: weakref.ref

    @property
    def model(self):
        return self.reference()
