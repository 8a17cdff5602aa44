"""Projections to hyperplanes in a box, and the search for the nearest one."""

import functools

import numpy as np
import pytest
from helpers import linear_logits, linear_model, to_numpy
from keras import ops

from keras_wp import _backend, norms
from keras_wp.attacks import boundary
from keras_wp.engine.problem import Problem
from keras_wp.inspection.classifier import Classifier

NORMS = ("linf", "l2")
BOUNDS = (0.0, 1.0)


def cases(rng, count=40, pixels=60, reach=0.9, side=1):
    """Points, many at a bound, and hyperplanes that can be reached."""
    x = rng.uniform(-0.3, 1.3, (count, pixels)).clip(0, 1)
    gradient = rng.standard_t(3, (count, pixels))
    gradient[:, ::7] = 0
    room = np.where(side * gradient > 0, x, 1 - x)
    most = (np.abs(gradient) * room).sum(1)
    gap = side * rng.uniform(0.001, reach, count) * most
    return tuple(np.float32(value) for value in (x, gap, gradient))


def shortest(x, gap, gradient, norm):
    """Length of the shortest step in the box, by bisection in float64."""
    x, gap, gradient = (np.float64(v) for v in (x, gap, gradient))
    away = np.sign(gradient) * np.sign(gap)[:, None]
    room = np.where(away > 0, x, 1 - x)
    rate = np.abs(gradient) if norm == "l2" else np.ones_like(x)
    low, high = np.zeros(len(x)), np.full(len(x), 1e6)
    for _ in range(200):
        t = (low + high) / 2
        steps = np.minimum(t[:, None] * rate, room) * (gradient != 0)
        short = (np.abs(gradient) * steps).sum(1) < np.abs(gap)
        low, high = np.where(short, t, low), np.where(short, high, t)
    return np.linalg.norm(steps, np.inf if norm == "linf" else 2, axis=1)


@functools.cache
def step_from(norm):
    """The compiled `Hyperplane.step_from`."""

    def steps(x, gap, gradient, z):
        plane = boundary.Hyperplane(x, gap, gradient, norms.get(norm), BOUNDS)
        return plane.step_from(z)

    return _backend.compile(steps)


def step(x, gap, gradient, norm):
    return to_numpy(step_from(norm)(x, gap, gradient, x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("side", [-1, 1])
def test_step_to_a_hyperplane_is_the_shortest_in_the_box(
    norm, scale, side, rng
):
    x, gap, gradient = cases(rng, side=side)
    steps = step(x, gap * np.float32(scale), gradient * np.float32(scale), norm)
    landed = (x + steps).astype(np.float64)
    assert landed.min() >= -1e-7 and landed.max() <= 1 + 1e-7
    left = gap + (gradient.astype(np.float64) * steps).sum(1)
    np.testing.assert_allclose(left / gap, 0, atol=2e-5)
    np.testing.assert_allclose(
        to_numpy(norms.get(norm).length(ops.convert_to_tensor(steps))),
        shortest(x, gap, gradient, norm),
        rtol=2e-5,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_step_starts_where_it_is_asked_to(norm, rng):
    x, gap, gradient = cases(rng)
    z = rng.uniform(0.2, 0.8, x.shape).astype(np.float32)
    at_z = gap + (gradient * (z - x)).sum(1)
    np.testing.assert_allclose(
        to_numpy(step_from(norm)(x, gap, gradient, z)),
        step(z, at_z, gradient, norm),
        atol=1e-5,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_step_to_a_hyperplane_out_of_reach_ends_in_the_corner(norm, rng):
    x, gap, gradient = cases(rng)
    steps = step(x, gap * 1e4, gradient, norm)
    corner = np.where(gradient > 0, 0.0, 1.0)
    corner = np.where(gradient == 0, x, corner)
    # In l2, what a pixel of hardly any slope could add is left aside.
    slope = np.abs(gradient) > 0.01
    np.testing.assert_allclose((x + steps)[slope], corner[slope], atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_means_no_step(norm, rng):
    x, gap, gradient = cases(rng)
    gradient[::2] = 0
    steps = step(x, gap, gradient, norm)
    assert not steps[::2].any()
    assert np.abs(steps[1::2]).max(1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_step_does_not_depend_on_the_rows_beside_it(norm, rng):
    easy = [value[:8] for value in cases(rng, reach=0.01)]
    hard = cases(rng, reach=0.999)
    together = [np.concatenate(pair) for pair in zip(easy, hard, strict=True)]
    np.testing.assert_array_equal(step(*easy, norm), step(*together, norm)[:8])


def survey_of(kernel, bias, x, candidates=None):
    model = linear_model(kernel, bias)
    logits = linear_logits(kernel, bias, x).astype(np.float32)
    y = logits.argmax(1).astype(np.int32)
    keys = np.zeros((len(x), 2), np.uint32)
    tensors = map(ops.convert_to_tensor, (x, y, y, keys, logits))
    problem = Problem(Classifier(model), *tensors)
    return problem, boundary.begin_survey(problem, candidates), model


def look_until_settled(problem, survey, norm):
    """The survey, and how many looks each image took."""

    def look(survey):
        logits, pullback = problem.linearize(problem.x)
        return boundary.look(problem, survey, logits, pullback, norms.get(norm))

    compiled = _backend.compile(look)
    looks = np.zeros(len(problem.x), int)
    settled = np.zeros(len(looks), bool)
    while not settled.all():
        looks += ~settled
        survey, now = compiled(survey)
        settled |= to_numpy(now)
    return survey, looks


def distances(kernel, bias, x, norm):
    logits = linear_logits(kernel, bias, x)
    y = logits.argmax(1)
    weights = kernel.astype(np.float64).reshape(-1, kernel.shape[-1])
    rows = weights[:, None, :] - weights[:, y].T[None].transpose(2, 1, 0)
    dual = np.linalg.norm(rows, 1 if norm == "linf" else 2, axis=0)
    gaps = logits.max(1, keepdims=True) - logits
    gaps[np.arange(len(x)), y] = np.inf
    dual[np.arange(len(x)), y] = 1
    return gaps / dual


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_look_finds_the_nearest_boundary_with_few_gradients(norm, scale, rng):
    kernel = (scale * rng.normal(size=(5, 5, 1, 10))).astype(np.float32)
    bias = (scale * rng.normal(size=10)).astype(np.float32)
    x = rng.uniform(size=(50, 5, 5, 1)).astype(np.float32)
    problem, survey, model = survey_of(kernel, bias, x)
    survey, looks = look_until_settled(problem, survey, norm)
    nearest = distances(kernel, bias, x, norm).min(1)
    np.testing.assert_allclose(to_numpy(survey["nearness"]), nearest, rtol=1e-3)
    assert looks.max() <= 9
    assert looks.mean() < 6
    del model


def test_look_considers_the_candidates_only(rng):
    kernel = rng.normal(size=(5, 5, 1, 6)).astype(np.float32)
    # Its boundary is by far the nearest, but its logit is not.
    kernel[..., 5] *= 50
    bias = np.float32([0, 0, 0, 0, 0, -300])
    x = rng.uniform(0.4, 0.6, (20, 5, 5, 1)).astype(np.float32)
    problem, survey, model = survey_of(kernel, bias, x, candidates=3)
    rivals = to_numpy(survey["rivals"])
    assert (rivals.sum(1) == 2).all()
    assert not rivals[np.arange(20), to_numpy(problem.y)].any()
    survey, _ = look_until_settled(problem, survey, "l2")
    every = distances(kernel, bias, x, "l2")
    within = np.where(rivals, every, np.inf).min(1)
    np.testing.assert_allclose(to_numpy(survey["nearness"]), within, rtol=1e-3)
    del model


def test_leave_forgets_what_belongs_to_the_point(rng):
    kernel = rng.normal(size=(5, 5, 1, 6)).astype(np.float32)
    x = rng.uniform(size=(4, 5, 5, 1)).astype(np.float32)
    problem, survey, model = survey_of(kernel, np.zeros(6, np.float32), x)
    survey, _ = look_until_settled(problem, survey, "linf")
    moved = np.array([True, False, True, False])
    left = boundary.leave(survey, ops.convert_to_tensor(moved))
    for name in ("seen", "gap", "gradient"):
        assert not to_numpy(left[name])[moved].any()
        np.testing.assert_array_equal(
            to_numpy(left[name])[~moved], to_numpy(survey[name])[~moved]
        )
    assert np.isinf(to_numpy(left["nearness"])[moved]).all()
    np.testing.assert_array_equal(
        to_numpy(left["norms"]), to_numpy(survey["norms"])
    )
    del model
