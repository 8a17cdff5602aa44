"""Two models on the same images: who is right where the other is not."""

import dataclasses
import json
import math
import pathlib
from types import NoneType

import numpy as np
from rich.console import Group

from keras_wp.evaluation import report_text
from keras_wp.evaluation.findings import Finding, gravest_first
from keras_wp.evaluation.html.comparison import page
from keras_wp.evaluation.pairs import Pair, counted
from keras_wp.evaluation.report import Report
from keras_wp.evaluation.report_json import plain
from keras_wp.evaluation.statistics import wilson


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The result of `keras_wp.compare`. Printing it shows a table.

    `comparison["PGD20"]` is the `Pair` of that condition, with the largest eps
    if there are several; `comparison["PGD20", 0.1]` is that with eps 0.1.

    Attributes:
        names: What the two models are called.
        pairs: A `Pair` for the clean images; then for each budget of both
            reports, for each attack of both and for the worst case.
        findings: What may be wrong with the numbers: that the two were not
            attacked alike, and the findings of both reports, but for those
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
                title += f", {report_text.budget(pair.norm, pair.eps)}"
            low, high = pair.interval
            yield [
                title,
                report_text.share(pair.both + pair.first, pair.count),
                report_text.share(pair.both + pair.second, pair.count),
                str(pair.first),
                str(pair.second),
                f"{100 * pair.difference:+.1f} "
                f"({100 * low:+.1f} to {100 * high:+.1f})",
                f"{pair.p_value:.2g}",
            ]

    def _caption(self):
        return (
            f"{self.pairs[0].count} images, paired; accuracy in % with its "
            "95 % interval; p-value of McNemar's exact test, for each row by "
            "itself"
        )

    def __str__(self):
        lines = report_text.aligned(self._rows(), rule_at_end=False)
        findings = report_text.findings_plain(self.findings)
        return "\n".join([self._caption(), "", *lines, *findings])

    def __rich__(self):
        return Group(
            report_text.captioned(self._caption(), self._rows()),
            *report_text.findings_rich(self.findings),
        )

    def to_markdown(self):
        """The table, the findings, and what they are of, in Markdown."""
        table = report_text.markdown_table(self._rows())
        findings = report_text.findings_markdown(self.findings)
        sides = zip(self.names, self.environments, strict=False)
        made = [report_text.made_with(*side) for side in sides]
        return "\n".join([self._caption(), "", table + findings, *made])

    def to_html(self, path=None):
        """The table and the findings as one HTML page, without the network.

        Args:
            path: A file to write it to, or None.

        Returns:
            The HTML text.
        """
        text = page(self)
        if path is not None:
            pathlib.Path(path).write_text(text, encoding="utf-8")
        return text

    def to_json(self, path=None):
        """The counts, and what follows from them, as JSON.

        Args:
            path: A file to write it to, or None.

        Returns:
            The JSON text.
        """
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
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        text = json.dumps(
            {
                "names": self.names,
                "environments": plain(self.environments),
                "pairs": pairs,
                "findings": findings,
            },
            indent=1,
            allow_nan=False,
        )
        if path is not None:
            pathlib.Path(path).write_text(text + "\n", encoding="utf-8")
        return text


def compare(first, second, names=None):
    """Compare two models, image by image.

    Two accuracies measured on the same images differ by less chance than
    their intervals suggest, as most images are easy or hard for both. So the
    images are counted on which just one model is right: McNemar's exact test
    asks whether they are divided evenly, and Newcombe's method 10 gives the
    interval of the difference.

    Args:
        first: The `Report` of the first model.
        second: That of the second, on the same images, in any order.
        names: What to call the two; defaults to the models' names.

    Returns:
        A `Comparison`. The worst case is that over each report's own
        attacks, so give both models the same, and to each those that suit
        it (`adaptive=True`); if one was tried with others, a finding says so.

    Raises:
        ValueError: If these are no reports, are not of the same images, have
            no budget in common, or attacks of the same name that differ.

    Example:

    >>> data = (x_test, y_test)
    >>> plain = keras_wp.evaluate(model, data, ["pgd20"], eps=8 / 255)
    >>> robust = keras_wp.evaluate(other, data, ["pgd20"], eps=8 / 255)
    >>> print(keras_wp.compare(plain, robust))
    """
    for report in (first, second):
        if not isinstance(report, Report):
            raise ValueError(
                "`compare` takes two reports, as `evaluate` returns them. "
                f"Received: a {type(report).__name__}"
            )
    order = _order(first, second)
    pairs = [counted("clean", first.clean_correct, second.clean_correct[order])]
    theirs = {(r.name, r.norm, r.eps): r for r in second.results}
    for norm, eps in common_budgets(first.budgets, second.budgets):
        for result in first.results:
            other = theirs.get((result.name, norm, eps))
            if other is not None and (result.norm, result.eps) == (norm, eps):
                _check_same(result, other)
                robust = result.robust, other.robust[order]
                pairs.append(counted(result.name, *robust, norm, eps))
        limit = math.inf if eps is None else eps
        robust = first.robust(norm, limit), second.robust(norm, limit)[order]
        pairs.append(counted("worst case", *robust, norm, eps))
    if names is None:
        names = tuple(
            f"{letter}: {report.environment.get('model', 'model')}"
            for letter, report in (("A", first), ("B", second))
        )
    findings = [
        dataclasses.replace(finding, message=f"{letter}: {finding.message}")
        for letter, report in (("A", first), ("B", second))
        for finding in report.findings
        if finding.severity != "info"
    ]
    return Comparison(
        tuple(names),
        tuple(pairs),
        gravest_first([*_unequal(first, second), *findings]),
        (first.environment, second.environment),
    )


def common_budgets(first, second):
    """The pairs `(norm, eps)` of both lists.

    Raises:
        ValueError: If there is none.
    """
    common = [pair for pair in first if pair in second]
    if not common:
        one, other = (
            ", ".join(report_text.budget(*pair) for pair in pairs)
            for pairs in (first, second)
        )
        raise ValueError(
            "The two models must be attacked within the same norm and eps at "
            f"least once. Received: {one} for the first, and {other} for the "
            "second"
        )
    return common


def _unequal(first, second):
    """A finding if just one of the two was tried with some attack.

    It is grave if that is another kind of attack, and not the same with
    another budget.
    """
    only = [set(), set()]
    for norm, limit in common_budgets(first.budgets, second.budgets):
        one, other = (_counted(r, norm, limit) for r in (first, second))
        only[0] |= one - other
        only[1] |= other - one
    told = [
        f"{letter} with {' and '.join(sorted(attacks))}"
        for letter, attacks in zip("AB", only, strict=True)
        if attacks
    ]
    if told:
        kinds = [{result.name for result in r.results} for r in (first, second)]
        yield Finding(
            "warning" if kinds[0] == kinds[1] else "high",
            f"Only one of the two was attacked: {'; '.join(told)}. The worst "
            "cases are not over the same attacks, so that their difference "
            "may be that of the attacks.",
            {"only A": sorted(only[0]), "only B": sorted(only[1])},
            "unequal_attacks",
        )


def _counted(report, norm, limit):
    """The attacks that count in a worst case, each with its budget."""
    return {
        f"{result.name}, {report_text.budget(norm, result.eps)}"
        for result in report.results
        if result.norm == norm
        and (limit is None or result.eps is None or result.eps <= limit)
    }


def _check_same(first, second):
    """Two results of the same name must be those of the same attack."""
    # Plain settings only: surrogates and parts may fit the model.
    one, other = (
        {
            key: value
            for key, value in result.attack.items()
            if key not in ("name", "seed", "eps")
            and isinstance(value, (str, float, int, NoneType))
        }
        for result in (first, second)
    )
    different = sorted(
        key
        for key in one.keys() | other.keys()
        if one.get(key) != other.get(key)
    )
    if different:
        raise ValueError(
            "The two models must be attacked in the same way. Received: "
            f"{first.name!r} with "
            + " and with ".join(
                ", ".join(f"{key}={side.get(key)!r}" for key in different)
                for side in (one, other)
            )
        )


def _order(first, second):
    """Where the images of the first report are in the second."""
    places = {name: i for i, name in enumerate(second.identities)}
    shared = [name for name in first.identities if name in places]
    complete = len(shared) == len(first) == len(second)
    if not complete or set(places) != set(shared):
        raise ValueError(
            "The two reports must be of the same images. Received: "
            f"{len(first)} and {len(second)} images, of which {len(shared)} "
            "are known to be the same"
        )
    return np.asarray([places[name] for name in shared])
