"""How reports that are compared are shown as text, however many they are."""

from rich.console import Group
from rich.text import Text

from keras_wp.reports import text
from keras_wp.reports.serialize import written


class Compared:
    """A table with a caption, a headline and findings.

    A subclass has `names`, `environments`, `findings` and `headline`, and
    makes `_caption()` and `_rows()`.
    """

    def __str__(self):
        lines = text.aligned(self._rows(), rule_at_end=False)
        findings = ["", self.headline, *text.findings_plain(self.findings)]
        return "\n".join([self._caption(), "", *lines, *findings])

    def __rich__(self):
        return Group(
            text.captioned(self._caption(), self._rows()),
            Text(self.headline),
            *text.findings_rich(self.findings),
        )

    def to_markdown(self, path=None):
        """The table, the findings, and what they are of, in Markdown.

        Args:
            path: A file to write it to, or None.

        Returns:
            The Markdown text.
        """
        table = text.markdown_table(self._rows())
        findings = text.findings_markdown(self.findings)
        names = self.names if self.environments else ()
        sides = zip(names, self.environments, strict=True)
        made = [text.made_with(*side) for side in sides]
        parts = [self._caption(), "", table, self.headline + "\n" + findings]
        return written("\n".join([*parts, *made]), path, end="")
