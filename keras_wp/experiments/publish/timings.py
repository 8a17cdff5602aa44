"""The tables of recorded benchmarks, from their JSON alone."""

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
        "PyTorch "
        f"{result['torch']} with {result['torch_threads']} threads."
        f"{_made(result)}"
    )


def peers_table(figures):
    """A row for each work and library.

    Args:
        figures: What `benchmarks/vs_peers.py` measures.
    """
    header = ["work", "library", "seconds", "ours / it", "robust", "median"]
    lines = []
    for figure in figures:
        for row in figure["rows"]:
            label = f"{figure['work']}, {figure['images']} images"
            if "error" in row:
                lines.append([label, row["library"], row["error"], *[""] * 3])
                continue
            ratio, median = row["ours_over_it"], row["median_distance"]
            lines.append(
                [
                    label,
                    f"{row['library']} {row['version']}",
                    f"{row['seconds']:.2f}",
                    "" if ratio is None else f"{ratio:.3f}",
                    _robust(row),
                    "" if median is None else f"{median:.4f}",
                ]
            )
    return table(header, lines)


def _robust(row):
    """The accuracy, or of several draws the mean and the range."""
    draws = row.get("draws", [])
    if len(draws) < 2:
        return f"{row['robust_accuracy']:.1%}"
    mean = sum(draws) / len(draws)
    return f"{mean:.1%} ({min(draws):.1%} to {max(draws):.1%})"


def gradients(result):
    """What a gradient costs, by batch, compiler and precision."""
    figures = result["figures"]
    batches = list(dict.fromkeys(figure["batch"] for figure in figures))
    found = {
        (f["precision"], f["compiler"], f["batch"]): f["milliseconds"]
        for f in figures
    }
    rows = dict.fromkeys((f["precision"], f["compiler"]) for f in figures)
    lines = [
        [*row, *(f"{found[*row, batch]:.2f}" for batch in batches)]
        for row in rows
    ]
    header = ["precision", "compiler", *(f"batch of {b}" for b in batches)]
    return (
        f"# What a gradient costs\n\n{table(header, lines)}\n\n"
        "Milliseconds an image of the gradients of the cross-entropy in the "
        f"images, by the clock: the medians of {result['rounds']} turns. "
        f"Backend: {result['backend']}.{_made(result)}"
    )


def floor(result):
    """The engine against bare gradients."""
    header = ["attack", "images", "clean", "robust", "steps", "a step is a"]
    header += ["ratio", "of processor time", "divided", "without clean pass"]
    header += ["with forward passes"]
    lines = [
        [
            figure["attack"],
            str(figure["images"]),
            f"{figure['clean_accuracy']:.1%}",
            f"{figure['robust_accuracy']:.1%}",
            f"{figure['steps_per_image']:.1f}",
            figure["unit"],
            f"{figure['ratio_wall']:.2f}",
            f"{figure['ratio_processor']:.2f}",
            f"{figure['ratio_divided_wall']:.2f}",
            f"{figure['ratio_attack_wall']:.2f}",
            # Not in the oldest records.
            _two_places(figure.get("ratio_passes_wall")),
        ]
        for figure in result["figures"]
    ]
    return (
        f"# The engine against the floor\n\n{table(header, lines)}\n\n"
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
    throughput, found = result["throughput_of_two_devices"], result["results"]
    lines = [
        ["throughput of two devices", f"{throughput['wall']:.2f}"],
        ["the same by processor time", f"{throughput['processor']:.2f}"],
        [
            "speed-up by the second core",
            f"{result['speed_up_of_two_cores']:.2f}",
        ],
        ["other verdicts", f"{found['other_verdicts']} of {result['images']}"],
        ["other numbers of steps", str(found["other_steps"])],
    ]
    header = [f"{result['attack']} on {result['images']} images", ""]
    return (
        f"# Two devices and two cores\n\n{table(header, lines)}\n\n"
        "Two logical devices share two cores; throughput is that of two over "
        f"that of one.{_made(result)}"
    )


def memory(result):
    """Peak memory by the number of streamed images."""
    header = ["images", "steps per image", "as float32, MB", "peak, MB", "s"]
    lines = [
        [
            f"{figure['images']:,}",
            f"{figure['steps_per_image']:.0f}",
            f"{figure['megabytes_of_images']:.1f}",
            f"{figure['peak_megabytes']:.0f}",
            f"{figure['seconds']:.0f}",
        ]
        for figure in result["figures"]
    ]
    return (
        f"# Memory of an evaluation\n\n{table(header, lines)}\n\n"
        f"{result['attack']}, each number of images in a process of its own."
        f"{_made(result)}"
    )


def _two_places(value):
    return "" if value is None else f"{value:.2f}"


def _made(result):
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    return (
        f"\n\nData: {result['data']}. Device: {result['device']}; "
        f"{result['seconds']:.0f} s in all. {versions}; commit "
        f"{result['commit']}.\n\n    {result['command']}\n"
    )
