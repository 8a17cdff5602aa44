"""How results are shown as text, and the files that they are written to."""

import json

from rich.console import Group
from rich.table import Table
from rich.text import Text

from keras_wp.reports.findings import gravest_first
from keras_wp.reports.serialize import plain, written

STYLES = {"high": "bold red", "warning": "yellow", "info": "cyan"}


class Shown:
    """A table with a caption, sentences below it, and findings.

    A subclass makes `_caption()`, `_rows()`, of which the first is the header,
    `_sentences()`, `_html()`, and `_values()` for JSON.

    Attributes:
        findings: Its `Finding`s.
    """

    findings = ()
    # The style of the last row; if there is one, a rule sets it off.
    _last = ""

    def _tone(self):
        """The style of the first sentence."""
        return ""

    def __str__(self):
        table = _aligned(self._rows(), rule_at_end=bool(self._last))
        lines = [self._caption(), "", *table, "", *self._sentences()]
        if self.findings:
            lines += ["", "Findings:"]
        for finding in gravest_first(self.findings):
            lines.append(f"  {finding.severity}: {finding.message}")
        return "\n".join(lines)

    def __rich__(self):
        first, *others = self._sentences()
        findings = [
            Text.assemble(
                (f"{finding.severity}: ", STYLES[finding.severity]),
                finding.message,
            )
            for finding in gravest_first(self.findings)
        ]
        return Group(
            Text(self._caption(), style="dim"),
            _drawn(self._rows(), self._last),
            Text(first, style=self._tone()),
            *(Text(line, style="dim") for line in others),
            *findings,
        )

    def _markdown(self):
        found = f"{self._caption()}\n\n{markdown_table(self._rows())}"
        for sentence in self._sentences():
            found += f"\n{_inline(sentence)}\n"
        if self.findings:
            found += "\n## Findings\n\n"
        for finding in gravest_first(self.findings):
            found += f"- **{finding.severity}**: {_inline(finding.message)}\n"
        return found

    def to_markdown(self, path=None):
        """The table, and what it is of, in Markdown.

        Args:
            path: A file to write it to, or None.

        Returns:
            The Markdown text.
        """
        return written(self._markdown(), path, end="")

    def to_html(self, path=None):
        """Everything as one HTML page, which needs no network.

        Args:
            path: A file to write it to, or None.

        Returns:
            The HTML text.
        """
        return written(self._html(), path, end="")

    def to_json(self, path=None):
        """What was counted, and what follows from it, as JSON.

        Args:
            path: A file to write it to, or None.

        Returns:
            The JSON text.
        """
        values = plain(self._values())
        return written(json.dumps(values, indent=1, allow_nan=False), path)


def _aligned(table, rule_at_end):
    """A table as lines of text; a rule at the end sets off the last row."""
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


def _drawn(table, last):
    """A table as `rich` draws it; `last` is the style of the last row."""
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
    return drawn


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
