"""What a report's numbers are worth: its headline, and how far to trust it."""

from keras_wp.reports import shard, wording


def verdict(report):
    """`(tone, text)`: how grave the findings are, and what that means.

    The tone is `"high"`, `"warning"`, `"good"`, or `"none"` where a question
    is open: nothing was looked for, or no attack was tried that fits the
    model.
    """
    high, warnings = (
        sum(f.severity == severity for f in report.findings)
        for severity in ("high", "warning")
    )
    env = report.environment
    if high:
        return "high", (
            "Do not rely on the robust accuracy: "
            f"{wording.number(high, 'finding')} of high severity."
        )
    if warnings:
        return "warning", (
            "Read the robust accuracy with care: "
            f"{wording.number(warnings, 'warning')} below."
        )
    if not env.get("audit") and not report.findings:
        return "none", (
            "No audit was run, so whether the attacks worked is not known: "
            "evaluate(..., adaptive=True, audit=True) tells."
        )
    if not env.get("adaptive"):
        return "none", (
            "The audit found no sign that the attacks failed, but none that "
            "fits the model was tried: evaluate(..., adaptive=True) does."
        )
    return "good", "The audit found no sign that the attacks failed."


def doubtful(report):
    """Whether accuracies are to be read as "at most"."""
    return verdict(report)[0] in ("high", "none")


def headline(report):
    """The worst case in one sentence, with what it is worth."""
    parts = []
    for norm, eps in report.threat_model.items():
        share = f"{100 * report.robust(norm, eps).mean():.1f} %"
        parts.append(f"{share} within {wording.within(norm, eps)}")
    least = "at most " if doubtful(report) else ""
    said = verdict(report)[1]
    part = shard.told(report)
    of = f" ({part})" if part else ""
    return f"Robust accuracy{of}: {least}{', '.join(parts)}. {said}"
