"""The call that makes a report again."""

import dataclasses

import keras_wp.attacks as kwp_attacks


def call(report):
    """A Python script that evaluates the same attacks with the same seed."""
    attacks, curves = [], {}
    options = [
        f"    {name}=True,"
        for name in ("adaptive", "audit")
        if report.environment.get(name)
    ]
    for name in dict.fromkeys(r.name for r in report.results):
        mine = [r for r in report.results if r.name == name]
        # These attacks come from the option of that name.
        if name == "adaptive" and report.environment.get("adaptive"):
            continue
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
            *options,
            ")",
        ]
    )


def _attack(result):
    config = dict(result.attack)
    if result.eps is not None and not result.minimum_norm:
        config["eps"] = result.eps
    kind = config.get("attack")
    known = getattr(kwp_attacks, str(kind), None)
    fields = ()
    if dataclasses.is_dataclass(known):
        fields = [f for f in dataclasses.fields(known) if f.name in config]
    if not fields or any(_is_composed(config[f.name]) for f in fields):
        return f"...  # {result.name!r}: {config!r}".replace("\n", " ")
    given = []
    for field in fields:
        value = config[field.name]
        if isinstance(value, list):
            value = tuple(value)
        if value != field.default:
            given.append(f"{field.name}={value!r}")
    return f"kwp.attacks.{kind}({', '.join(given)})"


def _is_composed(value):
    """Whether a setting is an object of its own, such as a surrogate."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_composed, value))
    return isinstance(value, dict)
