"""Adversarial training.

Source: Madry et al., "Towards deep learning models resistant to adversarial
attacks" (ICLR 2018).
"""

import keras

from keras_wp.defenses.base import Defense


@keras.saving.register_keras_serializable(package="keras_wp")
class AdversarialTraining(Defense):
    """Trains on attacked images in place of the clean ones.

    The loss is the compiled one, `L(y, f(x_adv))`, plus the model's own
    penalties. Metrics in training are measured on the same logits, and are
    called `robust_accuracy` and so on; those of clean images are known after
    an evaluation, as `val_clean_accuracy`.

    `BatchNormalization` sees one pass a step, of the attacked images.

    The authors' settings: on CIFAR-10 10 steps of 2/255 at 8/255, on MNIST 40
    steps of 0.01 at 0.3.

    Args:
        model: A Keras model that maps images within the attack's bounds to
            logits `(N, K)`; see `Defense`.
        attack: An untargeted attack with a budget, such as
            `keras_wp.attacks.PGD`.
        name: Name of the defense.
        inputs: See `Defense`.

    Raises:
        ValueError: If an argument is not as described.

    Source: Madry et al., ICLR 2018, section 2.1.

    Example:

    >>> attack = keras_wp.attacks.PGD(eps=8 / 255, steps=10, step_size=2 / 255)
    >>> defense = keras_wp.defenses.AdversarialTraining(model, attack)
    >>> defense.compile("adam", metrics=["accuracy"])
    >>> history = defense.fit(x_train, y_train, batch_size=128, epochs=10)
    >>> defense.save("defense.keras")  # To be trained further.
    >>> model.save("robust.keras")  # The model inside, to be used.
    """

    def training_loss(self, x, x_adv, y, sample_weight):
        del x
        logits, penalty = self.train_pass(x_adv)
        loss = self.compiled_loss(y, logits, sample_weight)
        return loss + penalty, {"robust": logits}
