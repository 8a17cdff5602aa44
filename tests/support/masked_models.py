"""Models that are easily measured wrong, by name, and what is true of them.

    masked = MASKED["tanh x30, head, dense"]()
    truth = true_accuracy("tanh x30, head, dense", count=100)

The truth is what strong attacks leave of a model when they follow the
gradients of its twins as well as its own, and a random search besides: an
upper bound, as low as we can get it.
"""

import functools

import numpy as np
from bases import CLASSES, IMAGES, digits
from keras import ops
from masked_ends import ENDS
from masked_heads import HEADS
from masked_middles import MIDDLES
from masked_noise import NOISES

import keras_wp as kwp
from keras_wp import _backend, _checks

MASKED = {**HEADS, **MIDDLES, **ENDS, **NOISES}
# How many draws decide on an image of a random model.
DRAWS = 64


def logits_of(model, x):
    return ops.convert_to_numpy(model(ops.convert_to_tensor(x)))


def accuracy(model, count=IMAGES):
    x, y = digits(count)[1]
    return float((logits_of(model, x).argmax(-1) == y).mean())


@functools.cache
def true_accuracy(name, count=IMAGES):
    """What the strongest attacks leave of a construction, in [0, 1]."""
    return truth_of(MASKED[name](), count)


def truth_of(masked, count=IMAGES):
    """The same of a `Masked`."""
    x, y = digits(count)[1]
    right = right_by_majority if masked.random else right_at_once
    left = right(masked.model, x, y)
    for attack in attacks_on(masked):
        if left.any():
            x_adv = attack(x[left], y[left])
            left[left] = right(masked.model, x_adv, y[left])
    return float(left.mean())


def right_at_once(model, x, y):
    return logits_of(model, x).argmax(-1) == y


def right_by_majority(model, x, y):
    times = [right_at_once(model, x, y) for _ in range(DRAWS)]
    return np.mean(times, axis=0) >= 0.5


def attacks_on(masked):
    """Attacks `(x, y) -> x_adv`, the most promising first."""
    model, twin, eps = masked.model, masked.twin, masked.eps
    if masked.random:
        # Judged by a twin: of the model itself, one draw says little.
        for other in (*masked.others, twin):
            yield functools.partial(follow, other, other, eps)
        return
    apgd = functools.partial(kwp.attacks.APGD, eps=eps)
    members = [
        apgd(steps=50, loss="margin"),
        apgd(steps=100, loss="margin", restarts=3),
        apgd(steps=50, loss="dlr", targets=9),
    ]
    twins = [twin, *masked.others] if twin is not model else []
    yield functools.partial(kwp.attacks.InTurn(members=members), twin)
    if masked.trained == "adversarial":  # The last images are hard to find.
        for other in [*twins[1:], model]:
            yield functools.partial(members[1], other)
    for other in (*twins, model):
        yield functools.partial(follow, model, other, eps)
    if not _checks.are_probabilities(logits_of(model, digits()[1][0])):
        steps = 2000 if masked.trained == "plain" else 5000
        square = kwp.attacks.Square(eps=eps, steps=steps)
        yield functools.partial(square, model)


def follow(model, twin, eps, x, y):
    """A model's margin, climbed by the signs of its twin's gradient.

    From random starts to any wrong class, then to the likeliest four in turn,
    by steps that become shorter. As an attack with `Surrogate(model=twin)`,
    but independent of the library's attacks, and sooner compiled.

    Returns:
        Where the margin was largest.
    """
    rng = np.random.default_rng(0)
    climb = climber(model, twin)
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    best, found = x, np.full(len(x), -np.inf)
    wrong = np.arange(CLASSES) != y[:, None]
    # Of the wrong classes, the likeliest first.
    order = np.argsort(np.where(wrong, -logits_of(twin, x), np.inf), axis=-1)
    goals = [np.eye(CLASSES, dtype=bool)[k] for k in order.T[:4]]
    for goal, steps in [(wrong, 100)] * 2 + [(goal, 40) for goal in goals]:
        z = x + rng.uniform(-eps, eps, x.shape).astype(np.float32)
        for step in range(steps + 1):
            z = np.clip(z, low, high)
            margins, slope = climb(z, y, goal)
            better = margins > found
            found = np.where(better, margins, found)
            best = np.where(better[:, None, None, None], z, best)
            size = np.float32(0.5 * eps * (1.0 - step / steps))
            z = z + size * np.sign(slope)
    return best


def climber(model, twin):
    """`(images, labels, goal) -> (margins, gradient)`, compiled.

    The margin is that of the model over all wrong classes; the gradient, that
    of the twin's margin over the classes allowed by `goal` `(N, K)`.
    """

    def climb(images, labels, goal):
        true = ops.one_hot(labels, CLASSES)

        def margin(z, others):
            largest = ops.max(ops.where(others, z, -np.inf), axis=-1)
            return largest - ops.sum(true * z, axis=-1)

        def seen(x):
            z = ops.cast(model(x, training=False), "float32")
            if twin is not model:
                soft = ops.cast(twin(x, training=False), "float32")
                z = ops.stop_gradient(z) + (soft - ops.stop_gradient(soft))
            return margin(z, goal), margin(z, true == 0)

        _, pullback = _backend.vjp(lambda x: seen(x)[0], images)
        ones = ops.ones(ops.shape(labels), "float32")
        return seen(images)[1], pullback(ones)

    def variables():
        found = [*getattr(model, "variables", ()), *twin.variables]
        return list({id(variable): variable for variable in found}.values())

    compiled = _backend.compile(climb, variables)

    def call(*arguments):
        return [ops.convert_to_numpy(part) for part in compiled(*arguments)]

    return call


def masks(name, count=IMAGES):
    """What a construction is worth as a test, as a dictionary."""
    masked = MASKED[name]()
    x, y = digits(count)[1]
    mine = logits_of(masked.model, x).argmax(-1)
    twin = logits_of(masked.twin, x).argmax(-1)
    return {
        "clean": float((mine == y).mean()),
        "twin": float((twin == y).mean()),
        "agreement": float((mine == twin).mean()),
    }
