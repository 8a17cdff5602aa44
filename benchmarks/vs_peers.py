"""keras_wp against its peers: the same weights, the same images, one run.

Every attack is called with clean images and labels and returns adversarial
images, which one function, independent of all libraries, scores: robust
accuracy, and the median distance; an image outside of the bounds or of the
ball counts as robust. Each call is made on a few images beforehand, so that
tracing and imports do not count; one that takes less than 5 seconds is timed
three times. Ours is timed again before each peer. README.md beside this file
says how to install the peers.

    python -m benchmarks.vs_peers --work=fgsm,pgd20,deepfool
"""

import dataclasses
import importlib.metadata
import statistics
import time

import keras
import numpy as np
import torch
from absl import app, flags

import keras_wp as kwp
from benchmarks.common import FLAGS, correct_images, load, network, record
from benchmarks.peers import CW_SEARCHES, CW_STEPS, EPS, EPS_L2, PEERS, STEP
from benchmarks.torch_twin import twin
from keras_wp.experiments.publish.benchmarks import peers_table

flags.DEFINE_list(
    "work",
    ["fgsm", "pgd20", "pgd100", "deepfool", "cw", "autoattack"],
    "What to compare; `all` for everything.",
)
flags.DEFINE_list("peers", [], "Only these libraries; all if empty.")
flags.DEFINE_integer("images", None, "Images, instead of the work's own.")
flags.DEFINE_bool(
    "all_images",
    False,
    "The first test images, whether or not they are classified correctly as "
    "they are. Ours leaves the others alone, as auto-attack does.",
)
flags.DEFINE_integer(
    "repeats",
    3,
    "Timings of our own before each peer; with 0 only results are compared, "
    "and the times mean little.",
)
flags.DEFINE_integer(
    "draws",
    1,
    "How often an attack is made, from other random numbers each time. Those "
    "after the first are not timed; their accuracies are recorded, too. For "
    "PGD only: other attacks of some libraries have seeds of their own.",
)
flags.register_multi_flags_validator(
    ["draws", "work"],
    lambda f: f["draws"] == 1 or set(f["work"]) <= {"pgd20", "pgd100"},
    "--draws is for --work=pgd20,pgd100.",
)

SHORT = 5.0  # seconds
WARM_UP = 40  # images
# Kind of work: images, norm, budget.
WORK = {
    "fgsm": (256, "linf", EPS),
    "pgd20": (128, "linf", EPS),
    "pgd100": (64, "linf", EPS),
    "deepfool": (64, "linf", EPS),
    "deepfool_l2": (64, "l2", EPS_L2),
    "cw": (16, "l2", 1.0),
    "apgd_ce": (64, "linf", EPS),
    "apgd_dlr": (64, "linf", EPS),
    "apgd_t": (64, "linf", EPS),
    "apgd_l2": (64, "l2", EPS_L2),
    "fab_t": (16, "linf", EPS),
    "fab_l2": (16, "l2", EPS_L2),
    "square": (64, "linf", EPS),
    "square_l2": (64, "l2", EPS_L2),
    "autoattack": (64, "linf", EPS),
}


def ours(work, model, seed=0):
    attacks = kwp.attacks
    linf = {"eps": EPS}
    l2 = {"eps": EPS_L2, "norm": "l2"}
    attack = {
        "fgsm": lambda: attacks.FGSM(eps=EPS),
        "pgd20": lambda: attacks.PGD(eps=EPS, steps=20, step_size=STEP),
        "pgd100": lambda: attacks.PGD(eps=EPS, steps=100, step_size=STEP),
        "deepfool": lambda: attacks.DeepFool(norm="linf"),
        "deepfool_l2": lambda: attacks.DeepFool(norm="l2"),
        "cw": lambda: attacks.CarliniWagner(
            steps=CW_STEPS, binary_search_steps=CW_SEARCHES
        ),
        "apgd_ce": lambda: attacks.APGD(**linf),
        "apgd_dlr": lambda: attacks.APGD(loss="dlr", **linf),
        "apgd_t": lambda: attacks.APGD(loss="dlr", targets=9, **linf),
        "apgd_l2": lambda: attacks.APGD(**l2),
        "fab_t": lambda: attacks.FAB(targets=9),
        "fab_l2": lambda: attacks.FAB(targets=9, norm="l2"),
        "square": lambda: attacks.Square(rescale_schedule=False, **linf),
        "square_l2": lambda: attacks.Square(rescale_schedule=False, **l2),
        "autoattack": lambda: attacks.AutoAttack(eps=EPS),
    }[work]()
    attack = dataclasses.replace(attack, seed=seed)
    return lambda x, y: attack(model, x, y)


def score(model, x, y, x_adv, norm, eps):
    """Robust accuracy within the budget, and the median distance."""
    x_adv = np.asarray(x_adv, np.float32)
    delta = (x_adv - x).reshape(len(x), -1).astype(np.float64)
    if norm == "linf":
        distance = np.abs(delta).max(1)
    else:
        distance = np.sqrt((delta**2).sum(1))
    pixels = x_adv.reshape(len(x), -1)
    valid = (pixels.min(1) >= -1e-6) & (pixels.max(1) <= 1 + 1e-6)
    fooled = valid & (model.predict(x_adv, verbose=0).argmax(-1) != y)
    distance = np.where(fooled, distance, np.inf)
    median = float(np.median(distance))
    return {
        "robust_accuracy": float(1 - (distance <= eps + 1e-6).mean()),
        # None where most images have resisted.
        "median_distance": median if np.isfinite(median) else None,
        "fooled_at_any_distance": float(fooled.mean()),
        "within_bounds": float(valid.mean()),
    }


def timed(run, x, y):
    begun = time.perf_counter()
    x_adv = run(x, y)
    return time.perf_counter() - begun, x_adv


def timed_often(run, x, y):
    """The median time, of three calls if they are short."""
    seconds, x_adv = timed(run, x, y)
    if FLAGS.repeats and seconds < SHORT:
        more = [timed(run, x, y)[0] for _ in range(2)]
        seconds = statistics.median([seconds, *more])
    return seconds, x_adv


def scores(work, run, model, x, y, x_adv):
    """The score of `x_adv`, and the accuracy of each draw, that the first.

    `run` maps the number of a draw to a function that attacks the images.
    """
    _, norm, eps = WORK[work]
    first = score(model, x, y, x_adv, norm, eps)
    found = [first["robust_accuracy"]]
    for draw in range(1, FLAGS.draws):
        # Other libraries draw from the frameworks' own generators.
        keras.utils.set_random_seed(draw)
        torch.manual_seed(draw)
        x_adv = run(draw)(x, y)
        found.append(score(model, x, y, x_adv, norm, eps)["robust_accuracy"])
    return {**first, "draws": found}


def compare(work, model, module, data):
    count, norm, eps = WORK[work]
    count = FLAGS.images or count
    if FLAGS.all_images:
        x, y = (array[:count] for array in data[1])
    else:
        x, y = correct_images(model, data, count)
    our_run = ours(work, model)
    if FLAGS.repeats:
        # It compiles for 32 slots, and for their first refill.
        seconds, _ = timed(our_run, x[:WARM_UP], y[:WARM_UP])
        if seconds < SHORT:
            our_run(x, y)
    our_times, our_images = [], None
    rows = []
    for name, (distribution, make) in PEERS.items():
        if FLAGS.peers and distribution not in FLAGS.peers:
            continue
        try:
            runs = make(model, module)
            if work not in runs:
                continue
            run = runs[work]
            run(x[:2], y[:2])
        except Exception as error:
            rows.append({"library": name, "error": repr(error)[:200]})
            continue
        before = []
        for _ in range(FLAGS.repeats):
            seconds, our_images = timed(our_run, x, y)
            before.append(seconds)
        seconds, x_adv = timed_often(run, x, y)
        our_times += before
        ratio = statistics.median(before) / seconds if before else None
        rows.append(
            {
                "library": name,
                "version": importlib.metadata.version(distribution),
                "seconds": round(seconds, 3),
                "ours_over_it": ratio and round(ratio, 4),
                **scores(work, lambda draw, run=run: run, model, x, y, x_adv),
            }
        )
    if not our_times:
        seconds, our_images = timed(our_run, x, y)
        our_times.append(seconds)
    rows.insert(
        0,
        {
            "library": "keras_wp",
            "version": kwp.__version__,
            "seconds": round(statistics.median(our_times), 3),
            "ours_over_it": 1.0,
            **scores(
                work,
                lambda draw: ours(work, model, draw),
                model,
                x,
                y,
                our_images,
            ),
        },
    )
    return {
        "work": work,
        "images": len(x),
        "norm": norm,
        "eps": eps,
        "rows": rows,
    }


def main(_):
    data = load()
    model = network(data)
    module = twin(model, data[1][0][:64])
    wanted = [*WORK] if FLAGS.work == ["all"] else FLAGS.work
    figures = []
    for work in wanted:
        figures.append(compare(work, model, module, data))
        print(peers_table(figures[-1:]), flush=True)
        found = {
            "torch": torch.__version__,
            "torch_threads": torch.get_num_threads(),
            "backend": keras.backend.backend(),
            "figures": figures,
        }
        # A run that is ended early keeps what it has.
        record(found, show=work == wanted[-1])


if __name__ == "__main__":
    app.run(main)
