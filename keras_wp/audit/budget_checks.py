"""Checks of the budget: what happens far within it, and far beyond."""

import dataclasses

import numpy as np

from keras_wp.audit.subject import DRAWS, SMALL
from keras_wp.objectives import predicted
from keras_wp.reports.findings import Finding, severity_of

# At half the range of the pixels one grey image is within reach of all, and
# at the whole range any image is within reach of any other.
HALF, WHOLE = 0.5, 1.0


def noise(subject):
    """Predictions that noise changes which is far below the budget.

    Images that nothing fooled are grave. Of the others a few may lie near a
    boundary by chance.
    """
    sample, left = subject.sample, subject.survivors
    changed = _changed_by_noise(subject, sample)
    among_left = int(_changed_by_noise(subject, left).sum()) if left else 0
    severity = severity_of(subject.share_of_survivors(among_left))
    meaning = "predictions jump, and gradients say little about them"
    if severity is None:
        if severity_of(subject.share_of_sample(int(changed.sum()))) is None:
            return
        severity = "warning"
        if not among_left and subject.by_chance(changed.sum()):
            severity, meaning = "info", "so close is the boundary to a few"
    yield Finding(
        severity,
        f"Noise of {SMALL:.0%} of the budget changed the prediction for "
        f"{int(changed.sum())} of {len(sample)} images, and for {among_left} "
        f"of {len(left)} that counted as robust: {meaning}.",
        subject.evidence(
            draws=DRAWS,
            images=len(sample),
            changed=int(changed.sum()),
            survivors=len(left),
            changed_survivors=among_left,
        ),
        "noise",
    )


def _changed_by_noise(subject, indices):
    """Whose prediction any draw of the noise makes wrong: `(n,)` bool."""
    x = np.stack([subject.images[i] for i in indices])
    labels = subject.clean.labels[indices]
    rng = np.random.default_rng(subject.seed)
    length = subject.small_step
    changed = np.zeros(len(x), bool)
    for _ in range(DRAWS):
        noisy = x + rng.uniform(-length, length, x.shape)
        noisy = noisy.astype(np.float32).clip(*subject.bounds)
        changed |= predicted(subject.logits(noisy)) != labels
    return changed


def far_beyond(subject):
    """Perturbations so large that they must succeed."""
    if not np.isfinite(subject.bounds).all():
        return  # Nothing says how large that is.
    attack = subject.adaptive or _free_step(subject.base)
    left = subject.survivors
    for check, share, words in (
        ("flat_curve", HALF, "half of the pixels' range"),
        ("unbounded", WHOLE, "the whole range of the pixels"),
    ):
        radius = subject.radius(share)
        if radius <= subject.eps or not left:
            continue
        wide = dataclasses.replace(attack, eps=radius)
        tried = subject.run(wide, left)
        left = np.asarray(left)[~tried].tolist()
        doubt = subject.share_of_survivors(len(left))
        severity = severity_of(doubt)
        if severity is None:
            return
        yield Finding(
            severity,
            f"{len(left)} of {len(subject.survivors)} images that counted as "
            f"robust resisted {attack.label} even at {words}: the attack does "
            "not work on them, or the model does not look at them.",
            subject.evidence(
                attack=attack.label,
                wide_eps=radius,
                images=len(subject.survivors),
                resisted=len(left),
                points=100 * doubt,
            ),
            check,
        )


def _free_step(attack):
    """The attack with a step that grows with its budget."""
    if hasattr(attack, "step_size"):
        return dataclasses.replace(attack, step_size=None)
    return attack
