"""The audit of an evaluation: which budgets, which images, which checks."""

import time

from keras_wp.evaluation import adaptive, effort, landscape, symptoms
from keras_wp.evaluation.findings import Finding, gravest_first, severity_of
from keras_wp.evaluation.trial import Trial


def audit(report, attacks, classifier, clean, images, surrogates, options):
    """Look for reasons why the accuracies of a report may be too good.

    In each norm it looks at one budget: the largest at which a share worth a
    remark resists (see `findings.severity_of`), or the largest there is.

    Args:
        report: The `Report`, without findings.
        attacks: The attacks asked for.
        classifier: The `Classifier`.
        clean: The `Clean` pass.
        images: Maps indices to pairs `(index, image)`.
        surrogates: The surrogates that the model gives reason to try.
        options: A dictionary of `adaptive` (whether adaptive attacks ran),
            `blind` (for each attack that follows gradients: norm, budgets,
            and on which images it could not), `bounds`, `seed` and
            `batch_size`.

    Returns:
        The findings, gravest first. The last one says what was done.
    """
    begun = time.perf_counter()
    findings = list(symptoms.of_the_model(clean))
    tried = []
    options = dict(options)
    adapted, blind = options.pop("adaptive"), options.pop("blind")
    for norm, eps in _budgets(report):
        trial = Trial(
            classifier=classifier,
            clean=clean,
            norm=norm,
            eps=eps,
            robust=report.robust(norm, eps),
            rows=[r for r in report.results if r.norm == norm],
            attacks=[a for a in attacks if a.norm == norm],
            adaptive=None,
            blind=[
                b for n, budgets, b in blind if n == norm and eps in budgets
            ],
            surrogates=surrogates,
            **options,
        )
        if adapted:
            trial.adaptive = adaptive.attack(
                surrogates, norm, eps, options["bounds"]
            )
        trial.pick(images)
        tried.append(trial)
        if not trial.sample:
            continue
        if trial is tried[0]:
            findings += symptoms.saturation(trial)
        findings += effort.gained(trial)
        findings += symptoms.checks(trial)
        findings += landscape.checks(trial)
        findings += effort.checks(trial)
    return (*gravest_first(findings), _summary(tried, begun))


def _budgets(report):
    """The budget to look at in each norm."""
    chosen = {}
    for norm, eps in report.budgets:
        if eps is None:
            continue
        left = float(report.robust(norm, eps).mean())
        if norm not in chosen or severity_of(left) is not None:
            chosen[norm] = eps
    return list(chosen.items())


def _summary(trials, begun):
    words = [
        f"{len(t.sample)} images and {len(t.survivors)} of those that counted "
        f"as robust at {t.norm} {t.eps:.4g}"
        for t in trials
    ]
    return Finding(
        "info",
        f"The audit tried {', and '.join(words)}.",
        {
            "budgets": [
                {
                    "norm": t.norm,
                    "eps": t.eps,
                    "images": len(t.sample),
                    "survivors": len(t.survivors),
                }
                for t in trials
            ],
            "seconds": time.perf_counter() - begun,
        },
        "extent",
    )
