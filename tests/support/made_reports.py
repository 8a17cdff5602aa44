"""Reports made by hand, for tests of what is done with them."""

import numpy as np

from keras_wp import AttackResult, Report
from keras_wp.inspection.geometry import Geometry
from keras_wp.reports.findings import Finding
from keras_wp.reports.samples import Attempt, Sample

ENVIRONMENT = {"model": "net", "keras": "3", "backend": "jax", "seed": 4}


def attack_result(name, attacked, robust, eps=0.1, norm="linf", **values):
    """A result with this outcome for each image, and plausible figures."""
    attacked, robust = np.array(attacked, bool), np.array(robust, bool)
    distance = np.where(attacked & ~robust, eps or 1.0, np.inf)
    values = {
        "attack": {"attack": "PGD", "steps": 20, "bounds": (0.0, 1.0)},
        "minimum_norm": False,
        "distance": distance,
        "steps": np.arange(len(attacked)) * attacked,
        "zero_gradients": np.zeros(len(attacked), int),
        "bad_gradients": np.zeros(len(attacked), int),
        "seconds": 1.5,
        "call": f"keras_wp.attacks.PGD(eps={eps}, steps=20)",
        **values,
    }
    values["distance"] = np.asarray(values["distance"], float)
    return AttackResult(
        name=name,
        norm=norm,
        eps=eps,
        attacked=attacked,
        robust=robust,
        **values,
    )


def identities(count):
    return tuple(f"{i:016x}-{i % 3}" for i in range(count))


def triangle():
    """Three class weights in the plane, none of them at the ideal 120°."""
    angles = np.array([[0, 125, 110], [125, 0, 130], [110, 130, 0.0]])
    return Geometry("'head' (Dense)", 2, angles, np.array([1.0, 1.0, 0.5]))


def sample(rng, name="PGD20", shape=(5, 4, 3), label=1):
    image = rng.uniform(0.2, 0.8, shape).astype(np.float32)
    moved = image + np.float32(0.05) * np.sign(rng.normal(size=shape))
    attempt = Attempt(name, "linf", 0.05, 2, moved.astype(np.float32))
    return Sample(3, label, image, (attempt,), ("FAB",))


def full_report(rng, count=40, name="PGD20", message="Gradients vanish."):
    """A report with something in every part."""
    clean = np.arange(count) % 5 > 0
    order = rng.uniform(size=count)
    found = np.where(clean, 0.3 * order, np.inf)
    results = [
        attack_result(name, clean, clean & (order > eps), eps)
        for eps in (0.1, 0.2)
    ]
    results += [
        attack_result(
            "DeepFool50",
            clean,
            clean & (found > eps),
            eps,
            minimum_norm=True,
            distance=found,
            attack={"attack": "DeepFool", "steps": 50},
        )
        for eps in (0.1, 0.2)
    ]
    results.append(attack_result("CW", clean, clean & (order > 0.4), 1.0, "l2"))
    return Report(
        clean_correct=clean,
        results=tuple(results),
        environment=ENVIRONMENT,
        findings=(
            Finding("info", "Logits are of moderate size.", {"largest": 12.5}),
            Finding("high", message, {"share": 0.9, "attacks": ["PGD20"]}),
            Finding("warning", "More steps fool more images.", {}),
        ),
        identities=identities(count),
        samples=(sample(rng, name),),
        geometry=triangle(),
    )
