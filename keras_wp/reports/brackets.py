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


def lines(report):
    """A line of text for each budget."""
    found = []
    for norm, eps in _budgets(report):
        low, high = report.bracket(norm, eps)
        found.append(
            f"{within(norm, eps)}: the accuracy is between "
            f"{100 * low:.1f} % ({_how(norm)}) and {100 * high:.1f} % "
            "(not broken)."
        )
    return found


def bars(report):
    """A bar for each budget: proved, neither proved nor broken, broken."""
    return [
        {
            "text": text,
            "where": within(norm, eps),
            "proved": 100 * report.bracket(norm, eps)[0],
            "unbroken": 100 * report.bracket(norm, eps)[1],
        }
        for text, (norm, eps) in zip(
            lines(report), _budgets(report), strict=True
        )
    ]


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
    proved = [
        float(report.certificate.certified(eps, norm).mean()) for eps in places
    ]
    ends = [0.0, *budgets]
    above = [
        report.clean_accuracy,
        *(report.bracket(norm, e)[1] for e in ends[1:]),
    ]
    last = max(budgets)
    below = [(e, p) for e, p in zip(places, proved, strict=True) if e <= last]
    back = axes.path(*zip(*below[::-1], strict=True))
    return {
        "line": axes.path(places, proved),
        "gap": f"{axes.path(ends, above)}L{back[1:]}Z",
        "text": f"Proved in {norm_text(norm)}",
    }
