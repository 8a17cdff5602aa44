"""The call that makes a report again."""


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
            "import keras_wp",
            "",
            'model = keras.saving.load_model("model.keras")',
            f"x, y = ...  # {data!r}",
            "attacks = [",
            *attacks,
            "]",
            "report = keras_wp.evaluate(",
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
    if result.call is not None:
        return result.call
    # Earlier reports tell the settings only.
    return f"...  # {result.name!r}: {result.attack!r}".replace("\n", " ")
