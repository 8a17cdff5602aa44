"""The engine against the floor: the gradients that are really needed.

For each attack, the time of `keras_wp.evaluate` over the time that its steps
would take as bare compiled value-and-gradients of the same model:

    ratio = seconds / (sum of the images' steps * seconds of one gradient)

On a CPU with several cores the engine has TensorFlow pass parts of a batch side
by side, which is mostly faster than the batch at once. `ratio_divided` is that
over gradients taken so.

A step of every attack is one gradient, that is a forward and a backward pass;
but Square's is one forward pass. The engine's time includes everything that
`evaluate` does: the clean pass, the checks, the digests of the images, and
the forward passes that examine the last points and search along the last
segments. `ratio_attack` is `ratio_divided` without the clean pass, one forward
pass for each image, right or wrong. `ratio_passes` has these forward passes in
the floor, too, of whole batches like its gradients.

Floor and engine are measured in turns, `--rounds` times, because the machine's
speed wanders, and both by the clock and by the processor time spent, which
other processes disturb less; the median ratios are reported.

    python -m benchmarks.floor --attacks=pgd100 --images=512
"""

import statistics

import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks.common import (
    FLAGS,
    bare_forward,
    bare_gradient,
    load,
    network,
    now,
    record,
)

flags.DEFINE_list("attacks", ["pgd100"], "Which; `all` for each of them.")
flags.DEFINE_integer("images", 512, "Test images.")
flags.DEFINE_integer("batch", 32, "Batch of the bare gradients.")
flags.DEFINE_integer("rounds", 3, "Measurements.")

EPS = 8 / 255
ATTACKS = {
    "pgd100": lambda: kwp.attacks.PGD(eps=EPS, steps=100, step_size=0.0031),
    "apgd": lambda: kwp.attacks.APGD(eps=EPS),
    "apgd-l2": lambda: kwp.attacks.APGD(eps=0.5, norm="l2"),
    "apgd-t": lambda: kwp.attacks.APGD(eps=EPS, loss="dlr", targets=9),
    "mta100": lambda: kwp.attacks.get("mta100-paper"),
    "deepfool": lambda: kwp.attacks.DeepFool(),
    "deepfool-l2": lambda: kwp.attacks.DeepFool(norm="l2"),
    "cw": lambda: kwp.attacks.CarliniWagner(steps=100),
    "fab": lambda: kwp.attacks.FAB(),
    "fab-t": lambda: kwp.attacks.FAB(targets=9),
    "fab-t-l2": lambda: kwp.attacks.FAB(targets=9, norm="l2"),
    "square": lambda: kwp.attacks.Square(eps=EPS, steps=500),
    "square-l2": lambda: kwp.attacks.Square(eps=0.5, steps=500, norm="l2"),
}
WARM_UP = 8  # images: the loop for those that resist is compiled, too.


def seconds_per_image(run, at_least=2.0):
    """The median times of a call, over its images."""
    times = []
    begun = now()
    while now()[0] - begun[0] < at_least or len(times) < 5:
        before = now()
        run()
        times.append(now() - before)
    return np.median(times, axis=0) / min(FLAGS.batch, FLAGS.images)


def forward_passes(attack, report):
    """How many an evaluation needs beside the steps of an attack, at least.

    One of each clean image, one of the last point of each image that resists
    if no step has examined it, and those of the search for each image whose
    distance is searched.
    """
    result = report.results[0]
    fooled = result.within(np.inf).sum()
    resisting = result.attacked.sum() - fooled
    last = resisting if attack.examines_before_moving else 0
    search = attack.final_search * fooled
    return len(report) + int(last) + int(search)


def measure(model, attack, x, y, unit, floor):
    """Time one attack against the floor, in turns.

    `floor` holds, by name, what a unit is of a whole batch, and divided.
    """
    units = floor[unit]

    def evaluate(count):
        data = x[:count], y[:count]
        begun = now()
        report = kwp.evaluate(
            model, data, [attack], adaptive=False, audit=False, progress=False
        )
        return report, now() - begun

    evaluate(WARM_UP)  # Compiles.
    rounds = []
    for _ in range(FLAGS.rounds):
        before = [seconds_per_image(unit) for unit in units]
        report, seconds = evaluate(len(x))
        after = [seconds_per_image(unit) for unit in units]
        bare, divided = np.mean([before, after], axis=0)
        forward, divided_forward = (
            seconds_per_image(run) for run in floor["forward pass"]
        )
        clean = len(x) * divided_forward
        steps = int(report.results[0].steps.sum())
        forwards = forward_passes(attack, report)
        passes = steps * bare + forwards * forward
        rounds.append(
            {
                "seconds": seconds.round(3).tolist(),
                "steps": steps,
                "forward_passes": forwards,
                "milliseconds_per_step": (1000 * bare).round(3).tolist(),
                "milliseconds_divided": (1000 * divided).round(3).tolist(),
                "ratio": (seconds / (steps * bare)).round(3).tolist(),
                "ratio_passes": (seconds / passes).round(3).tolist(),
                "ratio_divided": (seconds / (steps * divided))
                .round(3)
                .tolist(),
                "ratio_attack": ((seconds - clean) / (steps * divided))
                .round(3)
                .tolist(),
            }
        )

    def median(name, clock):
        return statistics.median(r[name][clock] for r in rounds)

    return {
        "attack": attack.label,
        "unit": unit,
        "images": len(x),
        "clean_accuracy": report.clean_accuracy,
        "robust_accuracy": report.robust_accuracy,
        "steps_per_image": report.results[0].mean_steps,
        "ratio_wall": median("ratio", 0),
        "ratio_processor": median("ratio", 1),
        "ratio_passes_wall": median("ratio_passes", 0),
        "ratio_passes_processor": median("ratio_passes", 1),
        "ratio_divided_wall": median("ratio_divided", 0),
        "ratio_divided_processor": median("ratio_divided", 1),
        "ratio_attack_wall": median("ratio_attack", 0),
        "ratio_attack_processor": median("ratio_attack", 1),
        "rounds": rounds,
    }


def main(_):
    data = load()
    model = network(data)
    _, (x, y) = data
    x, y = x[: FLAGS.images], y[: FLAGS.images]
    few = x[: FLAGS.batch], y[: FLAGS.batch]
    floor = {
        "forward pass": [bare_forward(model, few[0], d) for d in (False, True)],
        "gradient": [bare_gradient(model, *few, d) for d in (False, True)],
    }
    for run in [*floor["forward pass"], *floor["gradient"]]:
        run()  # Compiles.
    names = ATTACKS if FLAGS.attacks == ["all"] else FLAGS.attacks
    figures = []
    for name in names:
        unit = "forward pass" if name.startswith("square") else "gradient"
        figures.append(measure(model, ATTACKS[name](), x, y, unit, floor))
        print({k: v for k, v in figures[-1].items() if k != "rounds"})
    record({"figures": figures})


if __name__ == "__main__":
    app.run(main)
