"""`compare`: models on the same images, two of them or a leaderboard."""

from keras_wp.reports.comparable import unequal
from keras_wp.reports.comparison import compare_two, findings_of, names_of
from keras_wp.reports.findings import gravest_first
from keras_wp.reports.leaderboard import Leaderboard
from keras_wp.reports.report import Report
from keras_wp.reports.wording import letters


def compare(first, second, *others, names=None):
    """Compare models, image by image.

    Two accuracies measured on the same images differ by less chance than
    their intervals suggest, as most images are easy or hard for both. So the
    images are counted on which just one model is right: McNemar's exact test
    asks whether they are divided evenly, and Newcombe's method 10 gives the
    interval of the difference.

    More than two models are compared with the first, each. As one of many
    tests finds a difference by chance, their p-values are corrected by Holm's
    method, for the models under each condition.

    Args:
        first: The `Report` of the first model.
        second: That of the second, on the same images, in any order.
        *others: Those of further models.
        names: What to call them; defaults to the models' names.

    Returns:
        A `Comparison` of two; a `Leaderboard` of more. The worst case is that
        over each report's own attacks, so give all models the same, and to
        each those that suit it (`adaptive=True`); if one was tried with
        others, a finding says so.

    Raises:
        ValueError: If these are no reports, are not of the same images, have
            no budget in common, or attacks of the same name that differ; or if
            there are not as many names.

    Example:

    >>> data = (x_test, y_test)
    >>> plain = keras_wp.evaluate(model, data, ["pgd20"], eps=8 / 255)
    >>> robust = keras_wp.evaluate(other, data, ["pgd20"], eps=8 / 255)
    >>> print(keras_wp.compare(plain, robust))
    """
    reports = (first, second, *others)
    for report in reports:
        if not isinstance(report, Report):
            raise ValueError(
                "`compare` takes reports, as `evaluate` returns them. "
                f"Received: a {type(report).__name__}"
            )
    if names is not None and len(names) != len(reports):
        raise ValueError(
            "Argument `names` must have a name for each report. Received: "
            f"{len(names)} names for {len(reports)} reports"
        )
    if not others:
        return compare_two(first, second, names)
    own = letters(len(reports))
    names = tuple(names or names_of(own, reports))
    found, unlike = [], []
    for letter, name, report in zip(
        own[1:], names[1:], reports[1:], strict=True
    ):
        try:
            pair = compare_two(first, report, (names[0], name))
        except ValueError as error:
            raise ValueError(f"{letter} beside A: {error}") from None
        found.append(pair)
        budgets = [
            (p.norm, p.eps) for p in pair.pairs if p.condition == "worst case"
        ]
        unlike += unequal(first, report, budgets, ("A", letter))
    board = Leaderboard(
        names=names,
        comparisons=tuple(found),
        findings=gravest_first([*unlike, *findings_of(own, reports)]),
        environments=tuple(report.environment for report in reports),
    )
    if len(board.conditions) < 2:
        raise ValueError(
            "All models must be attacked within one norm and eps at least. "
            "Received: none that they have in common"
        )
    return board
