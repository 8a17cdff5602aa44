"""Tables 2 to 5 of the paper: every row trained and attacked, side by side.

    python examples/tables.py --table=4 --preset=cpu

runs what the table needs, and writes `table-4-cpu.json` and `table-4-cpu.md`:
the paper's numbers, marked as cited, beside ours, and the worst case over all
the attacks. That includes one attack which the paper lacks, PGD on the margin.
All of our rows are trained with the recipe of the paper's section 4; those of
the compared defenses in Table 2 are cited there from their own papers.

`--preset=paper`, the default, is for several GPUs and days. What is finished
is not run again. Flags after `--` go to the experiments, as in
`-- --distribute=mirrored`.
"""

import json
import pathlib

import _runs
import numpy as np
from _paper import TABLES
from absl import app, flags

FLAGS = flags.FLAGS
_runs.define_flags()
flags.DEFINE_enum("table", None, list(TABLES), "Number.", required=True)

CITED = (
    "Rows marked *cited* are the paper's own numbers, which nothing here has "
    "measured (Xu, Li and Yang, Table {number}): 400 epochs, all test images."
)
# What has to be known of a table's cited rows besides.
CITED_BESIDES = {
    "2": " Only *Ours* was trained by its authors; they cite the other rows "
    "from the defenses' own papers, with other recipes.",
    "4": " Its MTA moved features away from the class aimed at, by a sign "
    "error in the published script; ours moves them towards it.",
    "5": " Its MTA moved features away from the class aimed at, by a sign "
    "error in the published script; ours moves them towards it.",
}


def measure(table, experiment):
    """Our numbers for a row, accuracies in percent."""
    report = experiment.report()
    # By name, in the order of the attacks; the largest budget is the last.
    runs = {result["name"]: result for result in report["results"]}
    worst = {
        f"worst case, {budget['norm']} {budget['eps']:.4g}": budget
        for budget in report["worst_case"]
    }
    return {
        "command": experiment.record()["command"],
        "images": report["num_images"],
        "clean": 100 * report["clean_accuracy"],
        "attacks": {
            name: {
                "as_run": result["name"],
                "norm": result["norm"],
                "eps": result["eps"],
                "accuracy": 100 * result["robust_accuracy"],
                "interval": [100 * x for x in result["confidence_interval"]],
                "zero_gradients": _zero_gradients(result),
            }
            for name, result in zip(table.attacks, runs.values(), strict=True)
        },
        "worst_case": 100 * report["robust_accuracy"],
        "worst_case_by_budget": {
            name: 100 * budget["robust_accuracy"]
            for name, budget in worst.items()
        },
    }


def _zero_gradients(result):
    """Percent of the attacked images that met a gradient of zero."""
    attacked = np.array(result["attacked"], bool)
    met = np.array(result["zero_gradients"])[attacked] > 0
    return 100 * float(met.mean()) if met.size else 0.0


def to_markdown(table, rows, record):
    """The table with a cited and a measured line for each row."""
    budgets = list(rows[0]["measured"]["worst_case_by_budget"])
    header = ["method", "", "clean", *table.attacks.values(), "worst case"]
    header += [*budgets, "zero grad"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        ours, cited = row["measured"], row["cited"]
        if cited:
            shown = [cited.get(name) for name in ("clean", *table.attacks)]
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
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    first = rows[0]["measured"]
    images, attacks = first["images"], first["attacks"].values()
    as_run = ", ".join(
        f"{a['as_run']} ({a['norm']} {a['eps']:.4g})" for a in attacks
    )
    return (
        f"# Table {FLAGS.table}: {table.title}\n\n"
        f"Accuracy in %. {CITED.format(number=FLAGS.table)}"
        f"{CITED_BESIDES.get(FLAGS.table, '')}\n\n{body}\n\n"
        f"Measured: preset `{FLAGS.preset}`{_changes(record)}, data "
        f"{record['data']}, {images} "
        f"test images (95 % intervals are up to ±{98 / images**0.5:.0f}); "
        f"{as_run}. The worst case counts an image as robust if all attacks "
        "fail on it. `zero grad` is the largest share of images, over the "
        "attacks, that met a gradient of exactly zero. Device: "
        f"{record['device']}; {record['seconds']:.0f} s in all.\n\n"
        f"    {record['command']}\n"
    )


def _changes(record):
    """What the preset has changed of the title's experiment, if anything."""
    changes = record["preset_changes"]
    if not changes:
        return ""
    return f" (which stands for `{' '.join(changes)}`)"


def _number(value):
    return "–" if value is None else f"{value:.2f}"


def main(argv):
    table = TABLES[FLAGS.table]
    experiments = [table.experiment(row) for row in table.rows]
    _runs.run(experiments, argv[1:])
    rows = [
        {
            "method": row.method,
            "cited": row.cited,
            "measured": measure(table, experiment),
        }
        for row, experiment in zip(table.rows, experiments, strict=True)
    ]
    record = _runs.records(experiments)
    name = f"table-{FLAGS.table}-{FLAGS.preset}"
    path = pathlib.Path(FLAGS.output_dir) / name
    text = to_markdown(table, rows, record)
    print(f"\n{text}")
    _runs.write(path.with_suffix(".md"), text)
    result = {**record, "title": table.title, "rows": rows}
    _runs.write(path.with_suffix(".json"), json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
