"""How to train: the choices that `robustify` leaves to a recipe."""

import dataclasses
import math

import keras

from keras_wp import _names, attacks, defenses
from keras_wp._checks import (
    check_at_least,
    check_not_negative,
    check_one_of,
    check_positive,
)

_OPTIMIZERS = ("adam", "sgd")
_DEFENSES = ("fast", "adversarial_training", "trades")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How `keras_wp.robustify` trains.

    Those of `keras_wp.recipes.BUDGETS` are `"fast"`, `"standard"` and
    `"strong"`; docs/training.md says what each choice rests on.

    Args:
        defense: `"fast"` for `FastAdversarialTraining`,
            `"adversarial_training"`, or `"trades"`.
        steps: Steps of PGD in training, at least 1; `"fast"` takes one.
        beta: Weight of the divergence in TRADES, above 0.
        weight_perturbation: `gamma` of `AWP`; 0 for none.
        averaging: Decay of the running average of the weights, in [0, 1);
            0 for none.
        label_smoothing: Of the cross-entropy, in [0, 1).
        epochs: Number of epochs, at least 1.
        optimizer: `"adam"`, or `"sgd"` with Nesterov's momentum of 0.9.
        learning_rate: Its rate in the first epoch, above 0. It falls to 0 by
            a cosine, epoch by epoch.
        weight_decay: Its decay, at least 0. Keras subtracts `rate * decay *
            weight` in each step: with momentum, what others call 5e-4 is
            5e-3 here.
        ramp: Number of epochs, at least 0, in which the budget of the attack
            grows to `eps`, in equal steps.
        attacks: Attacks of the report, by name; or one text with commas.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> recipe = dataclasses.replace(
    ...     keras_wp.recipes.BUDGETS["standard"], steps=5, ramp=2
    ... )
    >>> result = keras_wp.robustify(model, data, eps=0.3, budget=recipe)
    """

    defense: str = "trades"
    steps: int = 10
    beta: float = 6.0
    weight_perturbation: float = 0.0
    averaging: float = 0.995
    label_smoothing: float = 0.0
    epochs: int = 30
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    ramp: int = 0
    attacks: tuple[str, ...] = ("autoattack",)

    def __post_init__(self):
        if isinstance(self.attacks, str):
            names = tuple(_names.split(self.attacks))
            object.__setattr__(self, "attacks", names)
        check_one_of(_DEFENSES, defense=self.defense)
        check_one_of(_OPTIMIZERS, optimizer=self.optimizer)
        check_at_least(1, steps=self.steps, epochs=self.epochs)
        check_at_least(0, ramp=self.ramp)
        check_positive(beta=self.beta, learning_rate=self.learning_rate)
        names = list(self.attacks)
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(
                "Argument `attacks` must be names of attacks, one or more. "
                f"Received: attacks={self.attacks!r}"
            )
        for name in names:
            attacks.get(name)  # Which says what is wrong with it.
        check_not_negative(
            weight_perturbation=self.weight_perturbation,
            weight_decay=self.weight_decay,
        )
        for name in ("averaging", "label_smoothing"):
            value = getattr(self, name)
            check_not_negative(**{name: value})
            if value >= 1:
                raise ValueError(
                    f"Argument `{name}` must be below 1. "
                    f"Received: {name}={value!r}"
                )

    def around(self, model, ball, inputs=None):
        """The defense around a model; not compiled.

        Args:
            model: The model.
            ball: `eps`, `norm` and `bounds` of the attack, as a dictionary.
            inputs: As in `keras_wp.defenses.Defense`.
        """
        attack = attacks.PGD(steps=self.steps, **ball)
        given = {"inputs": inputs}
        if self.defense == "fast":
            found = defenses.FastAdversarialTraining(model, **ball, **given)
        elif self.defense == "trades":
            found = defenses.TRADES(model, attack, beta=self.beta, **given)
        else:
            found = defenses.AdversarialTraining(model, attack, **given)
        if self.weight_perturbation:
            found = defenses.AWP(found, gamma=self.weight_perturbation)
        return found

    def made_optimizer(self):
        """A new optimizer of this recipe."""
        given = {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay or None,
        }
        if self.optimizer == "adam":
            return keras.optimizers.Adam(**given)
        return keras.optimizers.SGD(momentum=0.9, nesterov=True, **given)

    def rate(self, epoch, before=None):
        """The learning rate of an epoch, counted from 0."""
        del before
        turn = math.pi * min(epoch / self.epochs, 1)
        return 0.5 * self.learning_rate * (1 + math.cos(turn))

    def __str__(self):
        """What it is, in a line."""
        kind = {
            "fast": "fast adversarial training (N-FGSM)",
            "adversarial_training": f"adversarial training, PGD{self.steps}",
            "trades": f"TRADES (beta {self.beta:g}), PGD{self.steps}",
        }[self.defense]
        parts = [kind]
        if self.weight_perturbation:
            parts.append(f"AWP (gamma {self.weight_perturbation:g})")
        if self.averaging:
            parts.append(f"averaged weights ({self.averaging:g})")
        if self.label_smoothing:
            parts.append(f"labels smoothed by {self.label_smoothing:g}")
        return ", ".join(parts)


BUDGETS = {
    "fast": Recipe(defense="fast", epochs=20, attacks=("pgd40-margin",)),
    "standard": Recipe(),
    "strong": Recipe(weight_perturbation=0.005, epochs=100),
}
