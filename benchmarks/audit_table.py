"""What the audit makes of models that mislead, and of healthy ones.

    python -m benchmarks.audit_table --images=100 --output=results/audit

builds the models of `tests/support` one after another, and evaluates each on
digits as a user would who knows of PGD-20 only, with adaptive attacks and the
audit. The truth is what strong attacks leave that are told how the model
masks its gradient. A run that was stopped goes on where
it was, if the code is the same. Truths are kept in a folder beside the output,
by what a model computes, and found first with `--truths`.
"""

import hashlib
import json
import multiprocessing
import pathlib
import time
import traceback
import warnings
from concurrent import futures

import keras
import masked_models
import numpy as np
from absl import app, flags
from bases import Masked, digits
from healthy_models import HEALTHY
from masked_models import MASKED

import benchmarks
import keras_wp as kwp
from benchmarks import common

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 100, "Test images.")
flags.DEFINE_string(
    "only", "", "Models with one of these in their names, divided by `;`."
)
flags.DEFINE_integer("jobs", 2, "Processes.")
flags.DEFINE_boolean("truths", False, "Only what is true.")
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
    folders = (pathlib.Path(kwp.__file__).parent, benchmarks.SUPPORT)
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def function(name, masked, count):
    """What a model computes, in a few letters: equal ones have one truth."""
    if masked.random:
        return name
    x = digits(count)[1][0]
    signs = np.random.default_rng(0).choice((-1, 1), x.shape)
    moved = np.clip(x + masked.eps * signs, 0, 1).astype(np.float32)
    logits = [masked_models.logits_of(masked.model, z) for z in (x, moved)]
    return hashlib.blake2b(np.stack(logits), digest_size=8).hexdigest()


def truth(path, name, masked, count):
    """What strong attacks leave, and how long they took.

    Kept beside the output; a file for each function, as several processes
    look for them.
    """
    backend = keras.backend.backend()
    key = f"{function(name, masked, count)} {masked.eps} {count} {backend}"
    digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    path = path / f"{digest}.json"
    known = read(path)
    if not known:
        begun = time.perf_counter()
        known = {"of": name, "truth": masked_models.truth_of(masked, count)}
        known["seconds_of_truth"] = time.perf_counter() - begun
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known) + "\n", encoding="utf-8")
    return known


def built(name):
    if name in MASKED:
        return MASKED[name]()
    model = HEALTHY[name]()
    return Masked(model, model)


def row(name, count, truths, truths_only=False):
    """The figures of one model; a healthy one's truth is not looked for."""
    warnings.simplefilter("ignore")  # What they say, the findings say.
    begun = time.perf_counter()
    masked = built(name)
    building = time.perf_counter() - begun
    figures = {"model": name, "healthy": name in HEALTHY, "eps": masked.eps}
    if name in MASKED:
        figures |= truth(truths, name, masked, count)
    figures["seconds_of_building"] = building
    if truths_only:
        return figures
    begun = time.perf_counter()
    try:
        found = evaluated(masked, count)
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    return {**figures, **found, "seconds": time.perf_counter() - begun}


def evaluated(masked, count):
    """The figures of one evaluation."""
    attack = kwp.attacks.PGD(eps=masked.eps, steps=20)
    _, test = digits(count)
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
    return ", ".join([*parts, f"evaluation {figures.get('seconds', 0):.0f} s"])


def finished(arguments):
    """By name, the rows of a run of the same code and arguments."""
    if FLAGS.fresh or not FLAGS.output:
        return {}
    before = read(pathlib.Path(FLAGS.output) / "data.json")
    if before.get("arguments") != arguments:
        return {}
    return {figures["model"]: figures for figures in before["rows"]}


def chosen(names):
    """Those that are asked for."""
    parts = [part.strip() for part in FLAGS.only.split(";")]
    return [
        name
        for name in names
        if any(part in name for part in parts)
        or ("healthy" in parts and name in HEALTHY)
    ]


def main(_):
    arguments = {
        "code": code(),
        "images": FLAGS.images,
        "backend": keras.backend.backend(),
    }
    names, done = chosen((*HEALTHY, *MASKED)), finished(arguments)
    output = pathlib.Path(FLAGS.output or "runs/audit")
    truths = output.with_name(f"{output.stem}-truths")
    # Processes of their own: tracing takes most of the time, on one core.
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(FLAGS.jobs, context) as pool:
        rows = [
            pool.submit(row, name, FLAGS.images, truths, FLAGS.truths)
            for name in names
            if name not in done
        ]
        for future in futures.as_completed(rows):
            figures = future.result()
            print(line(figures), seconds(figures), flush=True)
            if not FLAGS.truths:
                done[figures["model"]] = figures
                save(arguments, done)
    print("\n".join(line(done[name]) for name in names if name in done))


def save(arguments, done):
    figures = {
        "data": f"mnist5k, {FLAGS.images} images",
        "arguments": arguments,
        "rows": [done[n] for n in (*HEALTHY, *MASKED) if n in done],
    }
    common.record(figures, show=False)


if __name__ == "__main__":
    app.run(main)
