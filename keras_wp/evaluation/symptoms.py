"""What an evaluation shows of gradients that lead nowhere, robust or not."""

import itertools

import numpy as np
from keras import ops

from keras_wp import _backend, links
from keras_wp.attacks import FGSM
from keras_wp.evaluation import adaptive
from keras_wp.evaluation.findings import Finding, severity_of

# A unit is saturated where the activation's slope is below this share of its
# slope at 0: the gradient through it is lost. A few such units are harmless.
_FLAT, MANY, MOST = 1e-6, 0.1, 0.5


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
    """Units of the last activation that have no slope left."""
    if not adaptive.fitting(trial.classifier, trial.clean.shape):
        return
    head = links.head(trial.classifier.model)
    x = np.stack([trial.images[i] for i in trial.sample])
    u = head.before(ops.convert_to_tensor(x))
    value, pullback = _backend.vjp(head.activation, u)
    slope = np.abs(ops.convert_to_numpy(pullback(ops.ones_like(value))))
    value, pullback = _backend.vjp(head.activation, ops.zeros_like(u[:1]))
    middle = np.abs(ops.convert_to_numpy(pullback(ops.ones_like(value)))).max()
    share = float((slope <= _FLAT * middle).mean())
    # The outputs of a softmax have a sum without a slope.
    if share < MANY or middle <= _FLAT:
        return
    yield Finding(
        "warning" if share >= MOST else "info",
        f"{share:.1%} of the units of the last activation ({head.name}) are "
        "saturated: gradients do not pass through them.",
        {
            "activation": head.name,
            "saturated": share,
            "images": len(x),
            "median_size": float(np.median(np.abs(ops.convert_to_numpy(u)))),
        },
        "saturated_units",
    )


def of_the_model(clean):
    """Findings about the clean pass: probabilities, and moods."""
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
    if clean.change is not None:
        yield Finding(
            "high",
            "The model's logits for an image change from call to call, or "
            "with the images beside it: what fools it once need not fool it "
            "again, and one gradient says little.",
            {"change": clean.change},
            "unsteady",
        )
