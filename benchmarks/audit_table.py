"""What the audit makes of broken and of healthy models: the table of docs.

    python benchmarks/audit_table.py --output=results/audit.json

trains two small convolutional networks on 4,000 digits (one adversarially),
breaks the plain one in eleven ways, and evaluates each on 300 other digits at
l-infinity 0.1 as a user would who knows of PGD-20 only, with adaptive attacks
and the audit. Ten minutes on one core.
"""

import pathlib
import sys
import time
import warnings

import _common as common
import keras
from absl import app, flags

import keras_wp as kwp

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

import broken_models

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 300, "Test images.")


def convolutional():
    return kwp.models.small_cnn(
        (28, 28, 1), 10, widths=(8, 8, 16, 16), dense=(64, 48)
    )


def row(name, model, truth):
    begun = time.perf_counter()
    report = broken_models.audited(model, FLAGS.images)
    seconds = time.perf_counter() - begun
    findings = [
        {"severity": f.severity, "check": f.check, "message": f.message}
        for f in report.findings
    ]
    figures = {
        "model": name,
        "clean": report.clean_accuracy,
        "pgd20": report["PGD20"].robust_accuracy,
        "worst_case": report.robust_accuracy,
        "truth": truth,
        "findings": findings,
        "seconds": seconds,
        "seconds_of_the_audit": report.findings[-1].evidence["seconds"],
        "seconds_of_pgd20": report["PGD20"].seconds,
    }
    print(line(figures), flush=True)
    return figures


def line(figures):
    grave = dict.fromkeys(
        f["check"] for f in figures["findings"] if f["severity"] == "high"
    )
    shares = (figures[n] for n in ("clean", "pgd20", "worst_case", "truth"))
    cells = [f"{100 * share:.1f}" for share in shares]
    cells = [figures["model"], *cells, ", ".join(grave) or "none"]
    return "| " + " | ".join(cells) + " |"


def main(_):
    warnings.simplefilter("ignore")  # What they say, the findings say.
    build, count = convolutional, FLAGS.images
    rows = []
    for name, make in broken_models.HEALTHY.items():
        model = make(build)
        truth = broken_models.strongly_attacked(model, count)
        rows.append(row(name, model, truth))
    for name, make in broken_models.BROKEN.items():
        truth = broken_models.true_accuracy(name, build, count)
        rows.append(row(name, make(build), truth))
    common.record(
        {
            "data": f"mnist5k, {count} images",
            "eps": broken_models.EPS,
            "backend": keras.backend.backend(),
            "rows": rows,
        }
    )
    print("\n".join(line(figures) for figures in rows))


if __name__ == "__main__":
    app.run(main)
