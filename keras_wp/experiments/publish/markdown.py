"""The tables in `results/`, from their JSON alone."""

_CITED = (
    "Rows marked *cited* are the paper's own numbers, which nothing here has "
    "measured (Xu, Li and Yang, Table {number}); its authors trained for 400 "
    "epochs."
)
_OTHER_SETTINGS = (
    " By its code, its MTA moved features away from the class aimed at, from a "
    "random start and with lengths as they are; ours turns them towards it, "
    "from the image. Its MMC has ReLU features, centers of length 0.1 and a "
    "squared error averaged over features, ours the original recipe; its "
    "AdvTraining has 10 steps of a fifth of the budget, ours those of Madry "
    "et al. Its small networks see the images as they are, ours normalized; "
    "that for MNIST has the ReLU of its first dense layer before the batch "
    "normalization, ours after it."
)
# What has to be known of a table's cited rows besides.
_CITED_BESIDES = {
    "2": " Only *Ours* was trained by its authors; they cite the other rows "
    "from the defenses' own papers, with other recipes.",
    "4": _OTHER_SETTINGS,
    "5": _OTHER_SETTINGS,
}
# Of what a difference is an interval, see `paired_seeds.py`.
_INTERVALS = {
    "images and seeds": "Intervals are over images and seeds, by a two-way "
    "analysis of variance of the paired differences (`paired_seeds.py`).",
    "images": "† Over images alone, as if of a single run: Newcombe's interval "
    "of paired outcomes.",
}


def paper_table(result):
    """Tables 2 to 5: a cited and a measured line for each row."""
    number, rows = result["table"], result["rows"]
    budgets = list(rows[0]["measured"]["worst_case_by_budget"])
    header = ["method", "", "clean", *result["headings"], "worst case"]
    header += [*budgets, "zero grad"]
    lines = []
    for row in rows:
        ours, cited = row["measured"], row["cited"]
        if cited:
            shown = [cited.get(name) for name in ("clean", *ours["attacks"])]
            shown += [None] * (2 + len(budgets))
            lines.append([row["method"], "*cited*", *map(_number, shown)])
        shown = [
            ours["clean"],
            *[attack["accuracy"] for attack in ours["attacks"].values()],
            ours["worst_case"],
            *ours["worst_case_by_budget"].values(),
            max(a["zero_gradients"] for a in ours["attacks"].values()),
        ]
        lines.append([row["method"], "measured", *map(_number, shown)])
    first = rows[0]["measured"]
    images, attacks = first["images"], first["attacks"].values()
    as_run = ", ".join(
        f"{a['as_run']} ({a['norm']} {a['eps']:.4g})" for a in attacks
    )
    return (
        f"# Table {number}: {result['title']}\n\n"
        f"Accuracy in %. {_CITED.format(number=number)}"
        f"{_CITED_BESIDES.get(number, '')}\n\n{table(header, lines)}\n\n"
        f"Measured: {_measured(result)}, {images} "
        f"test images (95 % intervals are up to ±{98 / images**0.5:.0f}); "
        f"{as_run}. The worst case counts an image as robust if all attacks "
        f"{_adaptive(first)}fail on it. `zero grad` is the largest share of "
        "the attacked images (those classified correctly), over the attacks, "
        "that met a gradient of exactly zero."
        f"{_made(result)}"
    )


def _adaptive(measured):
    return "and those that fit the model " if measured["adaptive"] else ""


def growing_epochs(result):
    """Each method after more and more epochs."""
    rows, attacks = result["rows"], result["attacks"]
    header = ["method", "epochs", "clean", *attacks, "worst case"]
    header += ["units at ±1", "beyond ±0.999", "pre-activation"]
    header += ["zero grad", "min. angle"]
    lines = []
    for row in rows:
        mean = row["mean"]
        shares = [mean[name] for name in ("clean", *attacks, "worst_case")]
        shares += [mean["saturated"], mean["nearly_saturated"]]
        lines.append(
            [
                row["method"],
                str(row["epochs"]),
                *map(_percent, shares),
                _number(mean["median_size"]),
                _percent(mean["zero_gradients"]),
                _number(mean["min_angle"]),
            ]
        )
    budgets = ", ".join(
        f"{heading}: {a['as_run']} ({a['norm']} {a['eps']:.4g})"
        for heading, a in attacks.items()
    )
    seeds = len(rows[0]["runs"])
    return (
        f"# {result['title']}\n\n"
        f"Accuracy in %{_mean_of(seeds)}.\n\n{table(header, lines)}\n\n"
        f"{budgets}. *MTA, as published* moves away from the class aimed at, "
        "from a random start, as the published script does, and flatters. The "
        f"worst case is over all attacks in {result['norm']} within "
        f"{result['eps']:.4g}, and those that fit the model. Of the Tanh "
        "before the class weights: the share of units that are exactly ±1 in "
        "float32, and beyond ±0.999, on the test images, and the median size "
        "of their pre-activations. `zero grad` is the share of the attacked "
        "images (those classified correctly) on which PGD met a gradient of "
        "exactly zero. Degrees between the closest class weights.\n\n"
        f"{_sentence(_measured(result))}, {result['images']} test images."
        f"{_made(result)}"
    )


def compare_heads(result):
    """Heads in the same training, against the ordinary one."""
    attack, reference = result["attack"], result["reference"]
    conditions = ["clean", attack, "worst case"]
    header = ["training", "head", *conditions]
    header += [f"worst case − {reference}", "by seed", "only it"]
    header += [f"only {reference}", f"clean − {reference}"]
    lines = []
    for row in result["rows"]:
        line = [row["defense"], row["variant"]]
        line += [_with_range(row["accuracy"][name]) for name in conditions]
        if "against" in row:
            worst, clean = row["against"]["worst case"], row["against"]["clean"]
            line += [
                f"**{_difference(worst)}**",
                ", ".join(_points(d) for d in worst["difference_by_seed"]),
                str(worst["pooled"]["second"]),
                str(worst["pooled"]["first"]),
                _difference(clean),
            ]
        else:
            line += ["–"] * 5
        lines.append(line)
    seeds = len(result["rows"][0]["runs"])
    over = {
        found["over"]
        for row in result["rows"]
        for found in row.get("against", {}).values()
    }
    intervals = " ".join(_INTERVALS[key] for key in _INTERVALS if key in over)
    return (
        f"# {result['title']}\n\n"
        f"Accuracy in %{_mean_of(seeds)} (lowest to highest). The worst case "
        f"counts an image as robust if {attack} and the attacks that fit the "
        f"model fail on it, at {result['norm']} {result['eps']:.4g}. "
        "Differences are in points, with 95 % intervals.\n\n"
        f"{table(header, lines)}\n\n"
        f"*only it*: outcomes, of {result['images']} images with {seeds} "
        f"seeds, in which just this head resists the worst case. "
        f"{intervals}\n\n"
        f"{_sentence(_measured(result))}.{_made(result)}"
    )


def table(header, lines):
    """A table in Markdown, of cells that are text."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _measured(result):
    """The experiment's size, and the data."""
    changes, given = result["preset_changes"], result["flags"]
    stands = f" (which stands for `{' '.join(changes)}`)" if changes else ""
    besides = f" with `{' '.join(given)}`" if given else ""
    size = f"preset `{result['preset']}`{stands}{besides}"
    return f"{size}, data {result['data']}"


def _made(result):
    """On what, in which time, and by which command."""
    return (
        f" Device: {result['device']}; {result['seconds']:.0f} s in all.\n\n"
        f"    {result['command']}\n"
    )


def _mean_of(seeds):
    return f", the mean of {seeds} seeds" if seeds > 1 else ""


def _sentence(text):
    return text[0].upper() + text[1:]


def _number(value):
    return "–" if value is None else f"{value:.2f}"


def _percent(share):
    return "–" if share is None else f"{100 * share:.1f}"


def _points(difference):
    return f"{100 * difference:+.1f}"


def _difference(found):
    low, high = found["interval"]
    mark = " †" if found["over"] == "images" else ""
    text = f"{_points(low)} to {_points(high)}"
    return f"{_points(found['difference'])} ({text}){mark}"


def _with_range(values):
    """The mean of several runs, and their range if they differ."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return _percent(mean)
    return f"{_percent(mean)} ({_percent(min(values))}–{_percent(max(values))})"
