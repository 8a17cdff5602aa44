"""Many models on the same images, the best first, each beside the first."""

import dataclasses

from keras_wp.reports import text, wording
from keras_wp.reports.compared import Compared
from keras_wp.reports.comparison import Comparison
from keras_wp.reports.findings import Finding
from keras_wp.reports.html_compared import leaderboard_page
from keras_wp.reports.pairs import Pair
from keras_wp.reports.statistics import holm, wilson

_ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one of several models does under one condition.

    Attributes:
        letter: The model's letter.
        name: What it is called.
        right: On how many images it is right.
        count: The number of images.
        pair: The `Pair` of the first model and this; None for the first.
        corrected: The p-value of the pair, corrected by Holm's method for the
            tests of all models under this condition; None for the first.
    """

    letter: str
    name: str
    right: int
    count: int
    pair: Pair | None = None
    corrected: float | None = None

    @property
    def accuracy(self):
        """The share of the images on which the model is right."""
        return self.right / self.count

    @property
    def title(self):
        """The model's letter and its name."""
        return f"{self.letter}: {self.name.removeprefix(f'{self.letter}: ')}"


@dataclasses.dataclass(frozen=True)
class Leaderboard(Compared):
    """The result of `keras_wp.compare` for more than two models.

    Printing it shows a table, the best model first.

    Attributes:
        names: What the models are called, in the order of the reports.
        comparisons: The `Comparison` of the first with each of the others.
        findings: As those of a `Comparison`.
        environments: The `environment` of all reports.
    """

    names: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...] = ()
    environments: tuple[dict, ...] = ()

    @property
    def conditions(self):
        """`("clean", None, None)`, then the worst case at each common budget.

        As triples of condition, norm and eps, the largest budget last.
        """
        first, *others = (
            [
                (pair.condition, pair.norm, pair.eps)
                for pair in comparison.pairs
                if pair.condition in ("clean", "worst case")
            ]
            for comparison in self.comparisons
        )
        common = [c for c in first if all(c in other for other in others)]
        # Within any distance almost every image is fooled.
        return sorted(
            common, key=lambda c: c[1] is not None and c[2] is not None
        )

    def standings(self, condition=None):
        """How the models do under a condition: `Standing`s, the best first.

        Args:
            condition: One of `conditions`; the last by default, the worst
                case within the largest budget.
        """
        if condition is None:
            condition = self.conditions[-1]
        if condition not in self.conditions:
            raise KeyError(
                f"No condition {condition!r}. There are: {self.conditions}"
            )
        pairs = [
            pair
            for comparison in self.comparisons
            for pair in comparison.pairs
            if (pair.condition, pair.norm, pair.eps) == condition
        ]
        letters = wording.letters(len(self.names))
        first, *others = zip(letters, self.names, strict=True)
        right, count = pairs[0].both + pairs[0].first, pairs[0].count
        found = [Standing(*first, right, count)]
        corrected = holm([pair.p_value for pair in pairs])
        found += [
            Standing(*who, pair.both + pair.second, count, pair, p_value)
            for who, pair, p_value in zip(others, pairs, corrected, strict=True)
        ]
        return tuple(sorted(found, key=lambda s: -s.right))

    def __getitem__(self, name):
        for own, comparison in zip(
            self.names[1:], self.comparisons, strict=True
        ):
            if own == name:
                return comparison
        raise KeyError(
            f"No comparison of the first model with {name!r}. There are: "
            f"{', '.join(self.names[1:])}"
        )

    @property
    def headline(self):
        """Which models differ from the first in the worst case, for certain."""
        condition = self.conditions[-1]
        found = self.standings(condition)
        shown = [s for s in found if s.pair and s.corrected <= _ALPHA]
        better, worse = (
            [s.letter for s in shown if sign * s.pair.difference > 0]
            for sign in (1, -1)
        )
        said = [
            f"{' and '.join(who)} {'are' if who[1:] else 'is'} right {how}"
            for who, how in ((better, "more often"), (worse, "less often"))
            if who
        ]
        where = f"In the worst case, {wording.within(*condition[1:])}"
        tests = wording.number(len(found) - 1, "test")
        what = (
            f"{', and '.join(said)} than A"
            if said
            else "no difference from A is shown"
        )
        sentence = f"{where}, {what} ({_ALPHA:.0%}, {tests} by Holm's method)."
        return " ".join([sentence, *self._doubts()])

    def _caption(self):
        return (
            f"{len(self.names)} models, {self.standings()[0].count} images, "
            "paired; accuracy in % with its 95 % interval; difference from A "
            "and p-values in the worst case within the largest budget: of "
            "McNemar's exact test, and corrected by Holm's method for "
            f"{wording.number(len(self.comparisons), 'test')}"
        )

    def _rows(self):
        conditions = self.conditions
        titles = [
            "clean" if norm is None else f"worst, {wording.budget(norm, eps)}"
            for _, norm, eps in conditions
        ]
        yield ["", *titles, "less A", "p-value", "Holm"]
        table = [{s.letter: s for s in self.standings(c)} for c in conditions]
        for letter, standing in table[-1].items():
            shares = [
                text.share(column[letter].right, standing.count)
                for column in table
            ]
            yield [standing.title, *shares, *_difference(standing)]

    def _html(self):
        return leaderboard_page(self)

    def _counts(self):
        names = ("condition", "norm", "eps")
        conditions = [
            {
                **dict(zip(names, condition, strict=True)),
                "models": [_plain(s) for s in self.standings(condition)],
            }
            for condition in self.conditions
        ]
        return {"conditions": conditions}


def _difference(standing):
    """Cells of a model's difference from the first."""
    pair = standing.pair
    if pair is None:
        return ["", "", ""]
    return [
        text.difference(pair),
        f"{pair.p_value:.2g}",
        f"{standing.corrected:.2g}",
    ]


def _plain(standing):
    values = {
        "letter": standing.letter,
        "name": standing.name,
        "right": standing.right,
        "accuracy": standing.accuracy,
        "confidence_interval": wilson(standing.right, standing.count),
    }
    pair = standing.pair
    if pair is not None:
        values |= {
            "only_first": pair.first,
            "only_this": pair.second,
            "difference": pair.difference,
            "difference_interval": pair.interval,
            "p_value": pair.p_value,
            "p_value_holm": standing.corrected,
        }
    return values
