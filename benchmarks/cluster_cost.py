"""Actors of Ray beside as many processes that know nothing of each other.

    python -m benchmarks.cluster_cost --dataset=mnist5k --narrow=2 \
        --train_images=4000 --eps=0.1 \
        --output=results/cluster/mnist5k-cpu

AutoAttack on the first images: by processes of one core that have a shard each,
and by one evaluation with actors of one core each, in turns. All of it counts:
reading the model, tracing, the start of the actors. For how many images they
find something else is part of the figures.
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks import common
from keras_wp.cluster.ray import THREADS

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 256, "Images.")
flags.DEFINE_integer("workers", 2, "Actors, and processes.")
flags.DEFINE_integer("rounds", 1, "Of each.")
flags.DEFINE_float("eps", 0.3, "Budget in l-infinity.")
flags.DEFINE_integer("shard", 0, "Evaluate this shard only, or with actors.")
flags.DEFINE_string("report", None, "Write the evaluation here.")


class Timed(kwp.cluster.Ray):
    """Tells how long it takes until its actors are ready."""

    def pool(self, session, view):
        begun = time.perf_counter()
        pool = super().pool(session, view)
        print(time.perf_counter() - begun)
        return pool


def evaluated():
    """The report of a shard, or of all images by actors."""
    data = common.load()
    model = common.network(data)
    x, y = (part[: FLAGS.images] for part in data[1])
    how = {"cluster": Timed(workers=FLAGS.workers)}
    if FLAGS.shard:
        how = {"shard": (FLAGS.shard, FLAGS.workers)}
    begun = time.perf_counter()
    report = kwp.evaluate(
        model,
        (x, y),
        [kwp.attacks.AutoAttack(eps=FLAGS.eps)],
        adaptive=False,
        audit=False,
        **how,
    )
    report.to_json(FLAGS.report)
    if FLAGS.shard:
        print(0.0)
    print(time.perf_counter() - begun)


def timed(shards, folder):
    """Let these be evaluated side by side.

    Returns:
        The merged report, and the seconds of the slowest process as a whole,
        of its evaluation, and of that until actors are ready.
    """
    one_core = dict.fromkeys(THREADS, "1")
    begun, running = time.perf_counter(), []
    for shard in shards:
        command = [sys.executable, "-m", "benchmarks.cluster_cost"]
        command += [*sys.argv[1:], f"--shard={shard}", "--output="]
        command += [f"--report={folder}/{shard}.json"]
        env = {**os.environ, **(one_core if shard else {})}
        running.append(
            subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, text=True
            )
        )
    told = [process.communicate()[0] for process in running]
    seconds = time.perf_counter() - begun
    if any(process.returncode for process in running):
        raise RuntimeError("An evaluation failed: see above.")
    reports = [kwp.Report.from_json(f"{folder}/{s}.json") for s in shards]
    report = kwp.merge(reports) if all(shards) else reports[0]
    last = [[float(s) for s in text.split("\n")[-3:-1]] for text in told]
    start, evaluation = np.max(last, axis=0)
    return report, seconds, evaluation, start


def main(_):
    if FLAGS.report:
        evaluated()
        return
    shards = {"actors": [0], "processes": range(1, FLAGS.workers + 1)}
    found = {name: [] for name in shards}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(FLAGS.rounds):
            for name, parts in shards.items():
                found[name].append(timed(parts, folder))
    reports = [report for runs in found.values() for report, *_ in runs]
    first, *others = [report.results[0] for report in reports]
    different = {
        name: max(
            int((getattr(first, name) != getattr(other, name)).sum())
            for other in others
        )
        for name in ("robust", "steps", "predicted")
    }
    seconds = {
        name: np.median([run[1:] for run in runs], axis=0)
        for name, runs in found.items()
    }
    figures = {
        "images": FLAGS.images,
        "workers": FLAGS.workers,
        "rounds": FLAGS.rounds,
        "robust_accuracy": reports[0].robust_accuracy,
        "images_that_differ_in": different,
    }
    kinds = ("seconds_in_all", "seconds_of_evaluate", "seconds_of_start")
    for place, kind in enumerate(kinds):
        figures[kind] = {n: round(s[place], 1) for n, s in seconds.items()}
    one, other = seconds["processes"], seconds["actors"]
    figures["throughput_of_actors_by_processes"] = {
        "with the start of actors": round(one[1] / other[1], 3),
        "without": round(one[1] / (other[1] - other[2]), 3),
    }
    common.record({"figures": figures, "attack": f"AutoAttack({FLAGS.eps})"})


if __name__ == "__main__":
    app.run(main)
