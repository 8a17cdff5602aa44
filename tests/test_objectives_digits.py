"""Objectives against exact arithmetic."""

import decimal
import functools

import numpy as np
import pytest
from exact import (
    batch,
    evaluate,
    value_and_gradient,
)
from helpers import linear_logits, linear_model, predictions, to_numpy
from keras import ops

from keras_wp import _backend, objectives
from keras_wp.attacks import FGSM

pytestmark = pytest.mark.once

CONTEXT = decimal.Context(prec=60, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)

# Below float32's normal range, where either backend may have zeros.
TINY = 1e-37

GAPS = (1e-6, 1e-3, 1.0, 5.0, 15.0, 30.0, 60.0, 86.0, 100.0, 300.0, 1e4)

WIDE_SCALES = (1e-30, 1e-20, 1e-6, 1.0, 1e2, 1e6, 1e20, 1e30)


def hard_rows(classes, tied=False):
    """Logits and labels: gaps of both signs, all scales, and ties if asked.

    A gap is how far the first class is above the largest of the others, some
    of which are close to it; the label is either of these two.
    """
    rng = np.random.default_rng(classes)
    rows = []
    for gap in GAPS:
        others = rng.normal(size=classes - 1)
        others -= others.max()
        row = np.concatenate([[gap], others])
        rows += [row, -row, row + 3.0, 100.0 * row]
    for scale in WIDE_SCALES:
        rows += [scale * rng.normal(size=classes) for _ in range(2)]
    # What is left of small differences between large logits, and classes of
    # which one is out of reach.
    rows += [1e4 + rng.normal(size=classes), -1e6 + rng.normal(size=classes)]
    rows += [rng.normal(size=classes) - 1e20 * np.eye(classes)[-1]]
    if tied:
        signs = np.where(np.arange(classes) % 2, 0.0, -0.0)
        rows += [np.zeros(classes), signs, -signs, np.full(classes, 1e4)]
        rows += [40.0 * np.eye(classes)[0], -40.0 * np.eye(classes)[0]]
    # Many classes take long in exact arithmetic.
    z = np.array(rows[:: 1 if classes < 100 else 11], np.float32)
    first = np.argsort(-z, axis=-1, kind="stable")
    z = np.concatenate([z, z])
    y = np.concatenate([first[:, 0], first[:, 1]]).astype(np.int32)
    return z, y, np.concatenate([first[:, 1], first[:, -1]]).astype(np.int32)


@functools.cache
def log_sum_exp(values):
    top = max(values)
    return top + sum(((v - top).exp() for v in values), decimal.Decimal(0)).ln()


def exact_cross_entropy(z, y):
    total = log_sum_exp(z)
    gradient = [(v - total).exp() - int(k == y) for k, v in enumerate(z)]
    return total - z[y], gradient


def exact_log_odds(z, y):
    total = log_sum_exp(z[:y] + z[y + 1 :])
    gradient = [
        decimal.Decimal(-1) if k == y else (v - total).exp()
        for k, v in enumerate(z)
    ]
    return total - z[y], gradient


def exact_margin(z, y):
    rival = max((k for k in range(len(z)) if k != y), key=z.__getitem__)
    gradient = [int(k == rival) - int(k == y) for k in range(len(z))]
    return z[rival] - z[y], [decimal.Decimal(g) for g in gradient]


def exact_ratio(above, below, z):
    """Value and gradient of a ratio of two linear functions, by weights."""
    numerator = sum(w * z[k] for k, w in above)
    denominator = sum(w * z[k] for k, w in below)
    gradient = [decimal.Decimal(0)] * len(z)
    for k, w in above:
        gradient[k] += w / denominator
    for k, w in below:
        gradient[k] -= w * numerator / denominator / denominator
    return numerator / denominator, gradient


def exact_dlr(z, y):
    order = sorted(range(len(z)), key=z.__getitem__, reverse=True)
    one = decimal.Decimal(1)
    above = [(order[int(order[0] == y)], one), (y, -one)]
    return exact_ratio(above, [(order[0], one), (order[2], -one)], z)


def exact_targeted_dlr(z, y, target):
    order = sorted(range(len(z)), key=z.__getitem__, reverse=True)
    one, half = decimal.Decimal(1), decimal.Decimal("0.5")
    below = [(order[0], one), (order[2], -half), (order[3], -half)]
    return exact_ratio([(target, one), (y, -one)], below, z)


def exact_error_probability(z, y):
    total = log_sum_exp(z)
    p = [(v - total).exp() for v in z]
    wrong = (log_sum_exp(z[:y] + z[y + 1 :]) - total).exp()
    gradient = [p[y] * v for v in p]
    gradient[y] = -p[y] * wrong
    return wrong, gradient


def exact_boosted_cross_entropy(z, y):
    rival = max((k for k in range(len(z)) if k != y), key=z.__getitem__)
    value, gradient = exact_cross_entropy(z, y)
    odds, slope = exact_log_odds(z, rival)
    total = log_sum_exp(z)
    rest = log_sum_exp(z[:rival] + z[rival + 1 :])
    share = (z[rival] - total).exp()
    return value + total - rest, [
        g - share * s for g, s in zip(gradient, slope, strict=True)
    ]


def negated(exact):
    def toward(z, y, target):
        value, gradient = exact(z, target)
        return -value, [-g for g in gradient]

    return toward


EXACT = {
    ("cross_entropy", False): exact_cross_entropy,
    ("cross_entropy", True): negated(exact_cross_entropy),
    ("log_odds", False): exact_log_odds,
    ("log_odds", True): negated(exact_log_odds),
    ("margin", False): exact_margin,
    ("margin", True): negated(exact_margin),
    ("dlr", False): exact_dlr,
    ("dlr", True): exact_targeted_dlr,
    ("boosted_cross_entropy", False): exact_boosted_cross_entropy,
    ("error_probability", False): exact_error_probability,
}

# A tie leaves these a choice of gradients.
RANKED = ("margin", "dlr", "boosted_cross_entropy")

# These cross zero, where two terms of the size of `log(K)` cancel.
CROSSES = ("log_odds",)


def decimals(row):
    return tuple(decimal.Decimal(float(v)) for v in row)


def as_float(result):
    value, gradient = result
    return float(value), [float(g) for g in gradient]


def assert_accurate(found, exact, atol=TINY, tiny=TINY, rtol=1e-4):
    """Each value, and each row's gradient relative to its largest entry."""
    values, gradients = map(np.array, zip(*exact, strict=True))
    error = np.abs(found[0] - values) - atol
    assert (error <= rtol * np.abs(values)).all()
    error = np.abs(found[1] - gradients).max(-1) - tiny
    assert (error <= rtol * np.abs(gradients).max(-1)).all()


@pytest.mark.parametrize("classes", [2, 4, 10, 1000])
@pytest.mark.parametrize("loss, targeted", EXACT)
def test_float32_has_the_digits_of_exact_arithmetic(loss, targeted, classes):
    if loss == "dlr" and classes == 2:
        classes = 5
    z, y, target = hard_rows(classes, tied=loss not in RANKED)
    found = evaluate(loss, targeted, z, y, target)
    with decimal.localcontext(CONTEXT):
        exact = [
            as_float(EXACT[loss, targeted](decimals(row), *labels))
            for row, *labels in (
                zip(z, y, target, strict=True)
                if targeted
                else zip(z, y, strict=True)
            )
        ]
    assert_accurate(found, exact, 2e-6 if loss in CROSSES else TINY)


def exact_kl(a, z):
    """The divergence, and its gradients in both arguments."""
    total_p, total_q = log_sum_exp(a), log_sum_exp(z)
    log_p, log_q = [v - total_p for v in a], [v - total_q for v in z]
    p, q = [v.exp() for v in log_p], [v.exp() for v in log_q]
    pairs = list(zip(p, log_p, log_q, strict=True))
    value = sum(w * (s - t) for w, s, t in pairs)
    clean = [w * (s - t - value) for w, s, t in pairs]
    return value, clean, [v - w for v, w in zip(q, p, strict=True)]


def kl_pairs(classes):
    """Clean and other logits: near and far, of like and unlike scales."""
    rng = np.random.default_rng(classes)
    z = np.unique(hard_rows(classes, tied=True)[0], axis=0)
    noise = rng.normal(size=z.shape)
    others = [
        z * (1 + 1e-6 * noise),
        z * (1 + 1e-2 * noise),
        z + 1e-3 * noise,
        z + noise,
        z + noise + 1000.0,
        z[:, ::-1],
        np.roll(z, 1, axis=0),
        np.roll(z, 7, axis=0),
    ]
    if classes > 100:
        z, others = z[::2], [other[::2] for other in others[::2]]
    other = np.concatenate(others).astype(np.float32)
    z = np.concatenate([z] * len(others))
    # Logits that moved as one differ by that move's rounding alone, which is
    # lost in float32's differences.
    moved = np.float64(other) - z
    apart = np.ptp(moved, axis=-1) >= 1e-5 * np.abs(moved).min(-1)
    return z[apart], other[apart]


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_kl_has_the_digits_of_exact_arithmetic(classes):
    a, z = kl_pairs(classes)
    with decimal.localcontext(CONTEXT):
        exact = [
            exact_kl(decimals(row), decimals(other))
            for row, other in zip(a, z, strict=True)
        ]
    # Probabilities below the normal range are 0, whatever they multiply, and
    # however many they are.
    tiny = TINY * classes * (1 + np.ptp(a, axis=-1) + np.ptp(z, axis=-1))
    for place in (0, 1):
        other = (z, a)[place]

        def divergence(x, place=place, other=other):
            pair = (x, other) if place == 0 else (other, x)
            return objectives.kl_divergence(*pair)

        found = value_and_gradient(divergence, (a, z)[place])
        wanted = [as_float((row[0], row[1 + place])) for row in exact]
        assert_accurate(found, wanted, tiny, tiny)


def test_kl_passes_both_gradients_on_at_once():
    z = batch(1.0, count=8)[0]
    z[:, 0] += 30.0
    values, gradient = value_and_gradient(
        lambda x: objectives.kl_divergence(x, 0.5 * x), z
    )
    with decimal.localcontext(CONTEXT):
        exact = [exact_kl(decimals(row), decimals(row / 2)) for row in z]
    wanted = [
        (float(v), [float(c + o / 2) for c, o in zip(a, b, strict=True)])
        for v, a, b in exact
    ]
    assert_accurate((values, gradient), wanted)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_standardized_has_the_digits_of_exact_arithmetic(classes):
    z, *_ = hard_rows(classes)
    weights = np.random.default_rng(0).normal(size=z.shape).astype(np.float32)
    found, pullback = _backend.vjp(
        objectives.standardized, ops.convert_to_tensor(z)
    )
    centered = z.astype(np.longdouble)
    centered -= centered.mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True))
    exact = np.float64(centered / deviation)
    error = np.abs(to_numpy(found) - exact).max(-1)
    assert (error <= 1e-6 * np.abs(exact).max(-1)).all()
    np.testing.assert_allclose(
        to_numpy(pullback(ops.convert_to_tensor(weights))),
        np.float64(weights / deviation),
        rtol=1e-5,
    )


@pytest.mark.parametrize("targeted", [False, True])
def test_attacks_follow_the_log_odds_in_place_of_the_cross_entropy(targeted):
    z, y, target = map(ops.convert_to_tensor, hard_rows(10))
    followed = objectives.get("cross_entropy", targeted)(z, y, target)
    if targeted:
        expected = objectives.targeted_log_odds(z, y, target)
    else:
        expected = objectives.log_odds(z, y)
    np.testing.assert_array_equal(to_numpy(followed), to_numpy(expected))


@pytest.mark.parametrize("gap", [15, 30, 60, 200, 1000])
def test_fgsm_finds_what_the_exact_gradient_does_at_any_gap(gap):
    """As float64 has it, but an image may be tipped by a rounded sign."""
    rng = np.random.default_rng(gap)
    kernel = rng.normal(size=(8, 8, 1, 10)) - 0.1
    x = rng.uniform(size=(200, 8, 8, 1)).astype(np.float32)
    top = -np.sort(-linear_logits(kernel, np.zeros(10), x))
    kernel *= gap / np.median(top[:, 0] - top[:, 1])
    kernel = kernel.astype(np.float32)
    model, eps = linear_model(kernel), 0.03
    clean = linear_logits(kernel, np.zeros(10), x)
    y = clean.argmax(-1)
    others = np.where(np.eye(10, dtype=bool)[y], -np.inf, clean)
    weights = np.exp(others - others.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True) - np.eye(10)[y]
    slope = (weights @ kernel.reshape(-1, 10).T.astype(float)).reshape(x.shape)
    x_adv = np.clip(x + eps * np.sign(slope), 0, 1)
    robust = linear_logits(kernel, np.zeros(10), x_adv).argmax(-1) == y
    # Both outcomes, or this would show little.
    assert 0.1 < robust.mean() < 0.9
    whole = predictions(model, FGSM(eps=eps)(model, x, y)) == y
    assert (whole != robust).sum() <= 1
    for size in (2, 64):
        parts = [
            predictions(
                model, FGSM(eps=eps)(model, x[i : i + size], y[i : i + size])
            )
            == y[i : i + size]
            for i in range(0, len(x) if size == 64 else 40, size)
        ]
        found = np.concatenate(parts)
        np.testing.assert_array_equal(found, whole[: len(found)])
