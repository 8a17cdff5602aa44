import json

import numpy as np
import pytest
from helpers import (
    linear_logits,
    linear_model,
    predictions,
    random_images,
    tiny_cnn,
    to_numpy,
    uniformity,
)
from keras import ops

from keras_wp import _backend, _noise
from keras_wp.attacks import FGSM, PGD
from keras_wp.engine.problem import Problem
from keras_wp.inspection import classifier

SHAPE = (3, 4, 2)
EPS = {"linf": 0.05, "l2": 0.2}
# Far from the bounds, so that only the ball limits the attacks.
IMAGES = random_images(60, SHAPE, low=0.3, high=0.7)


def random_linear(classes, seed=3):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(*SHAPE, classes)).astype(np.float32)
    center = 0.5 * kernel.reshape(-1, classes).sum(0)
    # Centered, so that each class has its share of the images.
    return kernel, (rng.normal(size=classes) * 0.1 - center).astype(np.float32)


def dual_length(norm, weights):
    return np.linalg.norm(weights.reshape(-1), 1 if norm == "linf" else 2)


def length(norm, delta):
    flat = delta.astype(np.float64).reshape(len(delta), -1)
    return np.linalg.norm(flat, np.inf if norm == "linf" else 2, axis=1)


def problem_of(model, x, y, target=None, seed=0, **options):
    keys = _noise.seeded(_noise.image_digests(x), 0, seed)
    classes = model.output_shape[-1]
    return Problem(
        classifier.Classifier(model),
        x=ops.convert_to_tensor(x),
        y=ops.convert_to_tensor(np.asarray(y, np.int32)),
        target=ops.convert_to_tensor(
            np.asarray(y if target is None else target, np.int32)
        ),
        keys=ops.convert_to_tensor(keys),
        clean_logits=ops.zeros((len(x), classes)),
        **options,
    )


def perturbed(attack, model, x, y):
    """The whole run of an attack, with no early stop, in a graph."""
    known = classifier.Classifier(model)
    y = np.asarray(y, np.int32)
    keys = _noise.seeded(_noise.image_digests(x), 0, 0)

    def perturb(x, y, keys):
        clean_logits = ops.zeros((1, model.output_shape[-1]))
        problem = Problem(
            known, x=x, y=y, target=y, keys=keys, clean_logits=clean_logits
        )
        return attack.perturb(problem)

    compiled = known.compile(("perturb", attack), lambda: perturb)
    return to_numpy(compiled(x, y, keys))


def attacks(norm, **options):
    eps = EPS[norm]
    settings = {"eps": eps, "norm": norm, **options}
    return [
        FGSM(**settings),
        PGD(steps=1, step_size=eps, random_start=False, **settings),
        # Steps so long that what the start adds across them is soon forgotten.
        PGD(steps=7, step_size=4 * eps, **settings),
    ]


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_two_classes_meet_the_closed_form_worst_case(norm, loss):
    kernel, bias = random_linear(2)
    model = linear_model(kernel, bias)
    clean = linear_logits(kernel, bias, IMAGES)
    y = clean.argmax(-1)
    rows = np.arange(len(y))
    clean_margin = clean[rows, 1 - y] - clean[rows, y]
    weights = kernel[..., 1] - kernel[..., 0]
    worst = clean_margin + EPS[norm] * dual_length(norm, weights)
    # Both outcomes, or this would show little.
    assert 0.2 < (worst > 0).mean() < 0.9
    for attack in attacks(norm, loss=loss):
        # A whole run, with no early stop, ends at the very worst point.
        x_adv = perturbed(attack, model, IMAGES, y)
        logits = linear_logits(kernel, bias, x_adv)
        margin = logits[rows, 1 - y] - logits[rows, y]
        np.testing.assert_allclose(margin, worst, atol=2e-5)
        assert length(norm, x_adv - IMAGES).max() <= EPS[norm] + 1e-6
        # The attack as called stops early, with the same verdict.
        fooled = predictions(model, attack(model, IMAGES, y)) != y
        np.testing.assert_array_equal(fooled, worst > 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targets_of_two_classes_meet_the_closed_form(norm):
    kernel, bias = random_linear(2)
    model = linear_model(kernel, bias)
    clean = linear_logits(kernel, bias, IMAGES)
    target = 1 - clean.argmax(-1)
    rows = np.arange(len(target))
    weights = kernel[..., 1] - kernel[..., 0]
    best = clean[rows, target] - clean[rows, 1 - target]
    best += EPS[norm] * dual_length(norm, weights)
    for attack in attacks(norm, targeted=True):
        x_adv = attack(model, IMAGES, target)
        reached = predictions(model, x_adv) == target
        np.testing.assert_array_equal(reached, best > 0)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_many_classes_are_fooled_where_the_closed_form_allows(norm, loss):
    kernel, bias = random_linear(5)
    model = linear_model(kernel, bias)
    eps = EPS[norm]
    clean = linear_logits(kernel, bias, IMAGES)
    y = clean.argmax(-1)
    worst = np.array(
        [
            max(
                clean[i, k]
                - clean[i, y[i]]
                + eps * dual_length(norm, kernel[..., k] - kernel[..., y[i]])
                for k in range(5)
                if k != y[i]
            )
            for i in range(len(y))
        ]
    )
    attack = PGD(
        eps=eps, steps=20, step_size=eps / 4, restarts=8, norm=norm, loss=loss
    )
    fooled = predictions(model, attack(model, IMAGES, y)) != y
    # Nobody can do better, and ascent with restarts seldom does worse.
    assert not (fooled & (worst <= 0)).any()
    assert (worst > 0).sum() >= 20
    assert fooled.sum() >= (worst > 0).sum() - 1


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targeted_attacks_reach_their_targets(norm, loss):
    kernel, bias = random_linear(5)
    model = linear_model(kernel, bias)
    y = predictions(model, IMAGES)
    target = ((y + 1 + np.arange(len(y)) % 4) % 5).astype(np.int32)
    # Half way between the images there is always room enough.
    attack = PGD(
        eps=0.3 if norm == "linf" else 1.5,
        steps=20,
        norm=norm,
        loss=loss,
        targeted=True,
    )
    x_adv = attack(model, IMAGES, target)
    assert (predictions(model, x_adv) == target).mean() > 0.95


def test_targeted_attacks_leave_images_of_the_target_alone():
    kernel, bias = random_linear(5)
    model = linear_model(kernel, bias)
    y = predictions(model, IMAGES)
    target = np.where(np.arange(len(y)) % 2, y, (y + 1) % 5)
    for attack in attacks("linf", targeted=True):
        x_adv = attack(model, IMAGES, target)
        np.testing.assert_array_equal(x_adv[1::2], IMAGES[1::2])
        assert (x_adv[::2] != IMAGES[::2]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bounds_that_bind_are_kept(norm):
    kernel, bias = random_linear(2)
    model = linear_model(kernel, bias)
    x = (IMAGES > 0.5).astype(np.float32)
    y = predictions(model, x)
    rows = np.arange(len(y))
    for attack in attacks(norm):
        x_adv = perturbed(attack, model, x, y)
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        if norm == "linf":
            # Black pixels can only rise, white ones only fall.
            gradient = kernel[..., 1] - kernel[..., 0]
            direction = np.sign(gradient) * (1 - 2 * y).reshape(-1, 1, 1, 1)
            free = np.where(x == 0, direction > 0, direction < 0)
            expected = x + EPS[norm] * direction * free
            np.testing.assert_allclose(x_adv, expected, atol=1e-6)
        clean = linear_logits(kernel, bias, x)
        moved = linear_logits(kernel, bias, x_adv)
        rise = moved[rows, 1 - y] - clean[rows, 1 - y]
        rise -= moved[rows, y] - clean[rows, y]
        assert (rise > 0).all()


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numpy_steps(attack, kernel, bias, x, y, steps, step_size):
    """PGD on the cross-entropy of a linear model, in float64."""
    wide = x.astype(np.float64)
    x_adv = wide.copy()
    flat = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    one_hot = np.eye(kernel.shape[-1])[y]
    for _ in range(steps):
        residual = softmax(linear_logits(kernel, bias, x_adv)) - one_hot
        gradient = residual @ flat.T
        if attack.norm == "linf":
            step = np.sign(gradient)
        else:
            step = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
        delta = x_adv + step_size * step.reshape(x.shape) - wide
        if attack.norm == "linf":
            delta = delta.clip(-attack.eps, attack.eps)
        else:
            size = np.linalg.norm(delta.reshape(len(x), -1), axis=1)
            factor = np.minimum(1, attack.eps / size)
            delta *= factor.reshape(-1, 1, 1, 1)
        x_adv = (wide + delta).clip(0, 1)
    return x_adv


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["fgsm", "pgd", "default step"])
def test_perturb_in_a_graph_takes_the_steps_of_numpy(norm, kind):
    kernel, bias = random_linear(3)
    model = linear_model(kernel, bias)
    y = predictions(model, IMAGES)
    # Some images at the bounds, and some misclassified already, which go on.
    x = IMAGES.copy()
    x[:10] = x[:10].round()
    y[20:30] = (y[20:30] + 1) % 3
    eps = EPS[norm]
    if kind == "fgsm":
        attack, steps, step_size = FGSM(eps=eps, norm=norm), 1, eps
    else:
        step_size = 0.3 * eps if kind == "pgd" else None
        steps = 6
        attack = PGD(
            eps=eps,
            steps=steps,
            step_size=step_size,
            norm=norm,
            random_start=False,
        )
        step_size = step_size or 2.5 * eps / steps
    expected = numpy_steps(attack, kernel, bias, x, y, steps, step_size)
    x_adv = perturbed(attack, model, x, y)
    np.testing.assert_allclose(x_adv, expected, atol=2e-6)
    if kind == "fgsm":
        eager = to_numpy(attack.perturb(problem_of(model, x, y)))
        np.testing.assert_allclose(eager, expected, atol=2e-6)


@pytest.mark.parametrize("times", [1, 3, 60])
def test_steps_are_repeated_looped_or_unrolled(times):
    zeros = {"steps": ops.zeros((2,), "int32")}
    state = _backend.repeat(times, lambda s: {"steps": s["steps"] + 1}, zeros)
    np.testing.assert_array_equal(to_numpy(state["steps"]), [times, times])


def test_perturb_passes_no_gradient_on():
    model, x = tiny_cnn(), random_images(3)
    attack = PGD(eps=0.1, steps=2, random_start=False)
    y = np.zeros(3, np.int32)

    def total(x):
        problem = problem_of(model, random_images(3), y)
        problem.x = x
        return ops.sum(attack.perturb(problem), axis=(1, 2, 3))

    values, pullback = _backend.vjp(total, ops.convert_to_tensor(x))
    gradient = to_numpy(pullback(ops.ones_like(values)))
    np.testing.assert_array_equal(gradient, 0)


def starts(
    norm,
    count=1500,
    run=0,
    seed=0,
    bounds=(-9.0, 9.0),
    shape=(3,),
    eps=0.5,
    random_start=True,
):
    x = random_images(count, shape)
    model = linear_model(np.ones((*shape, 2), np.float32))
    problem = problem_of(model, x, np.zeros(count), seed=seed, bounds=bounds)
    attack = PGD(
        eps=eps, steps=3, norm=norm, bounds=bounds, random_start=random_start
    )
    runs = ops.convert_to_tensor(np.full(count, run, np.int32))
    return to_numpy(attack.init(problem, runs)["x_adv"]) - x


def test_random_starts_are_uniform_in_the_linf_ball():
    delta = starts("linf")
    assert uniformity(delta / 0.5, lambda u: (u + 1) / 2) < 1.95
    assert np.abs(delta).max() > 0.499


def test_random_starts_are_uniform_in_the_l2_ball():
    delta = starts("l2") / 0.5
    radius = np.linalg.norm(delta.astype(np.float64), axis=1)
    assert uniformity(radius**3) < 1.95
    direction = delta / radius[:, None]
    # A coordinate of a point of the sphere in 3 dimensions is uniform.
    for axis in range(3):
        assert uniformity(direction[:, axis], lambda u: (u + 1) / 2) < 1.95


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_differ_between_runs_and_seeds(norm):
    first = starts(norm, 400)
    np.testing.assert_array_equal(first, starts(norm, 400))
    for other in (starts(norm, 400, run=1), starts(norm, 400, seed=1)):
        correlation = np.corrcoef(first.ravel(), other.ravel())[0, 1]
        assert abs(correlation) * np.sqrt(first.size) < 4.5


def test_normal_starts_are_a_thousandth_of_the_range():
    delta = starts("linf", random_start="normal") / 0.018
    assert abs(delta.mean()) * np.sqrt(delta.size) < 4.5
    spread = (delta.astype(np.float64) ** 2).mean() - 1
    assert abs(spread) * np.sqrt(delta.size / 2) < 4.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_normal_starts_keep_to_the_ball(norm):
    delta = starts(norm, random_start="normal", eps=0.01)
    lengths = length(norm, delta)
    assert 0.009 < lengths.max() <= 0.01 + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_keep_to_the_bounds(norm):
    delta = starts(norm, 200, bounds=(0.0, 1.0))
    x_start = random_images(200, (3,)) + delta
    assert x_start.min() >= -1e-6 and x_start.max() <= 1 + 1e-6
    assert length(norm, delta).max() <= 0.5 + 1e-6


def test_restarts_help_where_one_start_is_not_enough():
    # The gradient is zero unless the start lies in one corner of the ball,
    # from where a step leads out of the class.
    def plateau(x):
        pixel = ops.reshape(x, (-1, 4))[:, :2]
        corner = ops.sum(ops.relu(pixel - 0.6), axis=-1, keepdims=True)
        other = 8.0 * corner - 0.9
        return ops.concatenate([ops.zeros_like(other), other], axis=-1)

    x = random_images(100, (2, 2, 1), low=0.45, high=0.55)
    y = np.zeros(100, int)
    fooled = []
    for restarts in (1, 2, 8):
        attack = PGD(eps=0.15, steps=4, restarts=restarts)
        x_adv = attack(plateau, x, y)
        logits = to_numpy(plateau(ops.convert_to_tensor(x_adv)))
        fooled.append(logits.argmax(-1) != y)
    one, two, eight = fooled
    assert not (one & ~two).any() and not (two & ~eight).any()
    assert 0 < one.sum() < two.sum() < eight.sum()


def test_an_attack_without_random_start_ignores_its_seed():
    model, x = tiny_cnn(), random_images(10)
    y = predictions(model, x)
    settings = {"eps": 0.05, "steps": 3, "random_start": False}
    np.testing.assert_array_equal(
        PGD(**settings, seed=1)(model, x, y),
        PGD(**settings, seed=2)(model, x, y),
    )


def test_divergence_is_that_from_the_clean_prediction():
    kernel, bias = random_linear(3)
    model = linear_model(kernel, bias)
    attack = PGD(
        eps=0.1, steps=1, step_size=0.01, loss="kl_divergence", norm="l2"
    )
    clean = linear_logits(kernel, bias, IMAGES)
    problem = problem_of(model, IMAGES, clean.argmax(-1))
    problem.clean_logits = ops.convert_to_tensor(clean.astype(np.float32))
    # From a start of our own, as the direction from there is to be seen.
    x = np.clip(IMAGES + 0.05, 0.2, 0.8)
    state, _ = attack.step(problem, {"x_adv": ops.convert_to_tensor(x)})
    moved = linear_logits(kernel, bias, x)
    p, q = (np.exp(z - z.max(-1, keepdims=True)) for z in (clean, moved))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    slope = (q - p) @ kernel.reshape(-1, 3).T
    slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
    expected = x + 0.01 * slope.reshape(x.shape)
    delta = expected - IMAGES
    size = length("l2", delta).reshape(-1, 1, 1, 1)
    expected = IMAGES + delta * np.minimum(1, 0.1 / size)
    np.testing.assert_allclose(
        to_numpy(state["x_adv"]), expected.clip(0, 1), atol=2e-5
    )


def test_seeds_change_random_starts():
    model, x = tiny_cnn(), random_images(10)
    y = predictions(model, x)
    one, two = (PGD(eps=0.05, steps=3, seed=s)(model, x, y) for s in (1, 2))
    assert (one != two).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    "attack, label",
    [
        (FGSM(eps=0.1), "FGSM"),
        (FGSM(eps=0.1, norm="l2"), "FGSM-l2"),
        (PGD(eps=0.1, steps=20), "PGD20"),
        (PGD(eps=0.1, steps=20, loss="margin"), "PGD20-margin"),
        (
            PGD(eps=0.1, steps=9, restarts=5, loss="dlr", norm="l2"),
            "PGD9x5-dlr-l2",
        ),
        (PGD(eps=0.1, steps=9, targeted=True), "PGD9-targeted"),
        (PGD(eps=0.1, steps=9, name="mine"), "mine"),
    ],
    ids=str,
)
def test_labels_tell_attacks_from_their_siblings(attack, label):
    assert attack.label == label


def test_configurations_are_plain():
    attack = PGD(
        eps=np.float32(0.25), steps=np.int64(3), seed=np.int32(5), bounds=[0, 1]
    )
    assert json.loads(json.dumps(attack.config())) == {
        "attack": "PGD",
        "norm": "linf",
        "bounds": [0.0, 1.0],
        "seed": 5,
        "name": None,
        "eps": 0.25,
        "loss": "cross_entropy",
        "targeted": False,
        "steps": 3,
        "step_size": None,
        "random_start": True,
        "restarts": 1,
    }
