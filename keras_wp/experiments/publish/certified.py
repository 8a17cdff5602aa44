"""The table of certified accuracies, from its JSON alone."""

import statistics

from keras_wp.experiments.publish.markdown import table


def table_of(result):
    """Heads and encoders by one recipe, a row for each.

    Args:
        result: What `benchmarks/certified.py` records.
    """
    rows = {}
    for row in result["figures"]:
        rows.setdefault(row["kind"], []).append(row)
    radii = list(result["figures"][0]["certified"])
    header = ["network", "seeds", "weights", "least angle"]
    header += ["clean", *(f"proved at {eps}" for eps in radii)]
    header += ["subtracted for float32", "seconds of training"]
    lines = []
    for kind, mine in rows.items():
        line = [kind, str(len(mine)), f"{mine[0]['weights']:,}"]
        line.append(_mean([row["min_angle"] for row in mine], "°"))
        columns = [[row["clean"] for row in mine]]
        columns += [[row["certified"][eps] for row in mine] for eps in radii]
        for shares in columns:
            percent = [100 * share for share in shares]
            line.append(_mean(percent, " %", places=2))
        rounding = statistics.mean(row["rounding"] for row in mine)
        seconds = statistics.mean(row["train_seconds"] for row in mine)
        lines.append([*line, f"{rounding:.2g}", f"{seconds:.0f}"])
    recipe = ", ".join(f"{k} {_text(v)}" for k, v in result["recipe"].items())
    images = result["figures"][0]["train_images"]
    return (
        f"# Certified accuracy in l2\n\n{table(header, lines)}\n\n"
        "Means over seeds, and from the lowest to the highest. All test "
        f"images; trained on {images:,}. Recipe: {recipe}.\n\n"
        f"Data: {result['data']}. Device: {result['device']}; "
        f"{', '.join(f'{k} {v}' for k, v in result['versions'].items())}; "
        f"commit {result['commit']}.\n\n    {result['command']}\n"
    )


def _mean(values, unit, places=1):
    mean = f"{statistics.mean(values):.{places}f}{unit}"
    if len(values) == 1:
        return mean
    low, high = min(values), max(values)
    return f"{mean} ({low:.{places}f} to {high:.{places}f})"


def _text(value):
    return " ".join(value) if isinstance(value, list) else str(value)
