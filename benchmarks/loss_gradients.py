"""How exact the gradients of training losses are, where a network is sure.

    python -m benchmarks.loss_gradients --output=results/loss-gradients

The gap is how far the true class's logit lies above the next. Largest relative
error of the derivative by a logit, over 1,000 random logits of 10 classes in
float32, against closed forms in float64 that take no difference of what is
nearly equal. A second on one core.
"""

import keras
import numpy as np
from absl import app, flags
from keras import ops

from benchmarks import common
from keras_wp import _backend, objectives

FLAGS = flags.FLAGS
GAPS = (1, 5, 10, 15, 20, 30, 60)
COUNT, CLASSES = 1000, 10


def keras_cross_entropy(logits, y, _):
    return keras.losses.sparse_categorical_crossentropy(
        y, logits, from_logits=True
    )


def keras_divergence(logits, _, clean):
    return keras.losses.kl_divergence(
        ops.softmax(clean, -1), ops.softmax(logits, -1)
    )


def cross_entropy(logits, y, _):
    return objectives.cross_entropy(logits, y)


def boosted(logits, y, _):
    return objectives.boosted_cross_entropy(logits, y)


def divergence(logits, _, clean):
    return objectives.kl_divergence(clean, logits)


def less(p):
    """`1 - p_k` for each class, from the others: `(N, K)`."""
    others = np.repeat(p[:, None], p.shape[-1], axis=1)
    others[:, np.arange(p.shape[-1]), np.arange(p.shape[-1])] = 0
    return others.sum(-1)


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def exact_cross_entropy(z, y, _):
    p = softmax(z)
    return np.where(np.eye(z.shape[-1])[y] > 0, -less(p), p)


def exact_boosted(z, y, _):
    p = softmax(z)
    at = np.arange(len(z))
    wrong = p.copy()
    wrong[at, y] = -1
    k = wrong.argmax(-1)
    odds = p[at, k] / less(p)[at, k]
    toward = np.where(np.eye(z.shape[-1])[k] > 0, less(p), -p)
    return exact_cross_entropy(z, y, None) + odds[:, None] * toward


def exact_divergence(z, y, clean):
    """`q - p`: the true class's is what the others' leave."""
    change = softmax(z) - softmax(clean)
    at = np.arange(len(z))
    change[at, y] = 0
    change[at, y] = -change.sum(-1)
    return change


LOSSES = {
    "cross-entropy of Keras": (keras_cross_entropy, exact_cross_entropy),
    "KL divergence of Keras, of softmaxes": (
        keras_divergence,
        exact_divergence,
    ),
    "cross_entropy": (cross_entropy, exact_cross_entropy),
    "kl_divergence (TRADES, MART)": (divergence, exact_divergence),
    "boosted_cross_entropy (MART)": (boosted, exact_boosted),
}


def worst(loss, exact, gap):
    """The largest error of a derivative, relative to the largest one."""
    rng = np.random.default_rng(FLAGS.seed)
    y = rng.integers(0, CLASSES, COUNT)
    at = np.arange(COUNT)

    def logits():
        z = rng.normal(0, 2, (COUNT, CLASSES))
        z[at, y] = -np.inf
        z[at, y] = z.max(-1) + gap
        return z.astype(np.float32)

    z, clean = logits(), logits()
    _, pullback = _backend.vjp(
        lambda v: loss(v, y.astype("int32"), ops.convert_to_tensor(clean)),
        ops.convert_to_tensor(z),
    )
    found = ops.convert_to_numpy(pullback(ops.ones(COUNT)))
    right = exact(z.astype(np.float64), y, clean.astype(np.float64))
    error = np.abs(found - right).max(-1) / np.abs(right).max(-1)
    return float(error.max())


def main(_):
    rows = [
        {"loss": name, "gap": gap, "error": worst(loss, exact, gap)}
        for name, (loss, exact) in LOSSES.items()
        for gap in GAPS
    ]
    for name in LOSSES:
        cells = [f"{r['error']:.1e}" for r in rows if r["loss"] == name]
        print(f"| {name} | {' | '.join(cells)} |")
    backend = keras.backend.backend()
    common.record({"data": "none", "backend": backend, "rows": rows})


if __name__ == "__main__":
    app.run(main)
