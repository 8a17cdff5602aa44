"""What the audit makes of models that mislead, and of healthy ones.

    python benchmarks/audit_table.py --images=100 --output=results/audit.json

builds the models of `tests/support` one after another, and evaluates each on
digits as a user would who knows of PGD-20 only, with adaptive attacks and the
audit. The truth is what strong attacks leave that are told how the model
masks its gradient. A run that was stopped goes on where
it was, if the code is the same. Truths are kept in a file of their own beside
the output: delete it when a model has changed.
"""

import hashlib
import json
import pathlib
import sys
import time
import traceback
import warnings

import _common as common
import keras
from absl import app, flags

import keras_wp as kwp

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests/support"))

import masked_models
from bases import Masked, digits
from healthy_models import HEALTHY
from masked_models import MASKED

SUPPORT = pathlib.Path(masked_models.__file__).parent

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 100, "Test images.")
flags.DEFINE_string("only", "", "Models with this in their names.")
flags.DEFINE_boolean("fresh", False, "Forget the rows of a stopped run.")


def read(path):
    """A JSON file's contents; an empty dictionary if there are none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def code():
    """A digest of what the rows depend on."""
    digest = hashlib.blake2b(digest_size=8)
    folders = (pathlib.Path(kwp.__file__).parent, SUPPORT)
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Truths:
    """What strong attacks leave, kept beside the output."""

    def __init__(self, output):
        self.path = None
        if output:
            path = pathlib.Path(output)
            self.path = path.with_name(f"{path.stem}-truths.json")
        self.known = read(self.path) if self.path else {}

    def of(self, name, masked, count):
        """`{"truth": share, "seconds_of_truth": seconds}`."""
        backend = keras.backend.backend()
        key = f"{name} | eps {masked.eps} | {count} images | {backend}"
        if key not in self.known:
            begun = time.perf_counter()
            truth = masked_models.truth_of(masked, count)
            seconds = time.perf_counter() - begun
            self.known[key] = {"truth": truth, "seconds_of_truth": seconds}
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps(self.known, indent=1) + "\n")
        return self.known[key]


def built(name):
    if name in MASKED:
        return MASKED[name]()
    model = HEALTHY[name]()
    return Masked(model, model)


def row(name, truths):
    begun = time.perf_counter()
    masked = built(name)
    building = time.perf_counter() - begun
    figures = {
        "model": name,
        "healthy": name in HEALTHY,
        "eps": masked.eps,
        **truths.of(name, masked, FLAGS.images),
        "seconds_of_building": building,
    }
    begun = time.perf_counter()
    try:
        found = evaluated(masked)
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    return {**figures, **found, "seconds": time.perf_counter() - begun}


def evaluated(masked):
    """The figures of one evaluation."""
    attack = kwp.attacks.PGD(eps=masked.eps, steps=20)
    _, test = digits(FLAGS.images)
    report = kwp.evaluate(
        masked.model, test, [attack], adaptive=True, audit=True, progress=False
    )
    findings = [
        {"severity": f.severity, "check": f.check, "message": f.message}
        for f in report.findings
    ]
    audits = [
        f.evidence["seconds"] for f in report.findings if f.check == "extent"
    ]
    return {
        "clean": report.clean_accuracy,
        "pgd20": report["PGD20"].robust_accuracy,
        "worst_case": report.robust_accuracy,
        "findings": findings,
        "seconds_of_pgd20": report["PGD20"].seconds,
        "seconds_of_the_audit": sum(audits),
    }


def line(figures):
    names = ("clean", "pgd20", "worst_case", "truth")
    shares = [figures.get(name) for name in names]
    cells = ["-" if s is None else f"{100 * s:.1f}" for s in shares]
    grave = dict.fromkeys(
        f["check"]
        for f in figures.get("findings", ())
        if f["severity"] == "high"
    )
    last = figures.get("error") or ", ".join(grave) or "none"
    cells = [figures["model"], str(figures["eps"]), *cells, last]
    return "| " + " | ".join(cells) + " |"


def seconds(figures):
    """How long each part took, in words."""
    names = ("building", "truth", "pgd20", "the_audit")
    parts = [
        f"{name.replace('_', ' ')} {figures[f'seconds_of_{name}']:.0f}"
        for name in names
        if f"seconds_of_{name}" in figures
    ]
    return ", ".join([*parts, f"evaluation {figures['seconds']:.0f} s"])


def finished(arguments):
    """By name, the rows of a run of the same code and arguments."""
    if FLAGS.fresh or not FLAGS.output:
        return {}
    before = read(pathlib.Path(FLAGS.output))
    if before.get("arguments") != arguments:
        return {}
    return {figures["model"]: figures for figures in before["rows"]}


def main(_):
    warnings.simplefilter("ignore")  # What they say, the findings say.
    arguments = {
        "code": code(),
        "images": FLAGS.images,
        "backend": keras.backend.backend(),
    }
    done, truths = finished(arguments), Truths(FLAGS.output)
    names = [name for name in (*HEALTHY, *MASKED) if FLAGS.only in name]
    for name in names:
        if name not in done:
            done[name] = row(name, truths)
            print(line(done[name]), seconds(done[name]), flush=True)
            figures = {
                "data": f"mnist5k, {FLAGS.images} images",
                "arguments": arguments,
                "rows": list(done.values()),
            }
            common.record(figures, show=False)
    print("\n".join(line(done[name]) for name in names))


if __name__ == "__main__":
    app.run(main)
