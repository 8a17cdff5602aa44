"""What is asked for: attacks, by name or not, and budgets for each."""

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np

import keras_wp.attacks as kwp_attacks
from keras_wp import _names, norms, objectives


def resolve(attacks, eps, bounds=(0.0, 1.0)):
    """The attacks, each with a label of its own.

    Args:
        attacks: Attacks, or names: several in a text with commas.
        eps: The budgets asked for.
        bounds: The bounds of attacks by name.
    """
    if isinstance(attacks, str):
        attacks = _names.split(attacks)
    if isinstance(attacks, kwp_attacks.Attack):
        attacks = [attacks]
    attacks = [] if attacks is None else list(attacks)
    for name in [a for a in attacks if isinstance(a, str)]:
        own = "eps" in _names.read(name)[1]
        if own == (eps is not None):
            raise ValueError(
                "The budget of an attack by name must be given once, as `eps` "
                "or in the name, as it depends on the data set. Received: "
                f"eps={eps!r} for {name!r}"
            )
    resolved = [
        _by_name(a, eps).with_bounds(bounds) if isinstance(a, str) else a
        for a in attacks
    ]
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
            values = np.atleast_1d(values)
            if values.dtype == bool:
                raise TypeError
            values = np.unique(values.astype(float))
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


def bounds_of_names(inputs, raw, eps):
    """The bounds of attacks by name, which say what the units of `eps` are.

    Args:
        inputs: The `Inputs`, or None.
        raw: The first images as they are, or None.
        eps: The budgets asked for.
    """
    if inputs is not None:
        return inputs.common_bounds
    if raw is None or not raw.size or eps is None:
        return 0.0, 1.0
    values = eps.values() if isinstance(eps, Mapping) else [eps]
    try:
        largest = max(float(np.max(value)) for value in values)
    except (TypeError, ValueError):
        return 0.0, 1.0  # What is wrong with them is said elsewhere.
    pixels = 1 < raw.max() <= 255 and raw.min() >= 0
    # In units of 255, nobody means less than one.
    return (0.0, 255.0) if pixels and largest >= 1 else (0.0, 1.0)


def replaced_losses(attacks, num_classes):
    """What takes the place of losses that are not defined, in words."""
    losses = {getattr(p, "loss", None) for a in attacks for p in a.parts}
    if num_classes >= objectives.DLR_CLASSES or "dlr" not in losses:
        return ()
    return (
        f"margins in the place of the DLR loss, which needs "
        f"{objectives.DLR_CLASSES} classes",
    )


# Budgets below this share of the range of the pixels are doubtful, by norm.
_SMALL = {"linf": 1e-3, "l2": 1e-2}


def check_units(radii, bounds):
    """Refuse budgets that are in other units than the pixels, or warn.

    Raises:
        ValueError: If all budgets in a norm are in units of [0, 1], and the
            bounds those of whole numbers.
    """
    reach = bounds[1] - bounds[0]
    if not np.isfinite(reach):
        return
    for norm, eps in dict(radii).items():
        if eps < _SMALL.get(norm, 0) * reach and reach > 2:
            raise ValueError(
                "`eps` must be in the units of `bounds`. Received: "
                f"eps={eps:.4g} in {norm} for pixels in {bounds}, which is "
                f"{eps / reach:.2g} of their range: give eps={eps * reach:.4g}"
            )
        if norm == "linf" and not 1e-3 * reach <= eps <= reach / 2:
            size = "less than a thousandth of"
            if eps > reach / 2:
                size = "larger than half of"
            warnings.warn(
                f"A budget in linf of {eps:g} is {size} the range of the "
                f"pixels, {bounds}: is it in other units?",
                stacklevel=3,
            )
