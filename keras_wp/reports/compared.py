"""How reports that are compared are shown, however many they are."""

import dataclasses

from keras_wp.reports import wording
from keras_wp.reports.shown import Shown


class Compared(Shown):
    """A table of models, with a headline and findings.

    A subclass has `names`, `environments`, `findings` and `headline`, and
    makes `_caption()`, `_rows()`, `_html()`, and `_counts()` for JSON.
    """

    def _sentences(self):
        return [self.headline]

    def _doubts(self):
        """Why a difference may be one of the attacks, in sentences."""
        letters = wording.letters(len(self.names))
        told = {
            finding.message.partition(":")[0]
            for finding in self.findings
            if finding.severity == "high"
        }
        grave = [letter for letter in letters if letter in told]
        if grave:
            yield (
                "Do not rely on it: findings of high severity about "
                f"{' and '.join(grave)}."
            )
        sides = [
            letter
            for letter, env in zip(letters, self.environments, strict=False)
            if not (env.get("audit") and env.get("adaptive"))
        ]
        if sides or not self.environments:
            who = " and ".join(sides or letters)
            yield (
                f"Without an audit and adaptive attacks (of {who}), what looks "
                "like robustness may be a failure of the attacks."
            )

    def _markdown(self):
        # There are none if it is not known what the reports depend on.
        sides = zip(self.names, self.environments, strict=False)
        made = [f"\n{_made_with(*side)}" for side in sides]
        return super()._markdown() + "".join(made)

    def _values(self):
        return {
            "names": self.names,
            "environments": self.environments,
            **self._counts(),
            "findings": list(map(dataclasses.asdict, self.findings)),
        }


def _made_with(name, environment):
    """What a side of a comparison depends on, as an item of Markdown."""
    told = ", ".join(
        f"{key} {value}"
        for key, value in environment.items()
        if key != "command" and value is not None
    )
    command = environment.get("command")
    return f"- {name}: {told}" + (f"; `{command}`" if command else "")
