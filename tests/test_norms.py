import hypothesis
import numpy as np
import pytest
from helpers import to_numpy, uniformity
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from keras_wp import _noise, norms

NORMS = ("linf", "l2")

numbers = st.floats(-2.0, 2.0, width=32, allow_subnormal=False)
images = hnp.arrays(
    np.float32, st.just((3, 2, 2, 1)), elements=numbers, fill=st.nothing()
)
radii = st.floats(2.0**-10, 3.0, width=32)


def length(norm, delta):
    flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
    order = np.inf if norm == "linf" else 2
    return np.linalg.norm(flat, order, axis=1)


def project(norm, delta, eps):
    return to_numpy(norms.get(norm).project(ops.convert_to_tensor(delta), eps))


def steepest(norm, grad):
    return to_numpy(norms.get(norm).steepest(ops.convert_to_tensor(grad)))


def draw(norm, count, shape, eps, seed=0):
    keys = _noise.seeded(np.zeros((count, 2), np.uint32), seed)
    keys = keys + np.arange(2 * count, dtype=np.uint32).reshape(-1, 2)
    keys = ops.convert_to_tensor(keys)
    return to_numpy(norms.get(norm).sample(keys, shape, eps))


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(delta=images, eps=radii)
def test_projection_is_feasible(norm, delta, eps):
    assert (length(norm, project(norm, delta, eps)) <= eps * (1 + 1e-6)).all()


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(delta=images, eps=radii)
def test_projection_is_idempotent(norm, delta, eps):
    once = project(norm, delta, eps)
    np.testing.assert_allclose(
        project(norm, once, eps), once, rtol=3e-7, atol=0
    )


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(delta=images, other=images, eps=radii)
def test_projection_is_the_nearest_point(norm, delta, other, eps):
    # The nearest point p of a convex set is the one with
    # <delta - p, z - p> <= 0 for all z of the set.
    p = project(norm, delta, eps).astype(np.float64).reshape(3, -1)
    z = project(norm, other, eps).astype(np.float64).reshape(3, -1)
    inner = ((delta.astype(np.float64).reshape(3, -1) - p) * (z - p)).sum(1)
    assert (inner <= 1e-5).all()


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(delta=images, eps=radii)
def test_projection_leaves_interior_points_alone(norm, delta, eps):
    inside = length(norm, delta) < eps * (1 - 1e-6)
    np.testing.assert_array_equal(
        project(norm, delta, eps)[inside], delta[inside]
    )


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(delta=images, eps=radii)
def test_projection_keeps_the_direction_of_exterior_points(norm, delta, eps):
    outside = length(norm, delta) > eps * (1 + 1e-6)
    hypothesis.assume(outside.any())
    projected = project(norm, delta, eps)[outside]
    np.testing.assert_allclose(length(norm, projected), eps, rtol=1e-6)
    assert (projected * delta[outside] >= 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e10, 1e30])
def test_length_is_right_at_any_scale(norm, scale, rng):
    delta = (scale * rng.normal(size=(5, 4, 3, 2))).astype(np.float32)
    actual = to_numpy(norms.get(norm).length(ops.convert_to_tensor(delta)))
    assert actual.shape == (5,)
    np.testing.assert_allclose(actual, length(norm, delta), rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_zero_has_no_length_and_no_direction(norm):
    zero = np.zeros((2, 3, 3, 1), np.float32)
    lengths = norms.get(norm).length(ops.convert_to_tensor(zero))
    np.testing.assert_array_equal(to_numpy(lengths), [0, 0])
    np.testing.assert_array_equal(project(norm, zero, 0.1), zero)
    np.testing.assert_array_equal(steepest(norm, zero), zero)


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(grad=images)
def test_steepest_direction_reaches_the_dual_norm(norm, grad):
    direction = steepest(norm, grad)
    moving = np.abs(grad).max(axis=(1, 2, 3)) > 0
    np.testing.assert_allclose(
        length(norm, direction), np.where(moving, 1.0, 0.0), rtol=1e-6
    )
    dual = np.linalg.norm(
        grad.astype(np.float64).reshape(3, -1),
        1 if norm == "linf" else 2,
        axis=1,
    )
    rise = (grad.astype(np.float64) * direction).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(rise, dual, rtol=1e-6)
    found = to_numpy(norms.get(norm).dual(ops.convert_to_tensor(grad)))
    np.testing.assert_allclose(found, dual, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-4, 1e4, 1e20, 1e30])
def test_steepest_direction_is_free_of_scale(norm, scale, rng):
    grad = rng.normal(size=(4, 3, 3, 2)).astype(np.float32)
    # A scale of each image's own: none may leak to its neighbours.
    scales = np.array([scale, 1.0, 1.0 / scale, 1.0], np.float32)
    np.testing.assert_allclose(
        steepest(norm, grad * scales.reshape(-1, 1, 1, 1)),
        steepest(norm, grad),
        rtol=1e-6,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_images_do_not_touch_each_other(norm, rng):
    delta = rng.normal(size=(6, 3, 3, 1)).astype(np.float32)
    for fn in (lambda d: project(norm, d, 0.5), lambda d: steepest(norm, d)):
        apart = np.concatenate([fn(delta[i : i + 1]) for i in range(6)])
        np.testing.assert_allclose(fn(delta), apart, rtol=3e-7)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1,), (3,), (4, 4, 3)])
@pytest.mark.parametrize("eps", [8 / 255, 3.0])
def test_samples_lie_in_the_ball(norm, shape, eps):
    samples = draw(norm, 500, shape, eps)
    assert samples.shape == (500, *shape)
    assert samples.dtype == np.float32
    assert length(norm, samples).max() <= eps * (1 + 1e-6)


def test_linf_samples_are_uniform():
    samples = draw("linf", 2000, (2, 2, 1), 0.3) / 0.3
    assert uniformity(samples, lambda x: (x + 1) / 2) < 1.95


@pytest.mark.once
@pytest.mark.parametrize("dim", [1, 2, 3, 12])
def test_l2_samples_have_the_radius_of_a_uniform_ball(dim):
    samples = draw("l2", 4000, (dim,), 0.7) / 0.7
    radius = np.linalg.norm(samples.astype(np.float64), axis=1)
    assert uniformity(radius**dim) < 1.95


def test_l2_samples_are_uniform_in_each_coordinate():
    # A slice of the unit ball in three dimensions has the area of a disk:
    # the density of a coordinate is (3/4)(1 - x^2).
    samples = draw("l2", 4000, (3,), 2.0) / 2.0
    for axis in range(3):
        assert (
            uniformity(samples[:, axis], lambda x: 0.5 + 0.75 * (x - x**3 / 3))
            < 1.95
        )
    covariance = np.cov(samples.astype(np.float64).T)
    np.testing.assert_allclose(covariance, np.eye(3) / 5, atol=0.015)


@pytest.mark.parametrize("name", NORMS)
def test_get_returns_the_norm_of_that_name(name):
    norm = norms.get(name)
    assert norm.name == name
    assert norms.get(norm) is norm
    assert repr(norm) == f"<norm {name}>"


@pytest.mark.parametrize("name", ["l1", None, 2, ["linf"]])
def test_get_refuses_what_is_no_norm(name):
    with pytest.raises(ValueError) as error:
        norms.get(name)
    assert str(error.value) == (
        "Invalid value for argument `norm`. Expected one of ['l2', 'linf']. "
        f"Received: norm={name!r}"
    )


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint32", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 1)])
def test_select_takes_whole_images(dtype, shape, rng):
    yes, no = (rng.integers(0, 2, (5, *shape)).astype(dtype) for _ in range(2))
    mask = np.array([True, False, False, True, False])
    chosen = to_numpy(
        norms.select(*map(ops.convert_to_tensor, (mask, yes, no)))
    )
    assert chosen.dtype == to_numpy(ops.convert_to_tensor(yes)).dtype
    expected = np.stack([(yes if m else no)[i] for i, m in enumerate(mask)])
    np.testing.assert_array_equal(chosen, expected)
