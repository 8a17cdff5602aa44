"""Tables 2 to 5 of the paper: every row trained and attacked, side by side.

    python -m keras_wp.experiments table --table=4 --preset=cpu

runs what the table needs, and writes `results/table/4-cpu`: the paper's
numbers, marked as cited, beside ours, and the worst case over all the attacks.
That includes one attack which the paper lacks, PGD on the margin. All of our
rows are trained with the recipe of the paper's section 4; those of the
compared defenses in Table 2 are cited there from their own papers.

`--preset=paper`, the default, is for several GPUs and days. What is finished
is not run again. Flags after `--` go to the experiments, as in
`-- --distribute=mirrored`.
"""

import dataclasses

import numpy as np

from keras_wp.experiments import options
from keras_wp.experiments.options import option
from keras_wp.experiments.studies import queue
from keras_wp.experiments.studies.paper import TABLES
from keras_wp.experiments.studies.study import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tables(Study):
    table: str | None = option(None, "Its number.", tuple(TABLES))


def measure(table, experiment):
    """Our numbers for a row, accuracies in percent."""
    report = experiment.report()
    # By name, in the order of the attacks; the largest budget is the last.
    runs = {result["name"]: result for result in report["results"]}
    adaptive = runs.pop("adaptive", None)
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
        "adaptive": adaptive is not None,
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


def command(argv):
    """`table`."""
    options.run(_main, _Tables(), argv)


def _main(study, given, more):
    study = dataclasses.replace(study, **given)
    study.require("table")
    table = TABLES[study.table]
    experiments = [table.experiment(study, row) for row in table.rows]
    queue.run(experiments, more)
    rows = [
        {
            "method": row.method,
            "cited": row.cited,
            "measured": measure(table, experiment),
        }
        for row, experiment in zip(table.rows, experiments, strict=True)
    ]
    result = {
        **queue.records(experiments),
        "table": study.table,
        "title": table.title,
        "headings": list(table.attacks.values()),
        "rows": rows,
    }
    folder = study.write("table", f"{study.table}-{study.preset}", result)
    print(f"\n{(folder / 'table.md').read_text()}")
