"""What an evaluation shows of gradients that lead nowhere, robust or not."""

import itertools

import numpy as np

from keras_wp.attacks import FGSM
from keras_wp.engine import refine
from keras_wp.reports.findings import Finding, severity_of

# A few units that pass no gradient on are harmless.
MANY, MOST = 0.1, 0.5
_DOES = {
    "saturating": "saturated",
    "step": "a step",
    "rounding": "rounded",
    "normalizing": "normalized at a low temperature",
    "comparing": "a comparison",
    "selecting": "a choice",
    "detached": "linear and has another derivative",
}


def checks(trial):
    """Every finding of this kind, for a `Trial`."""
    yield from useless_gradients(trial)
    yield from one_step_wins(trial)
    yield from accuracy_rises(trial)
    yield from blind(trial)


def useless_gradients(trial):
    """Attacks that met gradients of zero, or such as are not finite."""
    kinds = (
        ("zero_gradients", "a gradient of exactly zero"),
        ("bad_gradients", "gradients that are not finite"),
    )
    asked = {attack.label for attack in trial.attacks}
    for result in trial.results:
        if result.name not in asked:  # Where it ends counts there: `blind`.
            continue
        for kind, what in kinds:
            met = (getattr(result, kind) > 0) & result.attacked
            share = float(met.sum() / max(1, result.attacked.sum()))
            if severity_of(share) is None:
                continue
            yield Finding(
                "warning",
                f"{result.name} met {what} on {share:.1%} of the images that "
                f"it attacked at {trial.norm} {trial.eps:.4g}, and could not "
                "know there where to go.",
                trial.evidence(
                    attack=result.name,
                    images=int(result.attacked.sum()),
                    met=int(met.sum()),
                ),
                kind,
            )


def blind(trial):
    """Images that count as robust where no attack has seen a gradient."""
    if not trial.blind:
        return
    useless = np.all(trial.blind, axis=0) & trial.robust
    share = float(useless.mean())
    severity = severity_of(share)
    if severity is None:
        return
    yield Finding(
        severity,
        f"{int(useless.sum())} of {int(trial.robust.sum())} images that "
        f"counted as robust at {trial.norm} {trial.eps:.4g} gave no attack a "
        "gradient to follow: whether they are robust is not known.",
        trial.evidence(
            images=int(trial.robust.sum()),
            blind=int(useless.sum()),
            points=100 * share,
        ),
        "blind_gradients",
    )


def one_step_wins(trial):
    """Images that one step fools and many do not."""
    if trial.strongest is None:
        return
    many = ~trial.strongest.robust[trial.sample]
    one = FGSM(eps=trial.eps, norm=trial.norm, bounds=trial.bounds)
    single = trial.run(one, trial.sample)
    only = int((single & ~many).sum())
    share = trial.share_of_sample(only)
    if severity_of(share) is None:
        return
    yield Finding(
        "warning",
        f"A single gradient step fooled {only} of {len(trial.sample)} images "
        f"that {trial.strongest.name} did not fool at {trial.norm} "
        f"{trial.eps:.4g}: many steps ought to do better.",
        trial.evidence(
            attack=trial.strongest.name,
            images=len(trial.sample),
            one_step=int(single.sum()),
            many_steps=int(many.sum()),
            only_one_step=only,
        ),
        "one_step_wins",
    )


def accuracy_rises(trial):
    """Attacks that fool fewer images with a larger budget."""
    for name in dict.fromkeys(result.name for result in trial.rows):
        mine = [r for r in trial.rows if r.name == name and r.eps is not None]
        mine = sorted(mine, key=lambda r: r.eps)
        for small, large in itertools.pairwise(mine):
            rise = large.robust_accuracy - small.robust_accuracy
            if severity_of(rise) is None:
                continue
            yield Finding(
                "warning",
                f"The accuracy under {name} rises from "
                f"{small.robust_accuracy:.1%} to {large.robust_accuracy:.1%} "
                f"as eps grows from {small.eps:.4g} to {large.eps:.4g}: the "
                "attack gets lost.",
                {
                    "attack": name,
                    "norm": trial.norm,
                    "eps": [small.eps, large.eps],
                    "points": 100 * rise,
                },
                "accuracy_rises",
            )


def saturation(trial):
    """Operations inside the model that pass little of a gradient on."""
    for site in trial.classifier.open(trial.clean.images).masks:
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
                "images": len(trial.clean.images),
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


def of_the_model(clean, shares=None):
    """Findings about the model's answers: probabilities, and moods.

    Args:
        clean: The `Clean` pass.
        shares: For each image, which share of a randomized model's answers
            was wrong where it was attacked.
    """
    if clean.probabilities:
        yield Finding(
            "high",
            "The model returns probabilities and no logits: losses saturate "
            "on them, and attacks stop early.",
            {
                "lowest": float(clean.logits.min()),
                "highest": float(clean.logits.max()),
            },
            "probabilities",
        )
    if clean.draws is not None:
        yield from _randomized(clean, shares)
    elif clean.change is not None:
        yield Finding(
            "high",
            "The model's logits for an image change from call to call, or "
            "with the images beside it: what fools it once need not fool it "
            "again, and one gradient says little.",
            {"change": clean.change},
            "unsteady",
        )


def _randomized(clean, shares):
    """What was done about a randomized model, and what is left open."""
    shares = np.zeros(len(clean.labels)) if shares is None else shares
    attacked = clean.correct & (shares > 0)
    # More than two deviations from a half: then the draws have decided.
    near = np.abs(shares - 0.5) <= 1.0 / np.sqrt(refine.DRAWS)
    undecided = int((attacked & near).sum())
    share = undecided / len(shares)
    yield Finding(
        severity_of(share) or "info",
        f"The model is randomized: gradients are means over {clean.draws} "
        f"draws, and an image counts as fooled if most of {refine.DRAWS} "
        f"fresh draws are wrong. For {undecided} of {len(shares)} images "
        "these draws do not decide.",
        {
            "change": clean.change,
            "draws": clean.draws,
            "fresh_draws": refine.DRAWS,
            "undecided": undecided,
            "points": 100 * share,
        },
        "randomized",
    )
