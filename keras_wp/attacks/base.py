"""What all attacks share: their fields, their checks, and how they are run.

An attack is an immutable set of hyperparameters with two pure functions on a
dictionary of tensors whose first axis is the image:

    init(problem, run) -> state
    step(problem, state) -> (state, (x, logits))

`state["x_adv"]` is the point to examine next. `step` returns the point that
it has examined together with the model's logits there. Whoever calls `step`
keeps the best point seen, counts the iterations in `state["iteration"]`,
decides when an image is done, and starts its next run (a restart, or another
target class). No attack does so itself: see `keras_wp.engine.stream`.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import numpy as np
from keras import ops

from keras_wp import _backend, _calls, norms
from keras_wp._kinds import STANDARD_TARGETS
from keras_wp.attacks.surrogate import Surrogate
from keras_wp.engine import arrays, iteration

# What a label need not tell: where images lie, by how much they may change,
# and at random how, is told beside it; the rest has a word in every label.
_SAID_ELSEWHERE = (
    *("eps", "bounds", "seed", "name", "surrogate"),
    *("norm", "restarts", "targeted"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Attack(abc.ABC):
    """The base of all attacks.

    Calling an attack, `attack(model, x, y)`, returns the adversarial images,
    of the shape, dtype and kind (NumPy array or tensor) of `x`. Images that
    are misclassified as they are come back unchanged.

    Args:
        norm: `"linf"` or `"l2"`.
        bounds: Lowest and highest value of a pixel.
        seed: Integer. An image's random numbers depend on it and on the
            contents of the image, on nothing else.
        name: How reports call the attack. Defaults to its kind and its
            number of steps.
        surrogate: A `keras_wp.Surrogate` to take gradients from, or None for
            the model's own.
    """

    # Whether the attack looks for the smallest perturbation, instead of for
    # any within `eps`.
    minimum_norm: ClassVar[bool] = False
    # Whether `step` examines a point before it moves, which leaves the last
    # point of a run to be examined.
    examines_before_moving: ClassVar[bool] = True
    # Whether `init` or `step` read `problem.clean_logits`.
    needs_clean_logits: ClassVar[bool] = False
    # Whether every run begins at the clean image itself.
    starts_at_x: ClassVar[bool] = False
    # A point counts as adversarial only within this distance of the image,
    # for an attack that does not keep to its ball by itself.
    radius: ClassVar[float | None] = None
    # By how much the winning logit of an adversarial image must exceed the
    # right one (or the target's all others).
    confidence: ClassVar[float] = 0.0
    # How many forward passes are spent at the end on moving an adversarial
    # image back towards the clean one; they need the clean logits.
    final_search: ClassVar[int] = 0
    # Whether the attack asks for gradients at all.
    follows_gradient: ClassVar[bool] = True
    # Whether runs begin where an evaluation says: see `Image.start`.
    wants_start: ClassVar[bool] = False
    # Whether the attack follows the model's features.
    reads_features: ClassVar[bool] = False
    # Runs (for each target) of an image that resists, and whether labels are
    # the classes to aim at. Without annotations, or a field of this name would
    # stand before all others.
    restarts = 1
    targeted = False

    norm: str = "linf"
    bounds: tuple[float, float] = (0.0, 1.0)
    seed: int = 0
    name: str | None = None
    surrogate: Surrogate | None = None

    def __post_init__(self):
        norms.get(self.norm)
        try:
            low, high = (float(bound) for bound in self.bounds)
        except (TypeError, ValueError):
            low = high = math.nan
        if not low < high:
            raise ValueError(
                "Argument `bounds` must be (lowest, highest) with lowest < "
                f"highest. Received: bounds={self.bounds!r}"
            )
        object.__setattr__(self, "bounds", (low, high))
        if not isinstance(self.seed, (int, np.integer)):
            raise ValueError(
                "Argument `seed` must be an integer. Received: "
                f"seed={self.seed!r}"
            )
        if not isinstance(self.surrogate, (Surrogate, type(None))):
            raise ValueError(
                "Argument `surrogate` must be a `keras_wp.Surrogate` or None. "
                f"Received: surrogate={self.surrogate!r}"
            )
        noisy = self.surrogate is not None and self.surrogate.noise
        if noisy and getattr(self, "eps", None) is None:
            raise ValueError(
                "A surrogate with noise needs an attack with a budget `eps`, "
                "which the noise is a share of. Received: eps=None"
            )

    @property
    def label(self):
        """The name for tables and reports."""
        if self.name or self.surrogate is None:
            return self.name or self.default_name
        return f"{self.default_name} via {self.surrogate.label}"

    @property
    @abc.abstractmethod
    def default_name(self):
        """The kind of attack and what tells it from its siblings."""

    def _called(self, kind, **said):
        """`kind`, and what of the attack is not the default.

        What it returns is also a name that `keras_wp.attacks.get` knows, so
        that two attacks have one label only if they are set up in one way.

        Args:
            kind: What the attack is called, mostly with its number of steps.
            **said: The fields that have a word of their own, or that `kind`
                tells already (the word is then empty). All others stand as
                `field=value` where they are not the default.
        """
        words = [f"{kind}x{self.restarts}" if self.restarts > 1 else kind]
        words += said.values()
        words += ["" if self.norm == type(self).norm else self.norm]
        words += ["targeted" if self.targeted else ""]
        others = [
            f"{field.name}={_plain(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if field.name not in (*_SAID_ELSEWHERE, *said)
            and getattr(self, field.name) != field.default
        ]
        words = "-".join(filter(None, words))
        return ":".join(filter(None, [words, ",".join(others)]))

    @property
    def updates(self):
        """How many times a run moves `x_adv`, at most."""
        return self.steps

    @property
    def parts(self):
        """The attacks that this one consists of, in order.

        Each is run on the images that have resisted those before it.
        """
        return (self,)

    def runs(self, num_classes):
        """How many runs an image may need: restarts times targets."""
        del num_classes
        return self.restarts

    @abc.abstractmethod
    def init(self, problem, run):
        """The state in which run number `run`, `(N,)` int32, begins.

        Must cost no pass through the model.
        """

    @abc.abstractmethod
    def step(self, problem, state):
        """One iteration: `(state, (x, logits))`."""

    def __repr__(self):
        """The call that makes the attack again."""
        kind = type(self)
        inside = kind.__module__.startswith("keras_wp.")
        name = f"keras_wp.attacks.{kind.__name__}" if inside else kind.__name__
        return _calls.call(name, self)

    def config(self):
        """The attack as a dictionary of plain values."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        for name, value in fields.items():
            if isinstance(value, np.generic):
                fields[name] = value.item()
        surrogate = fields.pop("surrogate")
        if surrogate is not None:
            fields["surrogate"] = surrogate.config()
        return {"attack": type(self).__name__, **fields}

    def adapted(self, problem):
        """The problem with the gradient that the attack is to follow."""
        if self.surrogate is None:
            return problem
        eps = getattr(self, "eps", None)
        return self.surrogate.adapt(problem, eps, self.norm)

    def weak(self):
        """The same attack, but one that keeps no model alive."""
        if self.surrogate is None:
            return self
        return dataclasses.replace(self, surrogate=self.surrogate.weak())

    def check(self, classifier, images, num_classes):
        """Raise a ValueError, before any work, if it does not fit a model.

        Args:
            classifier: The `Classifier`.
            images: Some images, `(N, ...)` float32.
            num_classes: How many classes the model has.
        """
        del num_classes
        if self.surrogate is not None:
            self.surrogate.prepare(classifier, images)
        if self.reads_features:
            classifier.open(images)
            classifier.cut()

    def with_bounds(self, bounds):
        """The same attack on pixels of another range."""
        if bounds == self.bounds:
            return self
        return dataclasses.replace(self, bounds=bounds)

    def __call__(self, model, x, y, inputs=None, output=None):
        """Attack images.

        Args:
            model: A Keras model, or a differentiable callable, that maps
                images to logits or probabilities; see `keras_wp.evaluate`.
            x: Images `(N, ...)` within the bounds, or of a type of whole
                numbers, such as uint8, for models that take 0 to 255.
            y: Labels `(N,)`, integers or one-hot; for a targeted attack, the
                classes to aim at.
            inputs: A `keras_wp.Inputs`, for images in other units.
            output: Which output of the model are its classes, by name.

        Returns:
            The adversarial images. Where the attack failed, its last try.

        Raises:
            ValueError: If an argument is not as described.
        """
        return arrays.attack_images(
            self, model, x, y, inputs=inputs, output=output
        )

    def perturb(self, problem):
        """All updates of one run, inside a training step's graph.

        Nothing stops early: an image that is misclassified already continues
        to where the objective is worse still, as adversarial training wants.
        """

        def body(state):
            # A fresh view: counts taken inside a loop must not leave it.
            view = self.adapted(problem.fresh())
            moved, _ = self.step(view, state)
            return {**moved, "iteration": state["iteration"] + 1}

        state = iteration.begin(self, problem, ops.zeros_like(problem.y))
        state = _backend.repeat(self.updates, body, state)
        return ops.stop_gradient(state["x_adv"])


def told_targets(targets):
    """What a label says of `targets`: nothing, `"T"`, or `"T4"`."""
    if targets is None:
        return ""
    return "T" if targets == STANDARD_TARGETS else f"T{targets}"


def _plain(value):
    """A value in a label: short, and as it may stand in a name."""
    if not isinstance(value, (float, np.floating)):
        return str(value).replace(" ", "")
    short, levels = f"{value:.6g}", round(value * 255)
    if float(short) != value and 0 < levels / 255 == value:
        return f"{levels}/255"
    return short
