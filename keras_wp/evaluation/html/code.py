"""The call that makes a report again."""

import dataclasses

import keras_wp.attacks as kwp_attacks


def call(report):
    """A Python script that evaluates the same attacks with the same seed."""
    env = report.environment
    # These attacks come from the option of that name.
    results = [
        r for r in report.results if r.name != "adaptive" or not env.get(r.name)
    ]
    asked = {}
    for result in results:
        asked.setdefault(result.name, []).append(result)
    attacks = [f"    {_attack(mine[0])}," for mine in asked.values()]
    options = []
    if isinstance(env.get("adaptive"), (list, tuple)):
        labels = ", ".join(env["adaptive"])
        options.append(f"    adaptive=[...],  # {labels!r}")
    elif env.get("adaptive"):
        options.append("    adaptive=True,")
    if env.get("audit"):
        options.append("    audit=True,")
    eps = _shared_budgets(asked.values())
    data = env.get("dataset", f"the same {len(report)} images")
    return "\n".join(
        [
            "import keras",
            "import keras_wp as kwp",
            "",
            'model = keras.saving.load_model("model.keras")',
            f"x, y = ...  # {data!r}",
            "attacks = [",
            *attacks,
            "]",
            "report = kwp.evaluate(",
            "    model,",
            "    (x, y),",
            "    attacks,",
            *([f"    eps={eps!r},"] if eps else []),
            f"    seed={env.get('seed', 0)!r},",
            *options,
            ")",
        ]
    )


def _shared_budgets(asked):
    """By norm, the budgets that all of its attacks have.

    Where they differ, each attack has its own `eps`.
    """
    found = {}
    for mine in asked:
        budgets = [result.eps for result in mine]
        found.setdefault(mine[0].norm, []).append(budgets)
    return {
        norm: given[0]
        for norm, given in found.items()
        if None not in given[0] and all(one == given[0] for one in given)
    }


def _attack(result):
    config = dict(result.attack)
    if result.eps is not None and not result.minimum_norm:
        config["eps"] = result.eps
    kind = config.get("attack")
    known = getattr(kwp_attacks, str(kind), None)
    there, missing = [], []
    if dataclasses.is_dataclass(known):
        for field in dataclasses.fields(known):
            (there if field.name in config else missing).append(field)
    # Such as the members of InTurn, which are attacks.
    unknown = any(f.default is dataclasses.MISSING for f in missing)
    composed = any(_is_composed(config[f.name]) for f in there)
    if not there or unknown or composed:
        return f"...  # {result.name!r}: {config!r}".replace("\n", " ")
    given = []
    for field in there:
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
