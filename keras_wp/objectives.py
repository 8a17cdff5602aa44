"""What gradient attacks maximise, one value for each image.

Every function takes logits `(N, K)` and integer labels `(N,)` and returns
`(N,)`. The larger the value, the nearer the image is to being misclassified
(or, for the targeted forms, to being taken for its target). Nothing is summed
or averaged over the batch.

`margin` and `dlr` do not saturate when logits are large, as the cross-entropy
does; `dlr` and its targeted form do not depend on the logits' scale at all.
"""

from keras import ops

# Below every float32 logit; infinity would turn a zero cotangent into NaN.
_LOWEST = -3e38


def _at(logits, labels):
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return ops.sum(logits * one_hot, axis=-1)


def _largest_but(logits, labels):
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype="bool")
    lowest = ops.full_like(logits, _LOWEST)
    return ops.max(ops.where(one_hot, lowest, logits), axis=-1)


def cross_entropy(logits, y):
    """Softmax cross-entropy: `log(sum_j exp(z_j)) - z_y`."""
    return ops.logsumexp(logits, axis=-1) - _at(logits, y)


def margin(logits, y):
    """`max_{j != y} z_j - z_y` (Carlini and Wagner, 2017, f_6 negated).

    Positive exactly if the image is misclassified.
    """
    return _largest_but(logits, y) - _at(logits, y)


def _ratio(numerator, denominator):
    positive = denominator > 0
    safe = ops.where(positive, denominator, ops.ones_like(denominator))
    return ops.where(positive, numerator / safe, numerator)


def dlr(logits, y):
    """Difference of logits ratio (Croce and Hein, 2020, equation 6).

    `(max_{j != y} z_j - z_y) / (z_(1) - z_(3))`, with `z_(k)` the k-th
    largest logit. Needs at least 4 classes.
    """
    top = ops.top_k(logits, 3)[0]
    return _ratio(margin(logits, y), top[:, 0] - top[:, 2])


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

    `(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)`. Needs at least 4 classes.
    """
    top = ops.top_k(logits, 4)[0]
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2.0
    return _ratio(_at(logits, target) - _at(logits, y), spread)


def standardized(logits):
    """`(z - mean(z)) / std(z)`; mean and deviation count as constants.

    The logits of an image that are all equal become zeros.
    """
    logits = logits - ops.stop_gradient(
        ops.mean(logits, axis=-1, keepdims=True)
    )
    # Squares of large or small logits would leave float32's range.
    largest = ops.max(ops.abs(logits), axis=-1, keepdims=True)
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    logits = logits / ops.stop_gradient(largest)
    square = ops.mean(ops.square(logits), axis=-1, keepdims=True)
    square = ops.where(square > 0, square, ops.ones_like(square))
    return logits / ops.stop_gradient(ops.sqrt(square))


def kl_divergence(clean_logits, logits):
    """`KL(softmax(clean_logits) || softmax(logits))` of each image."""
    log_p = ops.log_softmax(clean_logits, axis=-1)
    log_q = ops.log_softmax(logits, axis=-1)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def boosted_cross_entropy(logits, y):
    """`-log p_y - log(1 - max_{j != y} p_j)`, with `p = softmax(logits)`.

    The loss that MART calls BCE (Wang et al., 2020, equation 8): the
    cross-entropy, and a margin from the likeliest wrong class.
    """
    one_hot = ops.one_hot(y, logits.shape[-1], dtype="bool")
    lowest = ops.full_like(logits, _LOWEST)
    rival = ops.argmax(ops.where(one_hot, lowest, logits), axis=-1)
    is_rival = ops.one_hot(rival, logits.shape[-1], dtype="bool")
    rest = ops.logsumexp(ops.where(is_rival, lowest, logits), axis=-1)
    total = ops.logsumexp(logits, axis=-1)
    return cross_entropy(logits, y) + (total - rest)


_OBJECTIVES = {
    "cross_entropy": (cross_entropy, targeted_cross_entropy),
    "margin": (margin, targeted_margin),
    "dlr": (dlr, targeted_dlr),
}

NAMES = tuple(sorted(_OBJECTIVES))

# DLR ranks the logits down to the fourth.
DLR_CLASSES = 4


def check(loss, names=NAMES):
    """Raise a ValueError unless `loss` is one of `names`."""
    if not isinstance(loss, str) or loss not in names:
        raise ValueError(
            "Invalid value for argument `loss`. Expected one of "
            f"{sorted(names)}. Received: loss={loss!r}"
        )


def get(loss, targeted=False):
    """The objective called `loss`, as a function of `(logits, y, target)`.

    Raises:
        ValueError: If there is no such loss.
    """
    check(loss)
    untargeted, toward = _OBJECTIVES[loss]
    if targeted:
        return toward
    return lambda logits, y, target: untargeted(logits, y)
