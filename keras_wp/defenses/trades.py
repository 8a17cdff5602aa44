"""TRADES.

Source: Zhang et al., "Theoretically principled trade-off between robustness
and accuracy" (ICML 2019).
"""

import dataclasses

import keras

from keras_wp import objectives
from keras_wp._checks import check_positive
from keras_wp.attacks import PGD
from keras_wp.defenses.base import Defense


@keras.saving.register_keras_serializable(package="keras_wp")
class TRADES(Defense):
    """Trains clean accuracy, and predictions that an attack cannot move.

    The loss is the compiled one of the clean images and a divergence,
    `L(y, f(x)) + beta * mean(KL(softmax(f(x)) || softmax(f(x_adv))))`, plus
    the model's own penalties. `x_adv` is found by PGD on that divergence, from
    `x` with a little normal noise; the clean prediction there is the model's
    in inference mode. Metrics in training are measured on the logits of both
    passes, as `clean_accuracy`, `robust_accuracy` and so on.

    `BatchNormalization` sees two passes a step: of the clean images, then of
    the attacked ones. (In the authors' code it sees the clean ones once more,
    in a pass for the divergence that repeats the first.)

    The authors' settings: on CIFAR-10 10 steps of 0.007 at 0.031 and
    `beta=6`; on MNIST 40 steps of 0.01 at 0.3 and `beta=1`.

    Args:
        model: A Keras model that maps images within the attack's bounds to
            logits `(N, K)`; see `Defense`.
        attack: A `keras_wp.attacks.PGD`. Its loss and its start are replaced
            by `loss="kl_divergence"` and `random_start="normal"`; the rest
            stands. See the attribute `attack`.
        beta: Weight of the divergence, above 0.
        name: Name of the defense.
        inputs: See `Defense`.

    Raises:
        ValueError: If an argument is not as described.

    Source: Zhang et al., ICML 2019, algorithm 1, and the authors' code.

    Example:

    >>> attack = keras_wp.attacks.PGD(eps=0.031, steps=10, step_size=0.007)
    >>> defense = keras_wp.defenses.TRADES(model, attack, beta=6.0)
    >>> defense.compile("adam", metrics=["accuracy"])
    >>> history = defense.fit(x_train, y_train, batch_size=128, epochs=10)
    """

    def __init__(self, model, attack, beta=6.0, name=None, inputs=None):
        check_positive(beta=beta)
        if not isinstance(attack, PGD):
            raise ValueError(
                "TRADES needs an attack of the type keras_wp.attacks.PGD. "
                f"Received: {type(attack).__name__}"
            )
        if not attack.targeted:
            attack = dataclasses.replace(
                attack, loss="kl_divergence", random_start="normal"
            )
        super().__init__(model, attack, name=name, inputs=inputs)
        self.beta = float(beta)

    def training_loss(self, x, x_adv, y, sample_weight):
        logits, penalty = self.train_pass(x)
        attacked, _ = self.train_pass(x_adv)
        divergence = objectives.kl_divergence(logits, attacked)
        loss = self.compiled_loss(y, logits, sample_weight) + penalty
        loss += self.beta * self.image_mean(divergence, sample_weight)
        return loss, {"clean": logits, "robust": attacked}

    def get_config(self):
        """The arguments that make an equal defense."""
        return {**super().get_config(), "beta": self.beta}
