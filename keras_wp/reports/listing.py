"""The call that makes a report again."""


def call(report):
    """A Python script that evaluates the same attacks with the same seed."""
    env, asked = report.environment, {}
    for result in report.results:
        # Attacks of this name come from the option.
        if result.name != "adaptive" or not env.get("adaptive"):
            asked.setdefault(result.name, []).append(result)
    attacks = "".join(f"    {_attack(mine[0])},\n" for mine in asked.values())
    eps = _shared_budgets(asked.values())
    options = f"    eps={eps!r},\n" if eps else ""
    options += f"    seed={env.get('seed', 0)!r},\n"
    if isinstance(env.get("adaptive"), (list, tuple)):
        options += f"    adaptive=[...],  # {', '.join(env['adaptive'])!r}\n"
    elif not env.get("adaptive"):
        options += "    adaptive=False,\n"
    if report.certificate is not None:
        options += "    certify=True,\n"
    if not env.get("audit"):
        options += "    audit=False,\n"
    told = [repr(env.get("dataset", f"the same {len(report)} images"))]
    told += [f"pixels in {env['pixels']}"] if "pixels" in env else []
    told += [env["assumed"]] if env.get("assumed") else []
    return f"""\
import keras
import keras_wp

{_model(env)}
x, y = ...  # {"; ".join(told)}
attacks = [
{attacks}]
report = keras_wp.evaluate(
    model,
    (x, y),
    attacks,
{options})"""


def _model(env):
    """The line that reads the model, whose file only a command knows."""
    name = env.get("model", "the model")
    return f"model = keras.saving.load_model(...)  # the file of {name}"


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
