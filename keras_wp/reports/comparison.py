"""Two models on the same images: who is right where the other is not."""

import dataclasses
import math

from keras_wp.reports import text, wording
from keras_wp.reports.comparable import (
    check_same,
    common_budgets,
    order,
    unequal,
)
from keras_wp.reports.compared import Compared
from keras_wp.reports.findings import Finding, gravest_first
from keras_wp.reports.html_compared import comparison_page
from keras_wp.reports.pairs import Pair, counted
from keras_wp.reports.statistics import wilson


@dataclasses.dataclass(frozen=True)
class Comparison(Compared):
    """The result of `keras_wp.compare`. Printing it shows a table.

    `comparison["PGD20"]` is the `Pair` of that condition, with the largest eps
    if there are several; `comparison["PGD20", 0.1]` is that with eps 0.1.

    Attributes:
        names: What the two models are called.
        pairs: A `Pair` for the clean images; then for each budget of both
            reports, for each attack of both and for the worst case.
        findings: What may be wrong with the numbers: that the two were not
            attacked alike, and the findings of both reports, except for those
            that are just good to know.
        environments: The `environment` of both reports.
    """

    names: tuple[str, str]
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...] = ()
    environments: tuple[dict, ...] = ()

    def __getitem__(self, key):
        condition, eps = key if isinstance(key, tuple) else (key, None)
        found = [p for p in self.pairs if p.condition == condition]
        if eps is not None:
            found = [p for p in found if p.eps and math.isclose(p.eps, eps)]
        if not found:
            known = ", ".join(dict.fromkeys(p.condition for p in self.pairs))
            raise KeyError(f"No condition {key!r}. There are: {known}")
        # Within any distance almost every image is fooled.
        budgeted = [p for p in found if p.eps is not None]
        return (budgeted or found)[-1]

    def _rows(self):
        a, b = self.names
        yield ["", a, b, "only A", "only B", "B - A", "p-value"]
        for pair in self.pairs:
            title = pair.condition
            if pair.norm is not None:
                title += f", {wording.budget(pair.norm, pair.eps)}"
            yield [
                title,
                text.share(pair.both + pair.first, pair.count),
                text.share(pair.both + pair.second, pair.count),
                str(pair.first),
                str(pair.second),
                text.difference(pair),
                f"{pair.p_value:.2g}",
            ]

    @property
    def headline(self):
        """What the worst case within the largest budget says, and is worth."""
        pair = self["worst case"]
        low, high = pair.interval
        where = f"in the worst case, {wording.within(pair.norm, pair.eps)}"
        if low <= 0 <= high:
            who = "No difference is shown"
        else:
            who = f"{'B' if pair.difference > 0 else 'A'} is right more often"
        said = (
            f"{who} {where}: B less A is {wording.points(pair.difference)} "
            f"points, with the interval from {wording.points(low)} to "
            f"{wording.points(high)}."
        )
        return " ".join([said, *self._doubts()])

    def _caption(self):
        return (
            f"{self.pairs[0].count} images, paired; accuracy in % with its "
            "95 % interval; p-value of McNemar's exact test, for each row by "
            "itself"
        )

    def _html(self):
        return comparison_page(self)

    def _counts(self):
        pairs = [
            {
                **dataclasses.asdict(pair),
                "accuracies": pair.accuracies,
                "confidence_intervals": [
                    wilson(pair.both + only, pair.count)
                    for only in (pair.first, pair.second)
                ],
                "difference": pair.difference,
                "difference_interval": pair.interval,
                "p_value": pair.p_value,
            }
            for pair in self.pairs
        ]
        return {"pairs": pairs}


def compare_two(first, second, names=None):
    """The `Comparison` of two `Report`s; see `compare.compare`."""
    places = order(first, second)
    budgets = common_budgets(first.budgets, second.budgets)
    pairs = [
        counted("clean", first.clean_correct, second.clean_correct[places])
    ]
    theirs = {(r.name, r.norm, r.eps): r for r in second.results}
    for norm, eps in budgets:
        for result in first.results:
            other = theirs.get((result.name, norm, eps))
            if other is not None and (result.norm, result.eps) == (norm, eps):
                check_same(result, other)
                robust = result.robust, other.robust[places]
                pairs.append(counted(result.name, *robust, norm, eps))
        limit = math.inf if eps is None else eps
        robust = first.robust(norm, limit), second.robust(norm, limit)[places]
        pairs.append(counted("worst case", *robust, norm, eps))
    both = (first, second)
    findings = [*unequal(*both, budgets), *findings_of("AB", both)]
    return Comparison(
        tuple(names or names_of("AB", both)),
        tuple(pairs),
        gravest_first(findings),
        (first.environment, second.environment),
    )


def names_of(letters, reports):
    """What to call models: by a letter, and their own name."""
    return tuple(
        f"{letter}: {report.environment.get('model', 'model')}"
        for letter, report in zip(letters, reports, strict=True)
    )


def findings_of(letters, reports):
    """The findings of models, with their letters in front.

    Those that are just good to know are left out.
    """
    return [
        dataclasses.replace(finding, message=f"{letter}: {finding.message}")
        for letter, report in zip(letters, reports, strict=True)
        for finding in report.findings
        if finding.severity != "info"
    ]
