"""The call that makes a report again."""

import dataclasses

import keras_wp.attacks as kwp_attacks


def call(report):
    """A Python script that evaluates the same attacks with the same seed."""
    attacks, curves = [], {}
    for name in dict.fromkeys(r.name for r in report.results):
        mine = [r for r in report.results if r.name == name]
        attacks.append(f"    {_attack(mine[0])},")
        budgets = {r.eps for r in mine if r.eps is not None}
        needs_list = len(budgets) > 1 or mine[0].minimum_norm
        if budgets and needs_list:
            curves.setdefault(mine[0].norm, set()).update(budgets)
    eps = {norm: sorted(values) for norm, values in curves.items()}
    return "\n".join(
        [
            "import keras",
            "import keras_wp as kwp",
            "",
            'model = keras.saving.load_model("model.keras")',
            "attacks = [",
            *attacks,
            "]",
            "report = kwp.evaluate(",
            "    model,",
            "    (x, y),",
            "    attacks,",
            *([f"    eps={eps!r},"] if eps else []),
            f"    seed={report.environment.get('seed', 0)!r},",
            ")",
        ]
    )


def _attack(result):
    config = dict(result.attack)
    kind = config.get("attack")
    known = getattr(kwp_attacks, str(kind), None)
    if not dataclasses.is_dataclass(known):
        return f"...  # {result.name!r}: {config!r}".replace("\n", " ")
    if result.eps is not None and not result.minimum_norm:
        config["eps"] = result.eps
    given = []
    for field in dataclasses.fields(known):
        if field.name not in config:
            continue
        value = config[field.name]
        if isinstance(value, list):
            value = tuple(value)
        if value != field.default:
            given.append(f"{field.name}={value!r}")
    return f"kwp.attacks.{kind}({', '.join(given)})"
