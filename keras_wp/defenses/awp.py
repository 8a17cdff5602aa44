"""AWP: adversarial weight perturbation.

Source: Wu, Xia and Wang, "Adversarial weight perturbation helps robust
generalization" (NeurIPS 2020).
"""

import keras
from keras import ops

from keras_wp import _backend, norms
from keras_wp._checks import check_at_least, check_positive
from keras_wp.defenses import passes
from keras_wp.defenses.base import Defense

# Keeps gradients within the range of float16. Their length does not matter.
_SCALE = 1024.0


@keras.saving.register_keras_serializable(package="keras_wp")
class AWP(Defense):
    """Trains a defense at weights that are perturbed to its disadvantage.

    With the defense's loss `L(w)` of a batch of attacked images, without the
    penalties of the model, each kernel `w` is moved by

        v = gamma * ||w|| * grad L(w) / ||grad L(w)||

    (with Euclidean lengths, variable by variable), the gradient of the whole
    loss is taken at `w + v`, and the optimizer applies it at `w`. Biases and
    other variables of less than two dimensions stay where they are. A step
    costs one forward and one backward pass of the defense's loss more.

    The images are attacked at `w`. `BatchNormalization` and random numbers
    are moved by the pass at `w + v` alone, whose `loss` and metrics the logs
    have. Evaluation sees `w`. On several devices the perturbation is that of
    the whole batch, the same on each.

    The authors' settings: on CIFAR-10 and CIFAR-100 `gamma=0.01` with
    adversarial training, `gamma=0.005` with TRADES, and there without
    perturbation in the first 10 epochs of 200, which saves time.

    Args:
        defense: The defense, which need not be compiled; compile and fit the
            AWP in its place. It is its attack that is used.
        gamma: Length of the perturbation relative to that of the weights,
            above 0.
        warmup_steps: Number of training steps, at least 0, before weights are
            perturbed.
        name: Name of the model.

    Raises:
        ValueError: If an argument is not as described.

    Source: Wu, Xia and Wang, NeurIPS 2020, and the authors' code. There, too,
    weight decay has no part in `v`, and a copy of the model spares the
    statistics of `BatchNormalization` a second pass.

    Example:

    >>> attack = keras_wp.attacks.PGD(eps=8 / 255, steps=10, step_size=2 / 255)
    >>> trades = keras_wp.defenses.TRADES(model, attack)
    >>> defense = keras_wp.defenses.AWP(trades, gamma=0.005)
    >>> defense.compile("adam", metrics=["accuracy"])
    >>> history = defense.fit(x_train, y_train, batch_size=128, epochs=10)
    """

    def __init__(self, defense, gamma=0.01, warmup_steps=0, name=None):
        if not isinstance(defense, Defense) or isinstance(defense, AWP):
            raise ValueError(
                "Argument `defense` must be a keras_wp.defenses.Defense, and "
                f"not an AWP itself. Received: {type(defense).__name__}"
            )
        check_positive(gamma=gamma)
        check_at_least(0, warmup_steps=warmup_steps)
        super().__init__(
            defense.model, defense.attack, name=name, inputs=defense.inputs
        )
        self.defense = defense
        self.gamma, self.warmup_steps = float(gamma), int(warmup_steps)

    def training_loss(self, x, x_adv, y, sample_weight):
        def loss():
            return self.defense.training_loss(x, x_adv, y, sample_weight)

        shifts = self._perturbation(loss)
        shifted = [
            (v, value + shifts[id(v)] if id(v) in shifts else value)
            for v, value in passes.values(self.model)
        ]
        with keras.StatelessScope(shifted) as scope:
            found = loss()
        passes.keep(scope, shifted, shifts)
        return found

    def _perturbation(self, loss):
        """What is added to variables, by their `id`."""
        frozen = passes.frozen(self.model)
        trainable = {
            id(v) for v in self.model.trainable_variables if len(v.shape) > 1
        }
        kernels = [(v, value) for v, value in frozen if id(v) in trainable]
        variables = [v for v, _ in kernels]
        weights = [value for _, value in kernels]
        one_hot = passes.current(self.loss).one_hot

        def scaled(weights):
            known = [*frozen, *zip(variables, weights, strict=True)]
            step = passes.Step(self.loss, one_hot, penalized=False)
            with keras.StatelessScope(known), step:
                return _SCALE * loss()[0]

        def gradient():
            return _backend.gradient(scaled, weights)

        if self.warmup_steps:
            _, step = ops.unstack(ops.convert_to_tensor(self._noise), 2)
            warm = step > self.warmup_steps
            slopes = ops.cond(
                warm, gradient, lambda: [ops.zeros_like(w) for w in weights]
            )
        else:
            slopes = gradient()
        slopes = _backend.over_replicas(slopes)
        return {
            id(v): self.gamma * _shift(weight, slope)
            for v, weight, slope in zip(variables, weights, slopes, strict=True)
        }

    def get_config(self):
        """The arguments that make an equal defense."""
        return {
            "defense": keras.saving.serialize_keras_object(self.defense),
            "gamma": self.gamma,
            "warmup_steps": self.warmup_steps,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The defense with this configuration."""
        defense = keras.saving.deserialize_keras_object(
            config["defense"], custom_objects
        )
        return cls(**{**config, "defense": defense})


def _shift(weight, slope):
    """A vector along the slope, as long as the weight."""
    # Where float16 has overflown, the optimizer skips the step anyway.
    finite = ops.all(ops.isfinite(slope))
    slope = ops.where(finite, slope, ops.zeros_like(slope))
    direction = norms.get("l2").steepest(slope[None])[0]
    length = norms.euclidean(ops.reshape(weight, (1, -1)))[0]
    return ops.stop_gradient(length * direction)
