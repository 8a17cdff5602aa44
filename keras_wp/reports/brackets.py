"""What was proved and what was not broken, side by side: the truth is between.

Attacks bound the accuracy from above, a certificate from below.
"""

from keras_wp.reports.wording import norm_text, within

# Budgets in these norms can be proved; in l2 directly.
NORMS = ("l2", "linf")


def _budgets(report):
    """The budgets that a certificate of the report speaks of."""
    if report.certificate is None:
        return []
    return [
        (norm, eps)
        for norm, eps in report.budgets
        if norm in NORMS and eps is not None
    ]


def _how(norm):
    return "proved" if norm == "l2" else f"proved, from {norm_text('l2')}"


def bars(report):
    """A bar for each budget: proved, neither proved nor broken, broken."""
    found = []
    for norm, eps in _budgets(report):
        proved, unbroken = (100 * share for share in report.bracket(norm, eps))
        text = (
            f"{within(norm, eps)}: the accuracy is between {proved:.1f} % "
            f"({_how(norm)}) and {unbroken:.1f} % (not broken)."
        )
        found.append({"text": text, "proved": proved, "unbroken": unbroken})
    return found


def lines(report):
    """A line of text for each budget."""
    return [bar["text"] for bar in bars(report)]


def curve(report, norm, axes):
    """The proved accuracy in a chart, and the gap up to what is not broken.

    Args:
        report: A `Report`.
        norm: The norm of the chart.
        axes: Its `charts.Axes`.

    Returns:
        The line and the gap as the data of paths; None if nothing is proved.
    """
    budgets = [eps for n, eps in _budgets(report) if n == norm]
    if not budgets:
        return None
    limit, steps = axes.x_range[1], 200
    places = [limit * i / steps for i in range(steps + 1)]
    proved = [report.certificate.accuracy(eps, norm) for eps in places]
    above = [
        report.clean_accuracy,
        *(report.bracket(norm, eps)[1] for eps in budgets),
    ]
    last = max(budgets)
    below = [(e, p) for e, p in zip(places, proved, strict=True) if e <= last]
    back = axes.path(*zip(*below[::-1], strict=True))
    return {
        "line": axes.path(places, proved),
        "gap": f"{axes.path([0.0, *budgets], above)}L{back[1:]}Z",
        "text": f"Proved in {norm_text(norm)}",
    }
