"""The audit of an evaluation: which budgets, which images, which checks."""

import time

from keras_wp.attacks import adaptive
from keras_wp.audit import (
    budget_checks,
    gradient_checks,
    model_checks,
    planted,
    stronger_attacks,
)
from keras_wp.audit.subject import Subject
from keras_wp.reports import wording
from keras_wp.reports.findings import Finding, gravest_first, severity_of

# Of the model: functions of the evaluation's session.
MODEL_CHECKS = (
    model_checks.probabilities,
    model_checks.unsteady,
    model_checks.randomized,
    model_checks.saturated_units,
)
# Of what an evaluation found within one budget: functions of a `Subject`.
CHECKS = (
    stronger_attacks.adaptive_attack,
    stronger_attacks.unexplained_gain,
    gradient_checks.useless_gradients,
    gradient_checks.one_step_wins,
    gradient_checks.accuracy_rises,
    gradient_checks.blind_gradients,
    budget_checks.noise,
    gradient_checks.misleading_gradients,
    gradient_checks.hidden_gradients,
    budget_checks.far_beyond,
    stronger_attacks.stronger_attacks,
    planted.planted,
)


def audit(session, report, attacks, surrogates, bounds):
    """Look for reasons why the accuracies of a report may be too good.

    In each norm it looks at one budget: the largest at which a share worth a
    remark resists (see `findings.severity_of`), or the largest there is.

    Args:
        session: The `Session`, with its `keeper` open.
        report: Its `Report`, without findings.
        attacks: The attacks asked for.
        surrogates: The surrogates that the model gives reason to try.
        bounds: Lowest and highest value of a pixel.

    Returns:
        The findings, gravest first. The last one says what was done.
    """
    begun = time.perf_counter()
    findings = [f for check in MODEL_CHECKS for f in check(session)]
    tried = []
    for norm, eps in _budgets(report):
        rows = [r for r in report.results if r.norm == norm]
        adapted = any(r.name == adaptive.NAME and r.eps == eps for r in rows)
        subject = Subject(
            classifier=session.classifier,
            clean=session.clean,
            norm=norm,
            eps=eps,
            bounds=bounds,
            seed=session.seed,
            batch_size=session.batch_size,
            robust=report.robust(norm, eps),
            rows=rows,
            attacks=[a for a in attacks if a.norm == norm],
            adaptive=adaptive.attack(
                surrogates,
                norm,
                eps,
                bounds,
                draws=session.clean.draws,
                closed=bool(session.classifier.opened.why),
            )
            if adapted
            else None,
            blind=[
                b for n, own, b in session.blind if n == norm and eps in own
            ],
            surrogates=surrogates,
            draws=session.clean.draws,
        )
        subject.pick(session.keeper.images)
        tried.append(subject)
        if not subject.sample:
            continue
        findings += [f for check in CHECKS for f in check(subject)]
    budgets = [
        {
            "norm": each.norm,
            "eps": each.eps,
            "images": len(each.sample),
            "survivors": len(each.survivors),
        }
        for each in tried
    ]
    done = extent(budgets, time.perf_counter() - begun)
    return (*gravest_first(findings), done)


def _budgets(report):
    """The budget to look at in each norm."""
    budgets = [(norm, eps) for norm, eps in report.budgets if eps is not None]
    # In rising order: the largest is the last to be set.
    chosen = dict(budgets)
    for norm, eps in budgets:
        left = float(report.robust(norm, eps).mean())
        if severity_of(left) is not None:
            chosen[norm] = eps
    return list(chosen.items())


def extent(budgets, seconds):
    """The finding that says what was done.

    Args:
        budgets: Dictionaries of `norm`, `eps`, and how many `images` and
            `survivors` were tried.
        seconds: How long that took.
    """
    words = [
        f"{each['images']} images and {each['survivors']} of those that "
        f"counted as robust at {wording.budget(each['norm'], each['eps'])}"
        for each in budgets
    ]
    return Finding(
        "info",
        f"The audit tried {', and '.join(words)}.",
        {"budgets": budgets, "seconds": seconds},
        "extent",
    )
