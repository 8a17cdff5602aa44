"""A report as text: at a terminal, and in Markdown."""

import math

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from keras_wp.reports import brackets
from keras_wp.reports.findings import gravest_first
from keras_wp.reports.shard import told
from keras_wp.reports.statistics import wilson
from keras_wp.reports.verdict import headline, verdict
from keras_wp.reports.wording import budget

_STYLES = {"high": "bold red", "warning": "yellow", "info": "cyan"}
_TONES = {**_STYLES, "good": "green", "none": ""}


def rows(report):
    """The table, cell by cell: a header, and a row for each attack.

    The first row after the header is that of the clean images, the last that
    of the worst case.
    """
    budgets = report.budgets
    header = ["attack"] + [budget(n, e) for n, e in budgets]
    minimum = any(r.minimum_norm for r in report.results)
    header += ["median distance"] if minimum else []
    header += ["steps/image", "zero grad", "seconds"]
    yield header
    count = len(report)
    clean = share(int(report.clean_correct.sum()), count)
    blank = [""] * (len(header) - 1 - len(budgets))
    yield ["clean", *[clean] * len(budgets), *blank]
    for name in dict.fromkeys(r.name for r in report.results):
        mine = {(r.norm, r.eps): r for r in report.results if r.name == name}
        first = next(iter(mine.values()))
        cells = [
            share(int(mine[b].robust.sum()), count) if b in mine else ""
            for b in budgets
        ]
        if minimum:
            median = f"{first.median_distance:.4g}"
            cells.append(median if first.minimum_norm else "")
        separate = [first] if first.minimum_norm else list(mine.values())
        steps = np.mean([r.mean_steps for r in separate])
        vanished = max(r.vanished_gradients for r in separate)
        seconds = sum(r.seconds for r in separate)
        cells += [f"{steps:.1f}", f"{vanished:.1%}", f"{seconds:.1f}"]
        yield [name, *cells]
    worst = [
        share(int(report.robust(n, e or math.inf).sum()), count)
        for n, e in budgets
    ]
    yield ["worst case", *worst, *blank]


def share(successes, count):
    """A percentage with its 95 % interval, as text."""
    low, high = wilson(successes, count)
    return f"{100 * successes / count:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def caption(report):
    """What was measured, in a line."""
    env = report.environment
    images = "; ".join(filter(None, [f"{len(report)} images", told(report)]))
    return (
        f"{images}; accuracy in % with its 95 % interval; "
        f"{env['model']}, keras {env['keras']} on {env['backend']}, "
        f"seed {env['seed']}"
    )


def made_with(name, environment):
    """What a side of a comparison depends on, as an item of Markdown."""
    told = ", ".join(
        f"{key} {value}"
        for key, value in environment.items()
        if key != "command" and value is not None
    )
    command = environment.get("command")
    return f"- {name}: {told}" + (f"; `{command}`" if command else "")


def inside(report):
    """What was proved, taken for granted, and found inside the model: lines."""
    told = {"assumed": "Taken for granted", "inside": "Inside the model"}
    told = {told[key]: report.environment.get(key) for key in told}
    found = [f"{what}: {how}." for what, how in told.items() if how]
    return [*brackets.lines(report), *found]


def plain(report):
    """The report for any terminal or log."""
    text = aligned(rows(report))
    findings = findings_plain(report.findings)
    told = ["", headline(report), *inside(report)]
    return "\n".join([caption(report), "", *text, *told, *findings])


def findings_plain(findings):
    """Findings as lines to follow a table."""
    lines = [f"  {f.severity}: {f.message}" for f in gravest_first(findings)]
    return ["", "Findings:", *lines] if lines else []


def aligned(table, rule_at_end=True):
    """A table as lines of text.

    Args:
        table: Rows of cells; the first is the header.
        rule_at_end: Whether a rule sets off the last row.
    """
    header, *body = table
    widths = [
        max(map(len, column)) for column in zip(header, *body, strict=True)
    ]

    def line(row):
        first = row[0].ljust(widths[0])
        rest = map(str.rjust, row[1:], widths[1:])
        return "  ".join([first, *rest]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [line(header), rule, *map(line, body)]
    if rule_at_end:
        lines.insert(-1, rule)
    return lines


def rich(report):
    """The report as `rich` draws it, with colors."""
    table = captioned(caption(report), rows(report), last="bold")
    tone = _TONES[verdict(report)[0]]
    first = Text(headline(report), style=tone)
    told = [Text(line, style="dim") for line in inside(report)]
    return Group(table, first, *told, *findings_rich(report.findings))


def findings_rich(findings):
    """Findings as `rich` draws them."""
    return [
        Text.assemble(
            (f"{finding.severity}: ", _STYLES[finding.severity]),
            finding.message,
        )
        for finding in gravest_first(findings)
    ]


def captioned(text, table, last=""):
    """A table and its caption as `rich` draws them.

    Args:
        text: The caption.
        table: Rows of cells; the first is the header.
        last: The style of the last row; if there is one, a rule sets it off.
    """
    header, *body = table
    drawn = Table(header_style="bold")
    for i, title in enumerate(header):
        drawn.add_column(
            Text(title), justify="right" if i else "left", overflow="fold"
        )
    for i, row in enumerate(body, start=1):
        drawn.add_row(
            *map(Text, row),
            style=last if i == len(body) else "",
            end_section=bool(last) and i == len(body) - 1,
        )
    return Group(Text(text, style="dim"), drawn)


def markdown(report):
    """The report in Markdown."""
    text = f"{caption(report)}\n\n{markdown_table(rows(report))}"
    lines = [headline(report), *inside(report)]
    text += "".join(f"\n{_inline(line)}\n" for line in lines)
    return text + findings_markdown(report.findings)


def findings_markdown(findings):
    """Findings as a section to follow a table; nothing if there are none."""
    lines = [
        f"- **{f.severity}**: {_inline(f.message)}"
        for f in gravest_first(findings)
    ]
    return "\n## Findings\n\n" + "\n".join(lines) + "\n" if lines else ""


def markdown_table(table):
    """A table of text in Markdown."""
    header, *body = table
    lines = [header, ["---"] * len(header), *body]
    return "".join(
        "| " + " | ".join(map(_inline, line)) + " |\n" for line in lines
    )


def _inline(text):
    """Text that can neither end a cell nor a line, nor begin an HTML tag."""
    text = " ".join(text.split())
    return text.replace("|", "\\|").replace("<", "&lt;")
