import numpy as np
import pytest
from ascent import IMAGES, length, problem_of, random_linear
from helpers import (
    linear_logits,
    linear_model,
    predictions,
    to_numpy,
)
from keras import ops

from keras_wp import _noise
from keras_wp.attacks import FGSM, PGD
from keras_wp.engine.problem import Problem
from keras_wp.inspection import classifier

EPS = {"linf": 0.05, "l2": 0.2}


def dual_length(norm, weights):
    return np.linalg.norm(weights.reshape(-1), 1 if norm == "linf" else 2)


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


@pytest.mark.once
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


@pytest.mark.once
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


@pytest.mark.once
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
