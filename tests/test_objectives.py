import decimal
import functools

import keras
import numpy as np
import pytest
from helpers import linear_logits, linear_model, predictions, to_numpy
from keras import ops

from keras_wp import _backend, objectives
from keras_wp.attacks import FGSM

SCALES = (1e-4, 1.0, 1e4)
NAMES = [
    (loss, targeted)
    for loss in ("cross_entropy", "log_odds", "margin", "dlr")
    for targeted in (False, True)
]


def expected(loss, targeted, z, y, target):
    """Each objective by its definition, one image at a time, in float64."""
    values = []
    rows = np.asarray(z, np.float64)
    for row, label, aim in zip(rows, y, target, strict=True):
        goal = aim if targeted else label
        others = max(v for k, v in enumerate(row) if k != goal)
        ranked = sorted(row, reverse=True)
        if loss == "cross_entropy":
            value = np.log(np.exp(row - ranked[0]).sum()) + ranked[0]
            value -= row[goal]
        elif loss == "log_odds":
            rest = np.delete(row, goal)
            value = np.log(np.exp(rest - others).sum()) + others - row[goal]
        elif loss == "margin":
            value = others - row[goal]
        elif targeted:
            spread = ranked[0] - (ranked[2] + ranked[3]) / 2
            value = -(row[aim] - row[label]) / spread
        else:
            value = (others - row[label]) / (ranked[0] - ranked[2])
        values.append(-value if targeted else value)
    return np.array(values)


def tolerance(loss, z):
    """Float32 rounding of the logits, carried through the definition."""
    z = np.asarray(z, np.float64)
    rounding = 4 * np.finfo(np.float32).eps * np.abs(z).max(-1)
    if loss != "dlr":
        return rounding + 1e-6
    ranked = -np.sort(-z)
    spread = ranked[:, 0] - ranked[:, 2]
    return 4 * rounding / spread * (1 + (ranked[:, 0] - z.min(-1)) / spread)


def batch(scale, count=100, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    z = (scale * rng.normal(size=(count, classes))).astype(np.float32)
    y = rng.integers(0, classes, count).astype(np.int32)
    target = ((y + rng.integers(1, classes, count)) % classes).astype(np.int32)
    return z, y, target


def at_once(fn):
    """On JAX, compiled: there, one operation at a time takes seconds."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(fn)
    return fn


def value_and_gradient(fn, z):
    @at_once
    def both(z):
        values, pullback = _backend.vjp(fn, z)
        return values, pullback(ops.ones_like(values))

    return tuple(map(to_numpy, both(ops.convert_to_tensor(z))))


@functools.cache
def compiled(loss, targeted):
    """Values and gradient of an objective, by its name."""
    name = f"targeted_{loss}" if targeted else loss
    objective = getattr(objectives, name)

    def both(z, *labels):
        # Untargeted forms, and those of one label only, take but the first.
        given = labels if targeted else labels[:1]
        values, pullback = _backend.vjp(lambda z: objective(z, *given), z)
        return values, pullback(ops.ones_like(values))

    return at_once(both)


def evaluate(loss, targeted, z, y, target):
    given = map(ops.convert_to_tensor, (z, y, target))
    return tuple(map(to_numpy, compiled(loss, targeted)(*given)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loss, targeted", NAMES)
def test_value_is_that_of_the_definition(loss, targeted, scale):
    z, y, target = batch(scale)
    values, _ = evaluate(loss, targeted, z, y, target)
    assert values.shape == (100,)
    error = np.abs(values - expected(loss, targeted, z, y, target))
    assert (error <= tolerance(loss, z)).all()


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_gradient_is_that_of_finite_differences(loss, targeted):
    z, y, target = batch(1.0, count=20)
    _, gradient = evaluate(loss, targeted, z, y, target)
    wide = z.astype(np.float64)
    numeric = np.zeros_like(wide)
    for k in range(z.shape[1]):
        step = np.zeros(z.shape[1])
        step[k] = 1e-6
        numeric[:, k] = (
            expected(loss, targeted, wide + step, y, target)
            - expected(loss, targeted, wide - step, y, target)
        ) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loss, targeted", NAMES)
def test_gradient_is_finite_and_knows_no_common_shift(loss, targeted, scale):
    z, y, target = batch(scale)
    # Ties of the largest, of the third with the fourth, and of all.
    z[0] = scale
    z[1] = 0.0
    z[2, :5] = 2 * scale
    z[3, :] = np.sort(z[3])
    z[3, 5:9] = z[3, 9]
    y[:4], target[:4] = 0, 1
    values, gradient = evaluate(loss, targeted, z, y, target)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    size = np.abs(gradient).max(-1)
    assert (np.abs(gradient.sum(-1)) <= 1e-6 * np.maximum(size, 1.0)).all()


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_equal_logits_have_the_value_of_a_tie(loss, targeted):
    z = np.full((2, 6), 3.0, np.float32)
    y, target = np.array([0, 5], np.int32), np.array([1, 2], np.int32)
    values, _ = evaluate(loss, targeted, z, y, target)
    tie = {"cross_entropy": np.log(6), "log_odds": np.log(5)}.get(loss, 0.0)
    np.testing.assert_allclose(values, -tie if targeted else tie, atol=1e-6)


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_every_objective_pushes_the_logits_the_right_way(loss, targeted):
    z, y, target = batch(1.0)
    y = z.argmax(-1).astype(np.int32)
    target = np.where(target == y, z.argmin(-1), target).astype(np.int32)
    _, gradient = evaluate(loss, targeted, z, y, target)
    rows = np.arange(len(z))
    if targeted:
        assert (gradient[rows, target] > 0).all()
    else:
        assert (gradient[rows, y] < 0).all()


@pytest.mark.parametrize("loss", ["margin", "dlr"])
@pytest.mark.parametrize("targeted", [False, True])
def test_margin_and_dlr_keep_a_gradient_at_large_logits(loss, targeted):
    z, y, target = batch(1e4)
    y = z.argmax(-1).astype(np.int32)
    target = z.argmin(-1).astype(np.int32)
    _, gradient = evaluate(loss, targeted, z, y, target)
    assert (np.abs(gradient).max(-1) > 0).all()


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("scale", [2.0**-14, 2.0**14])
def test_dlr_is_free_of_scale(targeted, scale):
    z, y, target = batch(1.0)
    values, gradient = evaluate("dlr", targeted, z, y, target)
    scaled, scaled_gradient = evaluate("dlr", targeted, scale * z, y, target)
    np.testing.assert_allclose(scaled, values, rtol=1e-6)
    np.testing.assert_allclose(
        scale * scaled_gradient, gradient, rtol=1e-5, atol=1e-6
    )


def test_margin_is_positive_exactly_where_misclassified():
    z, y, target = batch(1.0)
    y[:50] = z[:50].argmax(-1)
    values, _ = evaluate("margin", False, z, y, target)
    np.testing.assert_array_equal(values > 0, z.argmax(-1) != y)
    values, _ = evaluate("margin", True, z, y, y)
    np.testing.assert_array_equal(values > 0, z.argmax(-1) == y)


def test_two_classes_suffice_for_all_but_dlr():
    z, y, target = batch(1.0, classes=2)
    for loss in ("cross_entropy", "log_odds", "margin"):
        values, gradient = evaluate(loss, False, z, y, target)
        np.testing.assert_allclose(
            values, expected(loss, False, z, y, target), atol=1e-6
        )
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss, targeted", NAMES)
def test_no_image_depends_on_its_neighbours(loss, targeted):
    z, y, target = batch(1.0, count=6)
    whole = evaluate(loss, targeted, z, y, target)
    for i in range(6):
        part = slice(i, i + 1)
        alone = evaluate(loss, targeted, z[part], y[part], target[part])
        np.testing.assert_allclose(alone[0], whole[0][part], rtol=1e-6)
        np.testing.assert_allclose(
            alone[1], whole[1][part], rtol=1e-5, atol=1e-7
        )


def softmax(z):
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(z):
    z = np.asarray(z, np.float64)
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.mark.parametrize("scale", SCALES)
def test_kl_is_that_of_the_definition(scale):
    clean, other = batch(scale, seed=1)[0], batch(scale, seed=2)[0]
    values, gradient = value_and_gradient(
        lambda z: objectives.kl_divergence(clean, z), other
    )
    reference = softmax(clean) * (log_softmax(clean) - log_softmax(other))
    np.testing.assert_allclose(
        values, reference.sum(-1), rtol=1e-5, atol=1e-6 * max(1, scale)
    )
    np.testing.assert_allclose(
        gradient, softmax(other) - softmax(clean), rtol=1e-3, atol=1e-6
    )


def test_kl_of_equal_logits_is_zero_and_flat():
    z = batch(1.0)[0]
    values, gradient = value_and_gradient(
        lambda logits: objectives.kl_divergence(z, logits), z
    )
    np.testing.assert_allclose(values, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_kl_is_finite_where_probabilities_vanish():
    clean = np.array([[1e4, 0.0, -1e4]], np.float32)
    values, gradient = value_and_gradient(
        lambda z: objectives.kl_divergence(clean, z), -clean
    )
    np.testing.assert_allclose(values, [2e4], rtol=1e-6)
    assert np.isfinite(gradient).all()


def boosted(z, y):
    """MART's BCE by its definition, one image at a time, in float64."""
    p = np.exp(np.float64(z) - np.float64(z).max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    rows = np.arange(len(y))
    rivals = p.copy()
    rivals[rows, y] = 0
    return -np.log(p[rows, y]) - np.log(1 - rivals.max(-1))


@pytest.mark.parametrize("classes", [2, 10])
def test_boosted_cross_entropy_is_that_of_the_definition(classes):
    z, y, _ = batch(1.0, classes=classes)
    values, gradient = value_and_gradient(
        lambda logits: objectives.boosted_cross_entropy(logits, y), z
    )
    np.testing.assert_allclose(values, boosted(z, y), rtol=1e-5)
    numeric = np.zeros(z.shape)
    for k in range(classes):
        step = np.zeros(classes)
        step[k] = 1e-6
        numeric[:, k] = (boosted(z + step, y) - boosted(z - step, y)) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-5)


def test_boosted_cross_entropy_is_finite_where_a_probability_is_one():
    z = np.array([[0.0, 2e4, -1e4], [1e4, 0.0, 0.0]], np.float32)
    values, gradient = value_and_gradient(
        lambda logits: objectives.boosted_cross_entropy(logits, [0, 0]), z
    )
    np.testing.assert_allclose(values, [4e4, 0.0], rtol=1e-6)
    # Of the first: all the weight from class 1 to class 0, twice.
    np.testing.assert_allclose(gradient, [[-2, 2, 0], [0, 0, 0]], atol=1e-6)


def test_objectives_take_labels_of_any_integer_type():
    z, y, target = batch(1.0, count=5)
    for kind in ("uint8", "int64"):
        labels = keras.ops.convert_to_tensor(y.astype(kind))
        np.testing.assert_allclose(
            to_numpy(
                objectives.cross_entropy(ops.convert_to_tensor(z), labels)
            ),
            expected("cross_entropy", False, z, y, target),
            rtol=1e-5,
        )


@pytest.mark.parametrize("loss", ["kl", None, ["dlr"]])
def test_get_refuses_what_is_no_loss(loss):
    with pytest.raises(ValueError) as error:
        objectives.get(loss)
    assert str(error.value) == (
        "Invalid value for argument `loss`. Expected one of ['cross_entropy',"
        f" 'dlr', 'margin']. Received: loss={loss!r}"
    )


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
    """As float64 has it, but for an image that a rounded sign or logit tips."""
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
