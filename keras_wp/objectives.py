"""What gradient attacks maximise, one value for each image.

Every function takes logits `(N, K)` and integer labels `(N,)` and returns
`(N,)`. The larger the value, the nearer the image is to being misclassified
(or, for the targeted forms, to being classified as its target). Nothing is
summed or averaged over the batch.

Values and gradients are those of exact arithmetic to float32's rounding, from
the largest logits to the smallest. `log_odds`, `margin` and `dlr` do not
saturate when logits are large, as the cross-entropy does, and attacks follow
the first of them in its place; `dlr` and its targeted form do not depend on
the logits' scale at all.
"""

import numpy as np
from keras import ops

from keras_wp._checks import check_one_of

# Below every float32 logit; infinity would turn a zero cotangent into NaN.
_LOWEST = -3e38


def predicted(logits):
    """The class with the largest logit, the first of those that tie.

    Of logits `(N, K)`, tensors or on the host: int32 `(N,)`, of the same
    kind. A zero is a zero whatever its sign, which `keras.ops.argmax` looks
    at.
    """
    if isinstance(logits, np.ndarray):
        return logits.argmax(-1).astype(np.int32)
    logits = ops.where(logits == 0, ops.zeros_like(logits), logits)
    return ops.cast(ops.argmax(logits, axis=-1), "int32")


def _at(logits, labels):
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return ops.sum(logits * one_hot, axis=-1)


def _all_but(logits, labels):
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype="bool")
    return ops.where(one_hot, ops.full_like(logits, _LOWEST), logits)


def _largest_but(logits, labels):
    return ops.max(_all_but(logits, labels), axis=-1)


def log_odds(logits, y):
    """The log odds of a wrong class: `log(sum_{j != y} exp(z_j)) - z_y`.

    `log((1 - p_y) / p_y)` with `p = softmax(z)`: the cross-entropy is its
    softplus, so both rise together, and their gradients have one direction.
    The one of the log odds, `softmax` of the other classes less `e_y`, has
    the same size however far the logits are apart, where that of the
    cross-entropy, `1 - p_y` times as long, leaves float32's range.
    """
    # The differences from `z_y` would not tell the other classes apart where
    # it is far from them.
    top = ops.stop_gradient(_largest_but(logits, y))
    others = _all_but(logits - top[:, None], y)
    return ops.logsumexp(others, axis=-1) + (top - _at(logits, y))


def cross_entropy(logits, y):
    """Softmax cross-entropy: `log(sum_j exp(z_j)) - z_y`.

    Computed as `softplus(log_odds(logits, y))`, which is accurate, as is its
    gradient, down to where it leaves float32's range, at a gap of 87.
    """
    return ops.softplus(log_odds(logits, y))


def error_probability(logits, y):
    """The probability of the wrong classes, `1 - p_y`, to its last digit."""
    return ops.exp(-ops.softplus(-log_odds(logits, y)))


def margin(logits, y):
    """`max_{j != y} z_j - z_y` (Carlini and Wagner, 2017, f_6 negated).

    Positive exactly if the image is misclassified.
    """
    return _largest_but(logits, y) - _at(logits, y)


def _ratio(numerator, denominator):
    positive = denominator > 0
    # A quotient's derivative takes the square of what it is divided by, which
    # leaves float32's range; so both are first brought to the size of 1.
    size = ops.stop_gradient(
        ops.where(positive, denominator, ops.ones_like(denominator))
    )
    unit = ops.where(positive, denominator / size, ops.ones_like(size))
    return ops.where(positive, numerator / size / unit, numerator)


def dlr(logits, y):
    """Difference of logits ratio (Croce and Hein, 2020, equation 6).

    `(max_{j != y} z_j - z_y) / (z_(1) - z_(3))`, with `z_(k)` the k-th
    largest logit. With fewer than 4 classes it is the margin.
    """
    if logits.shape[-1] < DLR_CLASSES:
        return margin(logits, y)
    top = ops.top_k(logits, 3)[0]
    return _ratio(margin(logits, y), top[:, 0] - top[:, 2])


def targeted_log_odds(logits, y, target):
    """`-log_odds(logits, target)`."""
    del y
    return -log_odds(logits, target)


def targeted_cross_entropy(logits, y, target):
    """`-cross_entropy(logits, target)`."""
    del y
    return -cross_entropy(logits, target)


def targeted_margin(logits, y, target):
    """`z_t - max_{j != t} z_j`: positive exactly if the target is reached."""
    del y
    return -margin(logits, target)


def targeted_dlr(logits, y, target):
    """Targeted DLR (Croce and Hein, 2020, equation 7).

    `(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)`. With fewer than 4 classes
    there is no such spread, and it is not divided by.
    """
    if logits.shape[-1] < DLR_CLASSES:
        return _at(logits, target) - _at(logits, y)
    top = ops.top_k(logits, 4)[0]
    spread = (top[:, 0] - top[:, 2]) / 2.0 + (top[:, 0] - top[:, 3]) / 2.0
    return _ratio(_at(logits, target) - _at(logits, y), spread)


def standardized(logits):
    """`(z - mean(z)) / std(z)`; mean and deviation count as constants.

    The logits of an image that are all equal become zeros.
    """
    # From the largest logit on, small differences of large logits are exact,
    # and of the size of 1 their squares stay within float32's range.
    logits = logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    largest = ops.max(-logits, axis=-1, keepdims=True)
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    logits = logits / ops.stop_gradient(largest)
    logits = logits - ops.stop_gradient(
        ops.mean(logits, axis=-1, keepdims=True)
    )
    square = ops.mean(ops.square(logits), axis=-1, keepdims=True)
    square = ops.where(square > 0, square, ops.ones_like(square))
    return logits / ops.stop_gradient(ops.sqrt(square))


def _relative(logits, label):
    return logits - _at(logits, label)[:, None]


def _expm1_less(x):
    """`exp(x) - 1 - x` for `|x| <= 1`, by its series."""
    total = ops.ones_like(x)
    for n in range(11, 2, -1):
        total = 1.0 + x / n * total
    return x * x / 2.0 * total


def kl_divergence(clean_logits, logits):
    """`KL(softmax(clean_logits) || softmax(logits))` of each image.

    With `p` and `q` these two, and `l = log q - log p`, it is computed as
    `sum_j p_j (exp(l_j) - 1 - l_j)`, of which no term is negative, and has the
    gradients `q - p` in `logits`, by `p_j (exp(l_j) - 1)`, and
    `p_j (sum_k p_k l_k - l_j)` in `clean_logits`. Nothing of it cancels where
    the two predictions are close, nor where both are certain, unless logits
    that are apart differ by little but a constant. It has no second
    derivatives.
    """
    a, z = ops.stop_gradient(clean_logits), ops.stop_gradient(logits)
    top = ops.argmax(a, axis=-1)

    # Two ways to one difference; rounding takes less from smaller terms. (A
    # compensated sum is none: XLA simplifies it where `a` is a constant.)
    p_gaps, q_gaps, moved = _relative(a, top), _relative(z, top), z - a
    apart = ops.abs(moved) + ops.abs(_at(moved, top))[:, None]
    closer = apart < ops.abs(p_gaps) + ops.abs(q_gaps)
    d = ops.where(closer, _relative(moved, top), q_gaps - p_gaps)

    log_p, log_q = ops.log_softmax(a, axis=-1), ops.log_softmax(z, axis=-1)
    p, q = ops.softmax(a, axis=-1), ops.softmax(z, axis=-1)
    rough = log_q - log_p
    # Where the likeliest class keeps its probability, up to a factor, its
    # log ratio follows from what the others gain.
    gain = ops.where(
        ops.abs(d) < 1.0,
        p * ops.expm1(ops.clip(d, -1.0, 1.0)),
        ops.exp(ops.minimum(q_gaps + _at(log_p, top)[:, None], 1.0)) - p,
    )
    gain = ops.sum(gain, axis=-1, keepdims=True)
    kept = ops.abs(_at(rough, top))[:, None] < 0.5
    gain = ops.where(kept, gain, ops.zeros_like(gain))
    ratio = ops.where(kept, d - ops.log1p(gain), rough)

    small = ops.abs(ratio) < 1.0
    inside = ops.clip(ratio, -1.0, 1.0)
    value = ops.sum(
        ops.where(small, p * _expm1_less(inside), q - p - p * ratio), axis=-1
    )
    pull = ops.where(small, p * ops.expm1(inside), q - p)
    mean = ops.sum(p * d, axis=-1, keepdims=True)
    clean_pull = p * (mean - d)
    # What is added is zero, and has these gradients.
    nothing = pull * (logits - z) + clean_pull * (clean_logits - a)
    return value + ops.sum(nothing, axis=-1)


def boosted_cross_entropy(logits, y):
    """`-log p_y - log(1 - max_{j != y} p_j)`, with `p = softmax(logits)`.

    The loss that MART calls BCE (Wang et al., 2020, equation 8): the
    cross-entropy, and a margin from the likeliest wrong class.
    """
    rival = ops.argmax(_all_but(logits, y), axis=-1)
    boost = ops.softplus(-log_odds(logits, rival))
    return cross_entropy(logits, y) + boost


# Attacks follow the direction of a gradient, and compare the values of one
# image. The log odds have both in common with the cross-entropy, and keep
# them where that has neither.
_OBJECTIVES = {
    "cross_entropy": (log_odds, targeted_log_odds),
    "margin": (margin, targeted_margin),
    "dlr": (dlr, targeted_dlr),
}

NAMES = tuple(sorted(_OBJECTIVES))

# DLR ranks the logits down to the fourth.
DLR_CLASSES = 4


def check(loss, names=NAMES):
    """Raise a ValueError unless `loss` is one of `names`."""
    check_one_of(names, loss=loss)


def get(loss, targeted=False):
    """The objective called `loss`, as a function of `(logits, y, target)`.

    For `"cross_entropy"` it is `log_odds`, or its targeted form: gradients of
    the direction that the cross-entropy's has in exact arithmetic, and values
    in the same order. The cross-entropy itself is `cross_entropy`.

    Raises:
        ValueError: If there is no such loss.
    """
    check(loss)
    untargeted, toward = _OBJECTIVES[loss]
    if targeted:
        return toward
    return lambda logits, y, target: untargeted(logits, y)


def adversarial_margin(logits, labels, reach_target=False):
    """How far logits are beyond the boundary, on the host: `(N,)`.

    The margin is above 0 for the images that are misclassified (or, with
    `reach_target`, classified as their label, which is the target then). Logits
    that are not finite are infinitely far from it.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    with np.errstate(invalid="ignore"):  # Of two that are infinite.
        margin = others.max(-1) - own
    if reach_target:
        margin = -margin
    return np.where(np.isfinite(logits).all(-1), margin, -np.inf)
