"""keras_wp against its peers: the same weights, the same images, one run.

Every attack is called with clean images and labels and returns adversarial
images, which one function, independent of all libraries, scores: robust
accuracy with ball and bounds checked, and the median distance. Each call is
made once on a few images beforehand, so that tracing and imports do not
count, and ours is timed before and after each peer.

    pip install -r benchmarks/requirements.txt
    python benchmarks/vs_peers.py --work=fgsm,pgd20,deepfool
"""

import importlib.metadata
import statistics
import sys
import time
import unittest.mock

import keras
import numpy as np
import torch
from _common import FLAGS, correct_images, load, network, record
from _torch_twin import from_torch, to_torch, twin
from absl import app, flags

import keras_wp as kwp

flags.DEFINE_list(
    "work",
    ["fgsm", "pgd20", "pgd100", "deepfool", "cw", "autoattack"],
    "What to compare.",
)
flags.DEFINE_list("peers", [], "Only these libraries; all if empty.")
flags.DEFINE_integer("images", None, "Images, instead of the work's own.")
flags.DEFINE_integer("repeats", 3, "Timings of our own before each peer.")

EPS = 8 / 255
STEP = 0.0031
# Kind of work: images, norm, budget.
WORK = {
    "fgsm": (256, "linf", EPS),
    "pgd20": (128, "linf", EPS),
    "pgd100": (64, "linf", EPS),
    "deepfool": (64, "linf", EPS),
    "cw": (16, "l2", 1.0),
    "autoattack": (64, "linf", EPS),
}


def ours(work, model):
    attacks = kwp.attacks
    attack = {
        "fgsm": lambda: attacks.FGSM(eps=EPS),
        "pgd20": lambda: attacks.PGD(eps=EPS, steps=20, step_size=STEP),
        "pgd100": lambda: attacks.PGD(eps=EPS, steps=100, step_size=STEP),
        "deepfool": lambda: attacks.DeepFool(norm="linf"),
        "cw": lambda: attacks.CarliniWagner(steps=100),
        "autoattack": lambda: attacks.AutoAttack(eps=EPS),
    }[work]()
    return lambda x, y: attack(model, x, y)


def foolbox_torch(work, model, module):
    import foolbox as fb

    wrapped = fb.PyTorchModel(module, bounds=(0, 1), device="cpu")

    def run(x, y):
        attack, eps = _foolbox_attack(fb, work)
        labels = torch.from_numpy(y.astype(np.int64))
        _, clipped, _ = attack(wrapped, to_torch(x), labels, epsilons=eps)
        return from_torch(clipped)

    return run


def foolbox_tensorflow(work, model, module):
    import foolbox as fb
    import tensorflow as tf

    wrapped = fb.TensorFlowModel(
        lambda x: model(x, training=False), bounds=(0, 1), device="/CPU:0"
    )

    def run(x, y):
        attack, eps = _foolbox_attack(fb, work)
        x, y = tf.constant(x), tf.constant(y.astype(np.int64))
        return attack(wrapped, x, y, epsilons=eps)[1].numpy()

    return run


def _foolbox_attack(fb, work):
    pgd = fb.attacks.LinfProjectedGradientDescentAttack
    return {
        "fgsm": lambda: (fb.attacks.LinfFastGradientAttack(), EPS),
        "pgd20": lambda: (pgd(steps=20, abs_stepsize=STEP), EPS),
        "pgd100": lambda: (pgd(steps=100, abs_stepsize=STEP), EPS),
        "deepfool": lambda: (fb.attacks.LinfDeepFoolAttack(steps=50), None),
        "cw": lambda: (
            fb.attacks.L2CarliniWagnerAttack(
                binary_search_steps=9,
                steps=100,
                stepsize=0.01,
                initial_const=1e-3,
            ),
            None,
        ),
    }[work]()


def torchattacks_torch(work, model, module):
    import torchattacks

    attack = {
        "fgsm": lambda: torchattacks.FGSM(module, eps=EPS),
        "pgd20": lambda: torchattacks.PGD(
            module, eps=EPS, alpha=STEP, steps=20
        ),
        "pgd100": lambda: torchattacks.PGD(
            module, eps=EPS, alpha=STEP, steps=100
        ),
        "autoattack": lambda: torchattacks.AutoAttack(module, eps=EPS),
    }[work]()

    def run(x, y):
        labels = torch.from_numpy(y.astype(np.int64))
        return from_torch(attack(to_torch(x), labels))

    return run


def adv_lib_torch(work, model, module):
    # Its attacks need neither, but its import asks for both.
    for name in ("visdom", "torchvision", "torchvision.models"):
        sys.modules.setdefault(name, unittest.mock.MagicMock())
    from adv_lib import attacks

    run = {
        "pgd20": lambda x, y: attacks.pgd_linf(
            module, x, y, eps=EPS, steps=20, absolute_step_size=STEP
        ),
        "pgd100": lambda x, y: attacks.pgd_linf(
            module, x, y, eps=EPS, steps=100, absolute_step_size=STEP
        ),
        "deepfool": lambda x, y: attacks.df(
            module, x, y, steps=50, norm=float("inf")
        ),
        "cw": lambda x, y: attacks.carlini_wagner_l2(
            module, x, y, num_binary_search_steps=9, max_iterations=100
        ),
    }[work]
    return lambda x, y: from_torch(
        run(to_torch(x), torch.from_numpy(y.astype(np.int64)))
    )


def cleverhans_torch(work, model, module):
    from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
    from cleverhans.torch.attacks.fast_gradient_method import (
        fast_gradient_method,
    )
    from cleverhans.torch.attacks.projected_gradient_descent import (
        projected_gradient_descent,
    )

    def pgd(x, y, steps):
        return projected_gradient_descent(
            module, x, EPS, STEP, steps, np.inf, 0, 1, y, sanity_checks=False
        )

    run = {
        "fgsm": lambda x, y: fast_gradient_method(
            module, x, EPS, np.inf, 0, 1, y
        ),
        "pgd20": lambda x, y: pgd(x, y, 20),
        "pgd100": lambda x, y: pgd(x, y, 100),
        "cw": lambda x, y: carlini_wagner_l2(
            module,
            x,
            10,
            y=y,
            lr=0.01,
            binary_search_steps=9,
            max_iterations=100,
            initial_const=1e-3,
        ),
    }[work]
    return lambda x, y: from_torch(
        run(to_torch(x), torch.from_numpy(y.astype(np.int64)))
    )


# In the order of the table; each with the distribution it comes from.
PEERS = {
    "foolbox (PyTorch)": ("foolbox", foolbox_torch),
    "foolbox (TensorFlow)": ("foolbox", foolbox_tensorflow),
    "torchattacks": ("torchattacks", torchattacks_torch),
    "adv-lib": ("adv-lib", adv_lib_torch),
    "cleverhans (PyTorch)": ("cleverhans", cleverhans_torch),
}


def score(model, x, y, x_adv, norm, eps):
    """Robust accuracy within the budget, and the median distance."""
    x_adv = np.asarray(x_adv, np.float32)
    delta = (x_adv - x).reshape(len(x), -1).astype(np.float64)
    if norm == "linf":
        distance = np.abs(delta).max(1)
    else:
        distance = np.sqrt((delta**2).sum(1))
    valid = (x_adv.min() >= -1e-6) and (x_adv.max() <= 1 + 1e-6)
    fooled = model.predict(x_adv, verbose=0).argmax(-1) != y
    distance = np.where(fooled, distance, np.inf)
    return {
        "robust_accuracy": float(1 - (distance <= eps + 1e-6).mean()),
        "median_distance": float(np.median(distance)),
        "fooled_at_any_distance": float(fooled.mean()),
        "within_bounds": bool(valid),
    }


def timed(run, x, y):
    begun = time.perf_counter()
    x_adv = run(x, y)
    return time.perf_counter() - begun, x_adv


def compare(work, model, module, data):
    count, norm, eps = WORK[work]
    x, y = correct_images(model, data, FLAGS.images or count)
    our_run = ours(work, model)
    our_run(x, y)  # Traces and warms up.
    our_times = []
    rows = []
    for name, (distribution, make) in PEERS.items():
        if FLAGS.peers and distribution not in FLAGS.peers:
            continue
        try:
            run = make(work, model, module)
            run(x[:2], y[:2])
        except KeyError:
            continue  # The library has no such attack.
        except Exception as error:
            rows.append({"library": name, "error": repr(error)[:200]})
            continue
        before = [timed(our_run, x, y)[0] for _ in range(FLAGS.repeats)]
        seconds, x_adv = timed(run, x, y)
        our_times += before
        rows.append(
            {
                "library": name,
                "version": importlib.metadata.version(distribution),
                "seconds": round(seconds, 3),
                "ours_over_it": round(statistics.median(before) / seconds, 4),
                **score(model, x, y, x_adv, norm, eps),
            }
        )
    seconds, x_adv = timed(our_run, x, y)
    rows.insert(
        0,
        {
            "library": "keras_wp",
            "version": kwp.__version__,
            "seconds": round(statistics.median([*our_times, seconds]), 3),
            "ours_over_it": 1.0,
            **score(model, x, y, x_adv, norm, eps),
        },
    )
    return {
        "work": work,
        "images": len(x),
        "norm": norm,
        "eps": eps,
        "rows": rows,
    }


def table(figures):
    """The figures as Markdown."""
    header = ["work", "library", "seconds", "ours / it", "robust", "median"]
    lines = [header, ["---"] * len(header)]
    for figure in figures:
        for row in figure["rows"]:
            label = f"{figure['work']}, {figure['images']} images"
            if "error" in row:
                lines.append([label, row["library"], row["error"], *[""] * 3])
                continue
            lines.append(
                [
                    label,
                    f"{row['library']} {row['version']}",
                    f"{row['seconds']:.2f}",
                    f"{row['ours_over_it']:.3f}",
                    f"{row['robust_accuracy']:.1%}",
                    f"{row['median_distance']:.4f}",
                ]
            )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(_):
    data = load()
    model = network(data)
    module = twin(model, data[1][0][:64])
    figures = [compare(work, model, module, data) for work in FLAGS.work]
    print(table(figures))
    record(
        {
            "torch": torch.__version__,
            "torch_threads": torch.get_num_threads(),
            "backend": keras.backend.backend(),
            "figures": figures,
        }
    )


if __name__ == "__main__":
    app.run(main)
