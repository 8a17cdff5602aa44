"""What a report's numbers are worth: its headline, and how far to trust it."""

from keras_wp.reports import shard, wording

# What the adaptive attacks found beyond those asked for is counted: this
# warning is of these, not of the robust accuracy.
GAIN = "adaptive_attack"


def verdict(report):
    """`(tone, text)`: how grave the findings are, and what that means.

    The tone is `"high"`, `"warning"`, `"good"`, or `"none"` where a question
    is open: nothing was looked for, or no attack was tried that fits the
    model.
    """
    high, warnings = (
        sum(f.severity == severity for f in report.findings if f.check != GAIN)
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
            "No audit was run (audit=False), so whether the attacks worked is "
            "not known."
        )
    if not env.get("adaptive"):
        return "none", (
            "The audit found no sign that the attacks failed, but none that "
            "fits the model was tried (adaptive=False)."
        )
    if any(finding.check == GAIN for finding in report.findings):
        return "good", (
            "The attacks asked for were not enough; the adaptive attacks made "
            "up for it, and the audit found no sign that these failed."
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
