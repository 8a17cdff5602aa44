"""The tables of recorded benchmarks, from their JSON alone."""

import statistics

from keras_wp.experiments.publish.markdown import table


def peers(result):
    """The same weights and images through other libraries."""
    return (
        f"# Against other libraries\n\n{peers_table(result['figures'])}\n\n"
        "Seconds of one call on all images; *ours / it* is by the timing of "
        "ours next before it, so that it may differ from the ratio of the "
        "seconds shown. Accuracy after the attack, and the median distance in "
        "its norm, by one function for all; of several draws of the random "
        "numbers the mean accuracy, and from the lowest to the highest. "
        f"PyTorch {result['torch']} with {result['torch_threads']} threads."
        f"{_made(result)}"
    )


def peers_table(figures):
    """A row for each work and library, of what `vs_peers.py` measures."""
    columns = {
        "work": "{work}, {images} images",
        "library": "{library} {version}",
        "seconds": "{seconds:.2f}",
        "ours / it": "{ours_over_it:.3f}",
        "robust": "{robust_accuracy:.1%}",
        "median": "{median_distance:.4f}",
    }
    lines = []
    for figure in figures:
        for row in figure["rows"]:
            more = {}
            if "error" in row:
                more = {"library": "{library}", "seconds": "{error}"}
            elif len(draws := row.get("draws", [])) > 1:
                # The mean of several draws, and the range.
                found = sum(draws) / len(draws), min(draws), max(draws)
                more = {"robust": "{:.1%} ({:.1%} to {:.1%})".format(*found)}
            lines.append(_cells({**columns, **more}, {**figure, **row}))
    return table([*columns], lines)


def gradients(result):
    """What a gradient costs, by batch, compiler and precision."""
    rows = {}
    for f in result["figures"]:
        row = rows.setdefault((f["precision"], f["compiler"]), {})
        row[f"batch of {f['batch']}"] = f"{f['milliseconds']:.2f}"
    batches = dict.fromkeys(batch for row in rows.values() for batch in row)
    lines = [[*what, *map(row.get, batches)] for what, row in rows.items()]
    return (
        "# What a gradient costs\n\n"
        f"{table(['precision', 'compiler', *batches], lines)}\n\n"
        "Milliseconds an image of the gradients of the cross-entropy in the "
        f"images, by the clock: the medians of {result['rounds']} turns. "
        f"Backend: {result['backend']}.{_made(result)}"
    )


def floor(result):
    """The engine against bare gradients."""
    columns = {
        "attack": "{attack}",
        "images": "{images}",
        "clean": "{clean_accuracy:.1%}",
        "robust": "{robust_accuracy:.1%}",
        "steps": "{steps_per_image:.1f}",
        "a step is a": "{unit}",
        "ratio": "{ratio_wall:.2f}",
        "of processor time": "{ratio_processor:.2f}",
        "divided": "{ratio_divided_wall:.2f}",
        "without clean pass": "{ratio_attack_wall:.2f}",
        "with forward passes": "{ratio_passes_wall:.2f}",
    }
    return (
        f"# The engine against the floor\n\n{_figures(result, columns)}\n\n"
        "*steps*: of each attacked image, on average. *ratio*: time of "
        "`evaluate`, everything included, over that of the steps as bare "
        "compiled programs on whole batches, by the clock; then by processor "
        "time. *divided*: by the clock, over bare programs divided between the "
        "cores as the engine divides them. *without clean pass*: the same, "
        "less a forward pass of each image. *with forward passes*: the first "
        "ratio, with the forward passes beside the steps in the floor, too: of "
        "clean images, of last points, and of the final search."
        f"{_made(result)}"
    )


def devices(result):
    """Two logical devices, and two cores, against one."""
    two = "throughput_of_two_devices"
    lines = {
        "throughput of two devices": f"{{{two}[wall]:.2f}}",
        "the same by processor time": f"{{{two}[processor]:.2f}}",
        "speed-up by the second core": "{speed_up_of_two_cores:.2f}",
        "other verdicts": "{results[other_verdicts]} of {images}",
        "other numbers of steps": "{results[other_steps]}",
    }
    lines = zip(lines, _cells(lines, result), strict=True)
    header = [f"{result['attack']} on {result['images']} images", ""]
    return (
        f"# Two devices and two cores\n\n{table(header, lines)}\n\n"
        "Two logical devices share two cores; throughput is that of two over "
        f"that of one.{_made(result)}"
    )


def memory(result):
    """Peak memory by the number of streamed images."""
    columns = {
        "images": "{images:,}",
        "steps per image": "{steps_per_image:.0f}",
        "as float32, MB": "{megabytes_of_images:.1f}",
        "peak, MB": "{peak_megabytes:.0f}",
        "s": "{seconds:.0f}",
    }
    return (
        f"# Memory of an evaluation\n\n{_figures(result, columns)}\n\n"
        f"{result['attack']}, each number of images in a process of its own."
        f"{_made(result)}"
    )


def certified(result):
    """Heads and encoders by one recipe, a row for each."""
    rows = {}
    for row in result["figures"]:
        rows.setdefault(row["kind"], []).append(row)
    first = result["figures"][0]
    radii = [*first["certified"]]
    header = ["network", "seeds", "weights", "least angle"]
    header += ["clean", *(f"proved at {eps}" for eps in radii)]
    header += ["subtracted for float32", "seconds of training"]
    lines = []
    for kind, mine in rows.items():
        shares = [[row["clean"] for row in mine]]
        shares += [[row["certified"][eps] for row in mine] for eps in radii]
        rounding = statistics.mean(row["rounding"] for row in mine)
        seconds = statistics.mean(row["train_seconds"] for row in mine)
        lines.append(
            [
                *(kind, str(len(mine)), f"{mine[0]['weights']:,}"),
                _mean([row["min_angle"] for row in mine], "°"),
                *(_mean([100 * s for s in some], " %", 2) for some in shares),
                *(f"{rounding:.2g}", f"{seconds:.0f}"),
            ]
        )
    recipe = {
        name: " ".join(value) if isinstance(value, list) else value
        for name, value in result["recipe"].items()
    }
    return (
        f"# Certified accuracy in l2\n\n{table(header, lines)}\n\n"
        "Means over seeds, and from the lowest to the highest. All test "
        f"images; trained on {first['train_images']:,}. "
        f"Recipe: {_listed(recipe)}.{_made(result, timed=False)}"
    )


def _mean(values, unit, places=1):
    mean = f"{statistics.mean(values):.{places}f}{unit}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{places}f} to {max(values):.{places}f})"


def _figures(result, columns):
    """A row for each figure; columns are formats of cells."""
    return table([*columns], [_cells(columns, f) for f in result["figures"]])


def _cells(columns, values):
    def cell(text):
        try:
            return text.format(**values)
        except (KeyError, TypeError):  # Not known, as in older records.
            return ""

    return [*map(cell, columns.values())]


def _made(result, timed=True):
    seconds = f"{result['seconds']:.0f} s in all. " if timed else ""
    return (
        f"\n\nData: {result['data']}. Device: {result['device']}; {seconds}"
        f"{_listed(result['versions'])}; commit {result['commit']}."
        f"\n\n    {result['command']}\n"
    )


def _listed(values):
    return ", ".join(f"{name} {value}" for name, value in values.items())
