"""Checks of gradients: whether they led the attacks anywhere."""

import itertools

import numpy as np

from keras_wp.attacks import FGSM
from keras_wp.audit.subject import DRAWS, SMALL
from keras_wp.objectives import adversarial_margin
from keras_wp.reports.findings import Finding, severity_of
from keras_wp.reports.wording import eps_text

# A gradient is right about so small a step, or promises a little too much.
# One that promises ten times too much is the slope of a ripple.
KEPT = 0.1
# Noise moves a margin by no more than its gradient promises for the best step
# of that size, or about so much; where it moves it by this much more, the
# gradient is not that of the model.
HIDDEN = 3.0
# Differences of logits below this share of them are rounding.
ROUNDING = 1e-5


def useless_gradients(subject):
    """Attacks that met gradients of zero, or such as are not finite."""
    kinds = (
        ("zero_gradients", "a gradient of exactly zero"),
        ("bad_gradients", "gradients that are not finite"),
    )
    asked = {attack.label for attack in subject.attacks}
    for result in subject.results:
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
                f"it attacked at {subject.budget}, and could not "
                "know there where to go.",
                subject.evidence(
                    attack=result.name,
                    images=int(result.attacked.sum()),
                    met=int(met.sum()),
                ),
                kind,
            )


def blind_gradients(subject):
    """Images that count as robust where no attack has seen a gradient."""
    if not subject.blind:
        return
    useless = np.all(subject.blind, axis=0) & subject.robust
    share = float(useless.mean())
    severity = severity_of(share)
    if severity is None:
        return
    yield Finding(
        severity,
        f"{int(useless.sum())} of {int(subject.robust.sum())} images that "
        f"counted as robust at {subject.budget} gave no attack a "
        "gradient to follow: whether they are robust is not known.",
        subject.evidence(
            images=int(subject.robust.sum()),
            blind=int(useless.sum()),
            points=100 * share,
        ),
        "blind_gradients",
    )


def one_step_wins(subject):
    """Images that one step fools and many do not."""
    if subject.strongest is None:
        return
    many = ~subject.strongest.robust[subject.sample]
    one = FGSM(eps=subject.eps, norm=subject.norm, bounds=subject.bounds)
    single = subject.run(one, subject.sample)
    only = int((single & ~many).sum())
    share = subject.share_of_sample(only)
    if severity_of(share) is None:
        return
    yield Finding(
        "warning",
        f"A single gradient step fooled {only} of {len(subject.sample)} images "
        f"that {subject.strongest.name} did not fool at {subject.budget}: "
        "many steps ought to do better.",
        subject.evidence(
            attack=subject.strongest.name,
            images=len(subject.sample),
            one_step=int(single.sum()),
            many_steps=int(many.sum()),
            only_one_step=only,
        ),
        "one_step_wins",
    )


def accuracy_rises(subject):
    """Attacks that fool fewer images with a larger budget."""
    for name in dict.fromkeys(result.name for result in subject.rows):
        mine = [r for r in subject.rows if r.name == name and r.eps is not None]
        mine = sorted(mine, key=lambda r: r.eps)
        for small, large in itertools.pairwise(mine):
            rise = large.robust_accuracy - small.robust_accuracy
            if severity_of(rise) is None:
                continue
            yield Finding(
                "warning",
                f"The accuracy under {name} rises from "
                f"{small.robust_accuracy:.1%} to {large.robust_accuracy:.1%} "
                f"as eps grows from {eps_text(small.eps)} to "
                f"{eps_text(large.eps)}: the attack gets lost.",
                {
                    "attack": name,
                    "norm": subject.norm,
                    "eps": [small.eps, large.eps],
                    "points": 100 * rise,
                },
                "accuracy_rises",
            )


def misleading_gradients(subject):
    """Gradients that promise much more than a tiny step brings."""
    units = subject.classifier.view.units
    if not subject.survivors or (units is not None and units.whole):
        return  # A tiny step is none between whole numbers.
    x, labels, logits, gradient = subject.at_survivors
    moved = x + subject.small_step * np.sign(gradient)
    moved = moved.astype(np.float32).clip(*subject.bounds)
    axes = tuple(range(1, x.ndim))
    promised = (gradient.astype(np.float64) * (moved - x)).sum(axes)
    before = adversarial_margin(logits, labels)
    brought = adversarial_margin(subject.logits(moved), labels) - before
    clear = promised > ROUNDING * np.abs(logits).max(-1)
    astray = int((clear & (brought < KEPT * promised)).sum())
    share = subject.share_of_survivors(astray)
    severity = severity_of(share)
    if severity is None:
        return
    yield Finding(
        severity,
        f"On {astray} of {len(x)} images that counted as robust, a step of "
        f"{SMALL:.0%} of the budget along the gradient brings less than "
        f"{KEPT:.0%} of what the gradient promises: attacks that follow it "
        "are led astray.",
        subject.evidence(
            images=len(x),
            astray=astray,
            median_share=float(np.median(brought[clear] / promised[clear])),
            points=100 * share,
        ),
        "misleading_gradients",
    )


def hidden_gradients(subject):
    """Gradients that promise much less than noise brings.

    Not asked where surrogates are tried: there the gradient is known to lie.
    """
    if not subject.survivors or (subject.adaptive and subject.surrogates):
        return
    x, labels, logits, gradient = subject.at_survivors
    axes = tuple(range(1, x.ndim))
    length = subject.small_step
    promised = length * np.abs(gradient.astype(np.float64)).sum(axes)
    margin = adversarial_margin(logits, labels)
    rng = np.random.default_rng(subject.seed)
    brought = np.zeros(len(x))
    for _ in range(DRAWS):
        noisy = x + length * rng.choice([-1.0, 1.0], x.shape)
        noisy = noisy.astype(np.float32).clip(*subject.bounds)
        there = adversarial_margin(subject.logits(noisy), labels)
        change = np.abs(there - margin)
        brought = np.maximum(brought, change)
    clear = brought > ROUNDING * np.abs(logits).max(-1)
    astray = clear & (brought > HIDDEN * promised)
    share = subject.share_of_survivors(int(astray.sum()))
    severity = severity_of(share)
    if severity is None:
        return
    yield Finding(
        severity,
        f"On {int(astray.sum())} of {len(x)} images that counted as robust, "
        f"noise of {SMALL:.0%} of the budget changes the margin by more than "
        f"{HIDDEN:g} times what its gradient promises for any step of that "
        "size: the gradient is not that of the model.",
        subject.evidence(
            images=len(x), astray=int(astray.sum()), points=100 * share
        ),
        "hidden_gradients",
    )
