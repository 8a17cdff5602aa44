"""The tables of studies in `results/`, from their JSON alone."""

from keras_wp.reports.shown import markdown_table

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


def table(header, lines):
    """A table of cells that are text."""
    return markdown_table([header, *lines]).rstrip("\n")


def paper_table(result):
    """Tables 2 to 5: a cited and a measured line for each row."""
    number, rows = result["table"], result["rows"]
    first = rows[0]["measured"]
    budgets, attacks = first["worst_case_by_budget"], first["attacks"]
    header = ["method", "", "clean", *result["headings"], "worst case"]
    header += [*budgets, "zero grad"]
    lines = []
    for row in rows:
        ours, cited = row["measured"], row["cited"]
        if cited:
            shown = [cited.get(name) for name in ("clean", *attacks)]
            shown += [None] * (2 + len(budgets))
            lines.append([row["method"], "*cited*", *map(_number, shown)])
        left = ours["attacks"].values()
        shown = [ours["clean"], *(attack["accuracy"] for attack in left)]
        shown += [ours["worst_case"], *ours["worst_case_by_budget"].values()]
        shown += [max(attack["zero_gradients"] for attack in left)]
        lines.append([row["method"], "measured", *map(_number, shown)])
    return (
        f"# Table {number}: {result['title']}\n\n"
        "Accuracy in %. Rows marked *cited* are the paper's own numbers, which "
        f"nothing here has measured (Xu, Li and Yang, Table {number}); its "
        f"authors trained for 400 epochs.{_CITED_BESIDES.get(number, '')}\n\n"
        f"{table(header, lines)}\n\n"
        f"Measured: {_measured(result)}, {first['images']} test images (95 % "
        f"intervals are up to ±{98 / first['images'] ** 0.5:.0f}); "
        f"{', '.join(map(_as_run, attacks.values()))}. The worst case counts "
        "an image as robust if all attacks "
        f"{'and those that fit the model ' * first['adaptive']}fail on it. "
        "`zero grad` is the largest share of the attacked images (those "
        "classified correctly), over the attacks, that met a gradient of "
        f"exactly zero.{_made(result)}"
    )


def growing_epochs(result):
    """Each method after more and more epochs."""
    rows, attacks = result["rows"], result["attacks"]
    # By heading: the name in the record, and how it is shown.
    columns = {
        **{name: (name, _percent) for name in ("clean", *attacks)},
        "worst case": ("worst_case", _percent),
        "units at ±1": ("saturated", _percent),
        "beyond ±0.999": ("nearly_saturated", _percent),
        "pre-activation": ("median_size", _number),
        "zero grad": ("zero_gradients", _percent),
        "min. angle": ("min_angle", _number),
    }
    lines = []
    for row in rows:
        shown = [show(row["mean"][name]) for name, show in columns.values()]
        lines.append([row["method"], str(row["epochs"]), *shown])
    return (
        f"# {result['title']}\n\n"
        f"Accuracy in %{_mean_of(rows)}.\n\n"
        f"{table(['method', 'epochs', *columns], lines)}\n\n"
        f"{', '.join(f'{k}: {_as_run(a)}' for k, a in attacks.items())}. "
        "*MTA, as published* moves away from the class aimed at, "
        "from a random start, as the published script does, and flatters. The "
        f"worst case is over all attacks in {result['norm']} within "
        f"{result['eps']:.4g}, and those that fit the model. Of the Tanh "
        "before the class weights: the share of units that are exactly ±1 in "
        "float32, and beyond ±0.999, on the test images, and the median size "
        "of their pre-activations. `zero grad` is the share of the attacked "
        "images (those classified correctly) on which PGD met a gradient of "
        "exactly zero. Degrees between the closest class weights.\n\n"
        f"P{_measured(result)[1:]}, {result['images']} test images."
        f"{_made(result)}"
    )


def compare_heads(result):
    """Heads in the same training, against the ordinary one."""
    rows, reference = result["rows"], result["reference"]
    conditions = ["clean", result["attack"], "worst case"]
    header = ["training", "head", *conditions]
    header += [f"worst case − {reference}", "by seed", "only it"]
    header += [f"only {reference}", f"clean − {reference}"]
    lines, over = [], set()
    for row in rows:
        line = [row["defense"], row["variant"]]
        line += [_with_range(row["accuracy"][name]) for name in conditions]
        if against := row.get("against"):
            worst = against["worst case"]
            line += [
                f"**{_difference(worst)}**",
                ", ".join(map(_points, worst["difference_by_seed"])),
                str(worst["pooled"]["second"]),
                str(worst["pooled"]["first"]),
                _difference(against["clean"]),
            ]
            over |= {found["over"] for found in against.values()}
        lines.append(line + ["–"] * (len(header) - len(line)))
    intervals = " ".join(text for k, text in _INTERVALS.items() if k in over)
    return (
        f"# {result['title']}\n\n"
        f"Accuracy in %{_mean_of(rows)} (lowest to highest). The worst case "
        f"counts an image as robust if {result['attack']} and the attacks that "
        f"fit the model fail on it, at {result['norm']} {result['eps']:.4g}. "
        "Differences are in points, with 95 % intervals.\n\n"
        f"{table(header, lines)}\n\n"
        f"*only it*: outcomes, of {result['images']} images with "
        f"{len(rows[0]['runs'])} seeds, in which just this head resists the "
        f"worst case. {intervals}\n\n"
        f"P{_measured(result)[1:]}.{_made(result)}"
    )


def _as_run(attack):
    return f"{attack['as_run']} ({attack['norm']} {attack['eps']:.4g})"


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


def _mean_of(rows):
    seeds = len(rows[0]["runs"])
    return f", the mean of {seeds} seeds" if seeds > 1 else ""


def _number(value):
    return "–" if value is None else f"{value:.2f}"


def _percent(share):
    return "–" if share is None else f"{100 * share:.1f}"


def _points(difference):
    return f"{100 * difference:+.1f}"


def _difference(found):
    low, high = map(_points, found["interval"])
    mark = " †" if found["over"] == "images" else ""
    return f"{_points(found['difference'])} ({low} to {high}){mark}"


def _with_range(values):
    """The mean of several runs, and their range if they differ."""
    mean = _percent(sum(values) / len(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({_percent(min(values))}–{_percent(max(values))})"
