"""The lower bound beside attacks: what is proved is left out, and holds."""

import numpy as np

from keras_wp import _checks
from keras_wp.engine import predict
from keras_wp.evaluation.certify import certificate, check_logits, opened
from keras_wp.reports.brackets import NORMS
from keras_wp.reports.wording import norm_text

# Attacks measure distances in float32.
_MEASURED = 1e-5


def certificate_of(session, radii):
    """The `Certificate` of the images of an evaluation.

    Args:
        session: The `Session`.
        radii: The pairs of norm and eps that attacks have.

    Raises:
        ValueError: If nothing can be proved.
    """
    if "l2" not in dict(radii):
        raise ValueError(
            "`certify` proves accuracies in l2: give an attack with a budget "
            f"in it. Received: budgets in {sorted(dict(radii)) or 'no norm'}"
        )
    view = session.classifier.view
    if not view.trivial:
        raise ValueError(
            "`certify` needs a model that maps the images, in the units of "
            "the attacks, to logits. Received: "
            + ("; ".join(view.notes) or "images in other units")
        )
    clean = session.clean
    graph = opened(session.classifier, clean.images)
    logits = predict.logits(
        session.classifier, clean.images, session.batch_size
    )
    check_logits(graph, session.classifier, logits)
    lengths = dict.fromkeys(clean.identities, (0.0, 0.0))
    for name, image in session.data.named():
        lengths[name] = graph.lengths(image[None])[0]
    return certificate(
        graph,
        np.array([lengths[name] for name in clean.identities]),
        clean.logits,
        clean.labels,
        np.prod(clean.shape),
    )


def proved(certificate, attack, budgets):
    """Which images no attack can break: `(n,)` bool.

    Args:
        certificate: A `Certificate`, or None.
        attack: The attack.
        budgets: Its budgets.
    """
    if certificate is None or None in budgets or attack.norm not in NORMS:
        return np.False_
    eps = max(budgets)
    # An attack may be that much farther away, by rounding.
    eps += _checks.tolerance(eps, attack.bounds)
    return certificate.certified(eps, attack.norm)


def check(certificate, attack, outcomes):
    """Raise an error if an attack has broken an image that is proved.

    Args:
        certificate: A `Certificate`, or None.
        attack: The attack.
        outcomes: The `Outcomes` of its run.
    """
    if certificate is None or attack.norm not in NORMS:
        return
    radii = certificate.radii(attack.norm)
    broken = outcomes.success & (outcomes.distance * (1 + _MEASURED) < radii)
    if broken.any():
        first = int(broken.argmax())
        raise RuntimeError(
            f"{attack.label} changed the prediction of image {first} by a "
            f"perturbation of {outcomes.distance[first]:.6g} in "
            f"{norm_text(attack.norm)}, and the certificate excludes all "
            f"below {radii[first]:.6g}: one of them is wrong, so neither "
            "number is to be used. Please report it."
        )
