"""The attacks that a model's construction calls for, chosen by itself.

Sources: Athalye et al., "Obfuscated gradients give a false sense of security"
(ICML 2018); Tramèr et al., "On adaptive attacks to adversarial example
defenses" (NeurIPS 2020), which finds an attack for each defence by hand.
"""

import keras

from keras_wp import links
from keras_wp.attacks import APGD, InTurn
from keras_wp.surrogates import Surrogate

NAME = "adaptive"
# APGD needs no step size, and comes close to its end in so many steps.
STEPS = 40
# Few images are fooled as another than the likeliest classes.
TARGETS = 4

OF_HEAD = (
    Surrogate(rescale="image"),
    Surrogate(rescale="unit"),
    Surrogate(activation="linear"),
)
STANDARDIZE = Surrogate(standardize=True)


def fitting(classifier, shape):
    """The surrogates for a model whose last activation saturates.

    Args:
        classifier: A `Classifier`.
        shape: The shape of one image.

    Returns:
        A tuple of `Surrogate`, the most promising first; empty if the model
        has no such activation (see `keras_wp.links.head`).
    """
    if not isinstance(classifier.model, keras.layers.Layer):
        return ()
    classifier.build(shape)
    head = links.head(classifier.model)
    if head is None or not head.saturates():
        return ()
    try:
        OF_HEAD[0].prepare(classifier, shape)
    except ValueError:  # Its layers in turn are not the model.
        return ()
    return OF_HEAD


def attack(surrogates, norm, eps, bounds):
    """Everything that is tried, as one attack.

    `APGD` on the margin through each surrogate, then without one; on the
    cross-entropy of standardized logits; and on the margin of each of the
    likeliest wrong classes, un-saturated for the image if that fits.

    Args:
        surrogates: `Surrogate`s, the most promising first.
        norm: `"linf"` or `"l2"`.
        eps: Radius of the ball.
        bounds: Lowest and highest value of a pixel.
    """
    tries = [(surrogate, "margin", None) for surrogate in surrogates]
    tries += [(None, "margin", None), (STANDARDIZE, "cross_entropy", None)]
    best = OF_HEAD[0] if OF_HEAD[0] in surrogates else None
    tries += [(best, "margin", TARGETS)]
    members = [
        APGD(
            eps=eps,
            norm=norm,
            bounds=bounds,
            steps=STEPS,
            loss=loss,
            targets=targets,
            surrogate=surrogate,
        )
        for surrogate, loss, targets in tries
    ]
    return InTurn(members=members, name=NAME)


def asked(adaptive):
    """The user's surrogates, from the argument `adaptive` of `evaluate`.

    Raises:
        ValueError: If it is not a boolean, a surrogate, or several.
    """
    if isinstance(adaptive, bool):
        return ()
    if isinstance(adaptive, Surrogate):
        adaptive = [adaptive]
    if isinstance(adaptive, (list, tuple)) and all(
        isinstance(surrogate, Surrogate) for surrogate in adaptive
    ):
        return tuple(adaptive)
    raise ValueError(
        "Argument `adaptive` must be True, False, a `keras_wp.Surrogate`, or "
        f"a list of them. Received: adaptive={adaptive!r}"
    )
