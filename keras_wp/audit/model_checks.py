"""Checks of the model itself: its answers, and what is inside it."""

import math

import numpy as np

from keras_wp.engine.judge import FRESH_DRAWS
from keras_wp.inspection import ranges
from keras_wp.reports.findings import Finding, severity_of

# A few units that pass no gradient on are harmless.
MANY, MOST = 0.1, 0.5
# Float32 holds probabilities down to exp(-87), and up to 1 - 2**-24.
_MOST_GAP = {"log": 87.0, "logit": 16.0}
_DOES = {
    "saturating": "saturated",
    "step": "a step",
    "rounding": "rounded",
    "normalizing": "normalized at a low temperature",
    "comparing": "a comparison",
    "selecting": "a choice",
    "detached": "linear and has another derivative",
}


def saturated_units(session):
    """Operations inside the model that pass little of a gradient on."""
    images = session.clean.images
    if not session.clean.correct.any():
        return
    for site in session.classifier.open(images).masks:
        if site.lost < MANY:
            continue
        yield Finding(
            "warning" if site.lost >= MOST else "info",
            f"{site.lost:.1%} of the units of {site.name!r}, which is "
            f"{_DOES[site.kind]}, pass no gradient on.",
            {
                "operation": site.name,
                "kind": site.kind,
                "saturated": site.lost,
                "images": len(images),
            },
            "saturated_units",
        )


def denied(results):
    """Successes that an attack claimed and the model itself denies."""
    for result in results:
        if result.denied is None or not result.attacked.any():
            continue
        count = int(result.denied.sum())
        share = count / len(result.denied)
        if severity_of(share) is None:
            continue
        yield Finding(
            "high",
            f"{result.name} claimed to have fooled {count} of "
            f"{int(result.attacked.sum())} images that the model itself, "
            "called on what was found, classifies correctly: the attack "
            "looks at another function than the model.",
            {
                "attack": result.name,
                "norm": result.norm,
                "eps": result.eps,
                "denied": count,
                "points": 100 * share,
            },
            "denied_success",
        )


def short_steps(results):
    """Attacks whose steps, all together, are shorter than their budget."""
    for result in results:
        step, steps = (result.attack.get(k) for k in ("step_size", "steps"))
        if not step or not steps or not result.eps:
            continue
        if result.minimum_norm or step * steps >= result.eps:
            continue
        yield Finding(
            "warning",
            f"{result.name} can move an image by {step * steps:.3g} at most, "
            f"less than its budget of {result.eps:.3g}: its accuracy is too "
            "high. Leave out `step_size`, and it fits the budget.",
            {"attack": result.name, "reach": step * steps, "eps": result.eps},
            "short_steps",
        )


def chance(correct, classes):
    """A model that does no better than guessing on the images as they are.

    Args:
        correct: `(n,)` bool, which images are classified correctly.
        classes: How many classes there are.
    """
    expected = len(correct) / classes
    deviation = math.sqrt(expected * (1 - 1 / classes))
    if correct.sum() > expected + 2 * deviation:
        return
    yield Finding(
        "warning",
        f"The model classifies {correct.mean():.0%} of the clean images "
        "correctly, as if by chance: are they in the units that it takes "
        "(inputs=keras_wp.Inputs(...)), and labels in the order of its "
        "classes?",
        {"correct": int(correct.sum()), "classes": classes},
        "chance",
    )


def pixels(model, units, described):
    """Pixels in another range than a model was made for.

    Args:
        model: The model.
        units: The `Units` of the images.
        described: Whether somebody has said what the images are.
    """
    bounds = units.bounds
    if described:
        return
    wanted = ranges.by_name(model)
    if wanted is None and units.identity and bounds == (0.0, 1.0):
        wanted = "[0, 255]" if ranges.takes_bytes(model) else None
    if wanted is not None and (bounds, wanted) != ((-1.0, 1.0), "[-1, 1]"):
        yield Finding(
            "warning",
            f"The model seems to be made for pixels in {wanted}, and images "
            "are given to it as they are: say what they are by `inputs="
            "keras_wp.Inputs(...)`.",
            {"takes": wanted, "bounds": list(bounds)},
            "pixels",
        )


def probabilities(session):
    """Probabilities whose logarithms have lost the digits of logits."""
    clean, rule = session.clean, session.classifier.view.rule
    if rule == "logits":
        return
    first, second = np.sort(clean.logits, axis=-1)[:, :-3:-1].T
    # Beyond this gap one of two probabilities is rounded to 0 or to 1.
    lost = float((first - second > _MOST_GAP[rule]).mean())
    yield Finding(
        severity_of(lost) or "info",
        "The model returns probabilities, whose logarithms are attacked as "
        f"its last operation cannot be left out. For {lost:.1%} of the images "
        "they are rounded to 0 or 1, where no gradient is left.",
        {"rule": rule, "points": 100 * lost},
        "probabilities",
    )


def unsteady(session):
    """Logits that change with no change of the image."""
    clean = session.clean
    if clean.draws is None and clean.change is not None:
        yield Finding(
            "high",
            "The model's logits for an image change from call to call, or "
            "with the images beside it: what fools it once need not fool it "
            "again, and one gradient says little.",
            {"change": clean.change},
            "unsteady",
        )


def randomized(session):
    """What was done about a randomized model, and what is left open."""
    clean, shares = session.clean, session.shares
    if clean.draws is None:
        return
    attacked = clean.correct & (shares > 0)
    # More than two deviations from a half: then the draws have decided.
    near = np.abs(shares - 0.5) <= 1.0 / np.sqrt(FRESH_DRAWS)
    undecided = int((attacked & near).sum())
    share = undecided / len(shares)
    yield Finding(
        severity_of(share) or "info",
        f"The model is randomized: gradients are means over {clean.draws} "
        f"draws, and an image counts as fooled if most of {FRESH_DRAWS} "
        f"fresh draws are wrong. For {undecided} of {len(shares)} images "
        "these draws do not decide.",
        {
            "change": clean.change,
            "draws": clean.draws,
            "fresh_draws": FRESH_DRAWS,
            "undecided": undecided,
            "points": 100 * share,
        },
        "randomized",
    )
