"""What a model does near its images, and far from them."""

import dataclasses

import numpy as np

from keras_wp.engine import refine
from keras_wp.objectives import predicted
from keras_wp.reports.findings import Finding, severity_of

# At half the range of the pixels one grey image is within reach of all, and
# at the whole range any image is within reach of any other.
HALF, WHOLE = 0.5, 1.0
# A change so small, as a share of the budget, that a model is about linear
# within it, and that an adversarial image met by chance tells of predictions
# that jump; and how often noise of that size is drawn.
SMALL, DRAWS = 0.05, 4
# So many images of a sample, and a tenth of it, may lie next to a boundary
# without its meaning anything.
_NEAR_BY_CHANCE = 2
# A gradient is right about so small a step, or promises a little too much.
# One that promises ten times too much is the slope of a ripple.
KEPT = 0.1
# Noise moves a margin by no more than its gradient promises for the best step
# of that size, or about so much; where it moves it by this much more, the
# gradient is not that of the model.
HIDDEN = 3.0
# Differences of logits below this share of them are rounding.
ROUNDING = 1e-5


def checks(trial):
    """Every finding of this kind, for a `Trial`."""
    yield from noise(trial)
    if trial.survivors:
        yield from misleading(trial)
        if trial.adaptive is None or not trial.surrogates:
            yield from hidden(trial)
        yield from far(trial)


def noise(trial):
    """Predictions that noise changes which is far below the budget.

    Images that nothing fooled are grave. Of the others a few may lie near a
    boundary by chance.
    """
    sample, left = trial.sample, trial.survivors
    changed = _changed_by_noise(trial, sample)
    among_left = int(_changed_by_noise(trial, left).sum()) if left else 0
    severity = severity_of(trial.share_of_survivors(among_left))
    meaning = "predictions jump, and gradients say little about them"
    if severity is None:
        if severity_of(trial.share_of_sample(int(changed.sum()))) is None:
            return
        severity = "warning"
        few = min(_NEAR_BY_CHANCE, len(sample) // 10)
        if not among_left and changed.sum() <= few:
            severity, meaning = "info", "so close is the boundary to a few"
    yield Finding(
        severity,
        f"Noise of {SMALL:.0%} of the budget changed the prediction for "
        f"{int(changed.sum())} of {len(sample)} images, and for {among_left} "
        f"of {len(left)} that counted as robust: {meaning}.",
        trial.evidence(
            draws=DRAWS,
            images=len(sample),
            changed=int(changed.sum()),
            survivors=len(left),
            changed_survivors=among_left,
        ),
        "noise",
    )


def _changed_by_noise(trial, indices):
    """Whose prediction any draw of the noise makes wrong: `(n,)` bool."""
    x = np.stack([trial.images[i] for i in indices])
    labels = trial.clean.labels[indices]
    rng = np.random.default_rng(trial.seed)
    length = _length(trial, x)
    changed = np.zeros(len(x), bool)
    for _ in range(DRAWS):
        noisy = x + rng.uniform(-length, length, x.shape)
        noisy = noisy.astype(np.float32).clip(*trial.bounds)
        changed |= predicted(trial.logits(noisy)) != labels
    return changed


def misleading(trial):
    """Gradients that promise much more than a tiny step brings."""
    x, labels, logits, gradient = trial.at_survivors
    moved = x + _length(trial, x) * np.sign(gradient)
    moved = moved.astype(np.float32).clip(*trial.bounds)
    axes = tuple(range(1, x.ndim))
    promised = (gradient.astype(np.float64) * (moved - x)).sum(axes)
    brought = _margin(trial.logits(moved), labels) - _margin(logits, labels)
    clear = promised > ROUNDING * np.abs(logits).max(-1)
    astray = int((clear & (brought < KEPT * promised)).sum())
    share = trial.share_of_survivors(astray)
    severity = severity_of(share)
    if severity is None:
        return
    yield Finding(
        severity,
        f"On {astray} of {len(x)} images that counted as robust, a step of "
        f"{SMALL:.0%} of the budget along the gradient brings less than "
        f"{KEPT:.0%} of what the gradient promises: attacks that follow it "
        "are led astray.",
        trial.evidence(
            images=len(x),
            astray=astray,
            median_share=float(np.median(brought[clear] / promised[clear])),
            points=100 * share,
        ),
        "misleading_gradients",
    )


def hidden(trial):
    """Gradients that promise much less than noise brings."""
    x, labels, logits, gradient = trial.at_survivors
    axes = tuple(range(1, x.ndim))
    length = _length(trial, x)
    promised = length * np.abs(gradient.astype(np.float64)).sum(axes)
    margin = _margin(logits, labels)
    rng = np.random.default_rng(trial.seed)
    brought = np.zeros(len(x))
    for _ in range(DRAWS):
        noisy = x + length * rng.choice([-1.0, 1.0], x.shape)
        noisy = noisy.astype(np.float32).clip(*trial.bounds)
        change = np.abs(_margin(trial.logits(noisy), labels) - margin)
        brought = np.maximum(brought, change)
    clear = brought > ROUNDING * np.abs(logits).max(-1)
    astray = clear & (brought > HIDDEN * promised)
    share = trial.share_of_survivors(int(astray.sum()))
    severity = severity_of(share)
    if severity is None:
        return
    yield Finding(
        severity,
        f"On {int(astray.sum())} of {len(x)} images that counted as robust, "
        f"noise of {SMALL:.0%} of the budget changes the margin by more than "
        f"{HIDDEN:g} times what its gradient promises for any step of that "
        "size: the gradient is not that of the model.",
        trial.evidence(
            images=len(x), astray=int(astray.sum()), points=100 * share
        ),
        "hidden_gradients",
    )


def _length(trial, x):
    """How far each pixel moves in a change of `SMALL` of the budget."""
    length = SMALL * trial.eps
    return length / np.sqrt(x[0].size) if trial.norm == "l2" else length


def _margin(logits, labels):
    logits = logits.astype(np.float64)
    return refine.adversarial_margin(logits, labels, False)


def far(trial):
    """Perturbations so large that they must succeed."""
    attack = trial.adaptive or _free_step(trial.base)
    left = trial.survivors
    for check, share, words in (
        ("flat_curve", HALF, "half of the pixels' range"),
        ("unbounded", WHOLE, "the whole range of the pixels"),
    ):
        radius = trial.radius(share)
        if radius <= trial.eps or not left:
            continue
        wide = dataclasses.replace(attack, eps=radius)
        tried = trial.run(wide, left)
        left = np.asarray(left)[~tried].tolist()
        doubt = trial.share_of_survivors(len(left))
        severity = severity_of(doubt)
        if severity is None:
            return
        yield Finding(
            severity,
            f"{len(left)} of {len(trial.survivors)} images that counted as "
            f"robust resisted {attack.label} even at {words}: the attack does "
            "not work on them, or the model does not look at them.",
            trial.evidence(
                attack=attack.label,
                wide_eps=radius,
                images=len(trial.survivors),
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
