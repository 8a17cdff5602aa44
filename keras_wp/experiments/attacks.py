"""The attacks that a `Config` names: in the evaluation, and in training."""

import dataclasses
from fractions import Fraction

import keras_wp as kwp
from keras_wp import _names

# Budget, steps and their size in training: Madry et al. (ICLR 2018); Zhang et
# al. (ICML 2019); Wang et al. (ICLR 2020).
_ON_DIGITS = (0.3, 40, 0.01)
_ON_CIFAR = {
    "at": (8 / 255, 10, 2 / 255),
    "trades": (0.031, 10, 0.007),
    "mart": (0.031, 10, 0.007),
}


def budgets(images):
    """Whose budgets are used: those for digits, or those for CIFAR."""
    return "mnist" if images.shape[-1] == 1 else "cifar10"


def by_name(config, name, images):
    """An attack of the paper, `"pgd20-paper"`, or any other, `"apgd-dlr"`.

    `"mta100-paper-published"` is the multi-target attack as the published
    script has it. The iterations are limited to `config.max_attack_steps`, and
    the attack's label then says to how many; that of `"autoattack"` is
    AutoAttack for the standard suite only.
    """
    try:
        attack = kwp.attacks.get(name, budgets(images))
    except ValueError as error:
        raise SystemExit(f"--attacks={name}: {error}") from None
    if not isinstance(attack, kwp.attacks.FGSM):
        attack = dataclasses.replace(attack, seed=config.seed)
    if (limit := config.max_attack_steps) is None:
        return attack
    fewer = {
        field.name: min(getattr(attack, field.name), limit)
        for field in dataclasses.fields(attack)
        if field.name in ("steps", "queries")
    }
    return dataclasses.replace(attack, **fewer)


def named(config, images):
    """The attacks of the evaluation."""
    names = _names.split(",".join(config.attacks))
    found = [by_name(config, name, images) for name in names]
    if config.eps and all(attack.norm != "linf" for attack in found):
        names = ",".join(config.attacks)
        raise SystemExit(
            f"--eps is for attacks in l-infinity. Received: --attacks={names}"
        )
    return found


def eps(config):
    """Budgets as `evaluate` takes it: None for the attacks' own."""
    try:
        found = [float(Fraction(text)) for text in config.eps]
    except (ValueError, ZeroDivisionError):
        found = [0.0]
    if min(found, default=1.0) <= 0:
        raise SystemExit(
            "--eps must be numbers or fractions above 0, such as 0.3 or 8/255. "
            f"Received: {','.join(config.eps)}"
        )
    return {"linf": found} if found else None


def of_curves(config, images):
    """The first of the attacks, at the smallest of its budgets."""
    attack = by_name(config, config.attacks[0], images)
    given = eps(config)
    if given and attack.norm == "linf":
        attack = dataclasses.replace(attack, eps=min(given["linf"]))
    return attack


def in_training(config, images):
    """PGD as the defense was published, except for what is given.

    Other budgets and numbers of steps scale the steps, which cross the ball as
    many times as those published.
    """
    digits = budgets(images) == "mnist"
    published = _ON_DIGITS if digits else _ON_CIFAR[config.defense]
    given = config.attack_eps, config.attack_steps, config.attack_step_size
    eps, steps, size = (
        usual if value is None else value
        for value, usual in zip(given, (*published[:2], None), strict=True)
    )
    if size is None:
        scale = (eps / published[0]) * (published[1] / max(steps, 1))
        size = scale * published[2]
    start = True if config.defense == "at" else "normal"
    return kwp.attacks.PGD(
        eps=eps, steps=steps, step_size=size, random_start=start
    )
