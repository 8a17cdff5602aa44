"""MART.

Source: Wang et al., "Improving adversarial robustness requires revisiting
misclassified examples" (ICLR 2020).
"""

import keras

from keras_wp import objectives
from keras_wp._checks import check_positive
from keras_wp.defenses.base import Defense


@keras.saving.register_keras_serializable(package="keras_wp")
class MART(Defense):
    """Trains on attacked images, and more on those that are misclassified.

    With `p = softmax(f(x))` and `q = softmax(f(x_adv))`, the loss is the mean
    over the images of

        -log q_y - log(1 - max_{k != y} q_k) + beta * KL(p || q) * (1 - p_y)

    plus the model's own penalties. (The authors' code adds 1e-4 to the second
    argument of a logarithm, against overflow; here it is computed from the
    logits, and needs nothing.) The compiled loss is what `evaluate` shows; it
    has no part in training. Metrics in training are measured on the logits of
    both passes, as `clean_accuracy`, `robust_accuracy` and so on.

    `BatchNormalization` sees two passes a step: of the clean images, then of
    the attacked ones.

    The authors' settings: on CIFAR-10 10 steps of 0.007 at 0.031, from `x`
    with a little normal noise, and `beta=5`.

    Args:
        model: A Keras model that maps images within the attack's bounds to
            logits `(N, K)`; see `Defense`.
        attack: An untargeted attack with a budget, such as
            `keras_wp.attacks.PGD`.
        beta: Weight of the divergence, above 0.
        name: Name of the defense.
        inputs: See `Defense`.

    Raises:
        ValueError: If an argument is not as described.

    Source: Wang et al., ICLR 2020, equations 8 to 11, and the authors' code.

    Example:

    >>> attack = keras_wp.attacks.PGD(
    ...     eps=0.031, steps=10, step_size=0.007, random_start="normal"
    ... )
    >>> defense = keras_wp.defenses.MART(model, attack, beta=5.0)
    >>> defense.compile("adam", metrics=["accuracy"])
    >>> history = defense.fit(x_train, y_train, batch_size=128, epochs=10)
    """

    def __init__(self, model, attack, beta=5.0, name=None, inputs=None):
        check_positive(beta=beta)
        super().__init__(model, attack, name=name, inputs=inputs)
        self.beta = float(beta)

    def training_loss(self, x, x_adv, y, sample_weight):
        clean, penalty = self.train_pass(x)
        logits, _ = self.train_pass(x_adv)
        wrongness = objectives.error_probability(clean, y)
        divergence = objectives.kl_divergence(clean, logits)
        values = objectives.boosted_cross_entropy(logits, y)
        values += self.beta * divergence * wrongness
        loss = self.image_mean(values, sample_weight) + penalty
        return loss, {"clean": clean, "robust": logits}

    def get_config(self):
        """The arguments that make an equal defense."""
        return {**super().get_config(), "beta": self.beta}
