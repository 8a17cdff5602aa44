"""Would more have been found? Attacks tried on what was left as robust.

An attack that wins here shows that the accuracy is too high. Its
kind says why.
"""

import dataclasses

from keras_wp.attacks import APGD, FGSM, InTurn, Square, adaptive
from keras_wp.reports import wording
from keras_wp.reports.findings import Finding, severity_of

# A run that is cut short by a third shows that it was not over.
MORE_STEPS, MORE_RESTARTS, MOST_STEPS = 3, 2, 300
# Queries of the random search: where gradients mislead it wins early, and
# where they do not, it would need thousands.
QUERIES = 200
# Steps for each class aimed at.
AIMED = 20


def stronger_attacks(subject):
    """Attacks that fool images which counted as robust."""
    if not subject.survivors:
        return
    for check, what, attack in _tries(subject):
        tried = subject.run(attack, subject.survivors)
        won = int(tried.sum())
        share = subject.share_of_survivors(won)
        severity = severity_of(share)
        if severity is None:
            continue
        yield Finding(
            severity,
            f"{what} fooled {won} of {len(subject.survivors)} images that "
            f"counted as robust at {subject.budget}: the robust "
            f"accuracy is too high by about {100 * share:.1f} points.",
            subject.evidence(
                attack=attack.label,
                images=len(subject.survivors),
                fooled=won,
                points=100 * share,
                robust_accuracy=float(subject.robust.mean()),
            ),
            check,
        )


def _tries(subject):
    """`(check, what it is in words, attack)` for each try."""
    base, common = subject.base, _common(subject)
    yield "one_step", "A single gradient step", FGSM(**common)
    steps = min(MORE_STEPS * base.steps, max(MOST_STEPS, base.steps))
    longer = dataclasses.replace(base, steps=steps)
    yield "more_steps", f"{base.label} with {steps} steps", longer
    restarts = max(MORE_RESTARTS, base.restarts)
    again = {"restarts": restarts, "seed": base.seed + 1}
    if hasattr(base, "random_start"):
        again["random_start"] = True
    restarted = dataclasses.replace(base, **again)
    yield "more_restarts", f"{base.label} from other starts", restarted
    loss = "margin" if base.loss != "margin" else "cross_entropy"
    other = dataclasses.replace(base, loss=loss)
    yield "other_loss", f"{base.label} on the loss {loss!r}", other
    if subject.adaptive is None:
        aimed = APGD(
            **common, steps=AIMED, loss="margin", targets=adaptive.TARGETS
        )
        yield "targets", "Aiming at one class after another", aimed
        rescaled = dataclasses.replace(
            base, loss="cross_entropy", surrogate=adaptive.STANDARDIZE
        )
        yield "rescaled_logits", f"{base.label} on rescaled logits", rescaled
        if subject.surrogates:
            through = [
                dataclasses.replace(base, loss="margin", surrogate=surrogate)
                for surrogate in subject.surrogates
            ]
            what = f"{base.label} with the gradient of a surrogate"
            yield "surrogates", what, InTurn(members=through)
    if len(subject.clean.shape) <= 3:  # What `Square` can draw squares in.
        square = Square(**common, steps=QUERIES)
        yield "gradient_free", "A random search without gradients", square


def _common(subject):
    return {"eps": subject.eps, "norm": subject.norm, "bounds": subject.bounds}


def unexplained_gain(subject):
    """Images that only attacks without a known gradient have fooled.

    The model's own gradient, and those of surrogates for what was found to
    lose it, should do as well as gradients averaged over noise, or none at
    all. Where they do not, something loses gradients unseen, and more images
    may be left.
    """
    if subject.adaptive is None or subject.draws:
        return
    gained = [i for i in subject.sample if subject.adapted[i]]
    if not gained:
        return
    known = InTurn(members=_along_known_gradients(subject))
    missed = int((~subject.run(known, gained)).sum())
    share = subject.share_of_sample(missed)
    severity = severity_of(share)
    if severity is None:
        return
    meaning = "something loses gradients unseen, and attacks that know it may "
    meaning += "fool more"
    if subject.by_chance(missed):
        severity, meaning = "info", "so few may be chance"
    yield Finding(
        severity,
        f"{missed} of {len(gained)} images that the adaptive attacks fooled at "
        f"{subject.budget} resist every attack along the model's own gradient "
        "and along those of surrogates for what was found inside: "
        f"{meaning}.",
        subject.evidence(images=len(gained), missed=missed, points=100 * share),
        "unexplained_gain",
    )


def _along_known_gradients(subject):
    """Single attacks along the model's gradient, and its surrogates'."""
    common = _common(subject)
    common["steps"] = adaptive.FITTED_STEPS
    more = {"loss": "margin", "restarts": adaptive.FITTED_RUNS}
    return [
        APGD(**common, **more),
        APGD(**common, loss="cross_entropy", surrogate=adaptive.STANDARDIZE),
        APGD(**common, loss="margin", targets=adaptive.TARGETS),
        *(APGD(**common, **more, surrogate=s) for s in subject.surrogates),
    ]


def adaptive_attack(subject):
    """Findings about what the adaptive attack added to those asked for."""
    left = float(subject.robust.mean())
    fooled, count = int(subject.adapted.sum()), len(subject.robust)
    yield from gain(subject.norm, subject.eps, left, fooled, count)


def gain(norm, eps, left, fooled, count):
    """Findings about so many more images fooled by adaptive attacks.

    Args:
        norm: The norm.
        eps: The budget.
        left: The robust accuracy that is left.
        fooled: How many images only the adaptive attacks have fooled.
        count: How many images there are.
    """
    share = fooled / count
    if severity_of(share) is None:
        return
    yield Finding(
        "warning",
        "The attacks asked for would have left a robust accuracy of "
        f"{left + share:.1%} at {wording.budget(norm, eps)}; attacks adapted "
        f"to the model leave {left:.1%}.",
        {"norm": norm, "eps": eps, "fooled": fooled, "points": 100 * share},
        "adaptive_attack",
    )
