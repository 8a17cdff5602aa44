"""What is asked for: attacks, by name or not, and budgets for each."""

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np

import keras_wp.attacks as kwp_attacks
from keras_wp import norms


def resolve(attacks, eps):
    """The attacks, each with a label of its own."""
    if isinstance(attacks, (str, kwp_attacks.Attack)):
        attacks = [attacks]
    attacks = [] if attacks is None else list(attacks)
    named = [a for a in attacks if isinstance(a, str)]
    if named and eps is None:
        raise ValueError(
            "`eps` must be given for attacks by name, whose budgets depend on "
            f"the data set. Received: eps=None for {named}"
        )
    resolved = [_by_name(a, eps) if isinstance(a, str) else a for a in attacks]
    if not resolved:
        raise ValueError("`attacks` must name at least one. Received: none")
    labels = set()
    for i, attack in enumerate(resolved):
        if not isinstance(attack, kwp_attacks.Attack):
            raise ValueError(
                "`attacks` must be attacks or names of attacks. Received: "
                f"{attack!r}"
            )
        name, count = attack.label, 1
        while name in labels:
            count += 1
            name = f"{attack.label} ({count})"
        labels.add(name)
        if count > 1:
            resolved[i] = dataclasses.replace(attack, name=name)
    return resolved


def _by_name(name, eps):
    attack = kwp_attacks.get(name)
    if isinstance(eps, Mapping) and attack.norm not in eps:
        raise ValueError(
            "`eps` must hold a budget in the norm of each attack by name. "
            f"Received: eps={eps!r} for {name!r}, whose norm is "
            f"{attack.norm!r}"
        )
    return attack


def budgets(attacks, eps):
    """For each attack, the list of budgets to run it with."""
    if eps is None:
        return [[_own_budget(attack)] for attack in attacks]
    if not isinstance(eps, Mapping):
        used = sorted({attack.norm for attack in attacks})
        if len(used) > 1:
            raise ValueError(
                "`eps` must be a dictionary from norm to budget when the "
                f"attacks use several norms. Received: eps={eps!r} for the "
                f"norms {used}"
            )
        eps = {used[0]: eps}
    budgets = {}
    for norm, values in eps.items():
        norms.get(norm)  # A misspelt norm would leave attacks as they are.
        try:
            values = np.unique(np.atleast_1d(values).astype(float))
        except (TypeError, ValueError):
            values = np.array([np.nan])
        if not values.size or not np.isfinite(values).all() or values[0] <= 0:
            raise ValueError(
                "`eps` must consist of finite numbers greater than 0. "
                f"Received: eps={eps[norm]!r}"
            )
        budgets[norm] = [float(value) for value in values]
    if unused := sorted(set(budgets) - {attack.norm for attack in attacks}):
        raise ValueError(
            "`eps` must hold budgets in the norms of the attacks only. "
            f"Received: eps={eps!r}, and no attack in {', '.join(unused)}"
        )
    return [budgets.get(a.norm, [_own_budget(a)]) for a in attacks]


def _own_budget(attack):
    eps = getattr(attack, "eps", None)
    return None if eps is None else float(eps)


def separate(attack, budgets):
    """The budgets that need a run of their own."""
    if attack.minimum_norm:
        return [budgets]
    return [[budget] for budget in budgets]


def common_bounds(attacks):
    """Lowest and highest value of a pixel, for all attacks."""
    bounds = {attack.bounds for attack in attacks}
    if len(bounds) > 1:
        raise ValueError(
            f"The attacks must agree on `bounds`. Received: {sorted(bounds)}"
        )
    return bounds.pop()


def radii(attacks, budgets):
    """The pairs `(norm, eps)` that any attack has, smallest eps first."""
    pairs = {
        (attack.norm, eps)
        for attack, own in zip(attacks, budgets, strict=True)
        for eps in own
        if eps is not None
    }
    return sorted(pairs)


def warn_of_far(radii, bounds):
    """Warn if a budget reaches farther than pixels do: other units, maybe."""
    low, high = bounds
    for norm, eps in radii:
        if norm == "linf" and eps > high - low:
            warnings.warn(
                f"A budget in linf of {eps:g} is larger than the range of the "
                f"pixels, {bounds}, so that any image is within it: is it "
                "in other units?",
                stacklevel=3,
            )
