"""Whether two reports can be compared, and how far."""

from types import NoneType

import numpy as np

from keras_wp.reports import wording
from keras_wp.reports.findings import Finding


def common_budgets(first, second):
    """The pairs `(norm, eps)` of both lists.

    Raises:
        ValueError: If there is none.
    """
    common = [pair for pair in first if pair in second]
    if not common:
        one, other = (
            ", ".join(wording.budget(*pair) for pair in pairs)
            for pairs in (first, second)
        )
        raise ValueError(
            "The two models must be attacked within the same norm and eps at "
            f"least once. Received: {one} for the first, and {other} for the "
            "second"
        )
    return common


def unequal(first, second, budgets, letters=("A", "B")):
    """A finding if just one of the two was tried with some attack.

    It is grave if that is another kind of attack, and not the same with
    another budget.

    Args:
        first: A report.
        second: Another.
        budgets: What `common_budgets` finds of the two.
        letters: What the two are called.
    """
    only = [set(), set()]
    for norm, limit in budgets:
        one, other = (_counted(r, norm, limit) for r in (first, second))
        only[0] |= one - other
        only[1] |= other - one
    told = [
        f"{letter} with {' and '.join(sorted(attacks))}"
        for letter, attacks in zip(letters, only, strict=True)
        if attacks
    ]
    if told:
        kinds = [{result.name for result in r.results} for r in (first, second)]
        yield Finding(
            "warning" if kinds[0] == kinds[1] else "high",
            "Not both were attacked alike: only "
            f"{' and only '.join(told)}. The worst cases are not over the same "
            "attacks, so that their difference may be that of the attacks.",
            {
                f"only {letter}": sorted(attacks)
                for letter, attacks in zip(letters, only, strict=True)
            },
            "unequal_attacks",
        )


def _counted(report, norm, limit):
    """The attacks that count in a worst case, each with its budget."""
    return {
        f"{result.name}, {wording.budget(norm, result.eps)}"
        for result in report.results
        if result.norm == norm
        and (limit is None or result.eps is None or result.eps <= limit)
    }


def check_same(first, second):
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


def order(first, second):
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
