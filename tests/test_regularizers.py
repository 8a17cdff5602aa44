import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_wp import SimplexRegularizer, simplex
from keras_wp.initializers import SimplexVertices

DTYPES = ["float32", "float16", "bfloat16"]


def equation_3_8(kernel, s, alpha):
    """The second term of (3.8), from the paper's W, in float64."""
    w = np.asarray(kernel, dtype="float64").T
    classes = len(w)
    sigma = np.full((classes, classes), s**2 / (1 - classes))
    sigma[np.diag_indices(classes)] = s**2
    return alpha * math.sqrt(((w @ w.T - sigma) ** 2).sum())


def value_and_gradient(function, kernel):
    kernel = ops.convert_to_tensor(kernel)
    if keras.backend.backend() == "jax":
        import jax

        return jax.value_and_grad(function)(kernel)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(kernel)
        value = function(kernel)
    return value, tape.gradient(value, kernel)


def compiled(function):
    """The function, put through the backend's strongest optimizer (XLA)."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def finite_difference(kernel, direction, s, alpha, step=1e-6):
    ahead = equation_3_8(kernel + step * direction, s, alpha)
    behind = equation_3_8(kernel - step * direction, s, alpha)
    return (ahead - behind) / (2 * step)


@pytest.mark.parametrize("scale", [1e-3, 0.1, 30.0])
@pytest.mark.parametrize("spread", ["normal", "uniform", "positive"])
@pytest.mark.parametrize(
    ("dim", "num_classes"),
    [(1, 2), (640, 2), (2, 3), (9, 10), (256, 10), (99, 100), (640, 100)],
)
def test_penalty_is_the_term_of_3_8(rng, dim, num_classes, spread, scale):
    kernel = {
        "normal": rng.standard_normal,
        "uniform": lambda shape: rng.uniform(-1, 1, shape),
        "positive": rng.random,
    }[spread]((dim, num_classes))
    kernel = (scale * kernel).astype("float32")
    assert float(SimplexRegularizer()(kernel)) == pytest.approx(
        equation_3_8(kernel, 0.1, 100.0), rel=1e-6
    )


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1, 2), (9, 10), (30, 3)]),
    st.floats(1e-3, 1e3),
    st.floats(0, 1e4),
    st.sampled_from([1e-2, 1.0, 1e2]),
)
def test_penalty_is_the_term_of_3_8_for_any_s_and_alpha(
    seed, shape, s, alpha, scale
):
    rng = np.random.default_rng(seed)
    kernel = (s * scale * rng.standard_normal(shape)).astype("float32")
    assert float(SimplexRegularizer(s, alpha)(kernel)) == pytest.approx(
        equation_3_8(kernel, s, alpha), rel=1e-6
    )


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_penalty_does_not_cancel_next_to_the_optimum(rng, distance):
    kernel = simplex.vertices(10, 64, 0.1).T
    kernel += 0.1 * distance * rng.standard_normal(kernel.shape) / 8
    kernel = kernel.astype("float32")
    assert float(SimplexRegularizer()(kernel)) == pytest.approx(
        equation_3_8(kernel, 0.1, 100.0), rel=1e-6
    )


@pytest.mark.parametrize("distance", [10.0, 1e-2, 1e-4])
def test_compilation_does_not_undo_the_exact_arithmetic(rng, distance):
    kernel = simplex.vertices(10, 64, 0.1).T
    kernel += 0.1 * distance * rng.standard_normal(kernel.shape) / 8
    kernel = kernel.astype("float32")
    penalty = compiled(SimplexRegularizer())(ops.convert_to_tensor(kernel))
    assert float(penalty) == pytest.approx(
        equation_3_8(kernel, 0.1, 100.0), rel=1e-6
    )


def test_penalty_of_a_float64_kernel_is_computed_in_float64(rng, backend):
    if backend == "jax":
        pytest.skip("JAX has no float64 unless it is switched on")
    kernel = rng.standard_normal((64, 10))
    assert float(SimplexRegularizer()(kernel)) == pytest.approx(
        equation_3_8(kernel, 0.1, 100.0), rel=1e-14
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_penalty_is_float32_whatever_the_kernel(rng, dtype):
    kernel = ops.cast(rng.standard_normal((64, 10)), dtype)
    penalty = SimplexRegularizer()(kernel)
    assert keras.backend.standardize_dtype(penalty.dtype) == "float32"
    assert tuple(penalty.shape) == ()
    expected = equation_3_8(ops.cast(kernel, "float32"), 0.1, 100.0)
    assert float(penalty) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("s", "alpha"), [(1e-8, 1e-3), (1e8, 1e6)])
def test_extreme_settings_neither_overflow_nor_underflow(rng, s, alpha):
    kernel = (s * rng.standard_normal((16, 4))).astype("float32")
    penalty, gradient = value_and_gradient(SimplexRegularizer(s, alpha), kernel)
    expected = equation_3_8(kernel, s, alpha)
    assert float(penalty) == pytest.approx(expected, rel=1e-6)
    assert (ops.convert_to_numpy(gradient) != 0).all()


@pytest.mark.parametrize(
    ("dim", "num_classes"), [(1, 2), (2, 3), (64, 10), (99, 100), (640, 100)]
)
@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
def test_gradient_matches_finite_differences(rng, dim, num_classes, scale):
    kernel = (scale * rng.standard_normal((dim, num_classes))).astype("float32")
    _, gradient = value_and_gradient(SimplexRegularizer(), kernel)
    gradient = ops.convert_to_numpy(gradient).astype("float64")
    tolerance = 1e-5 * np.linalg.norm(gradient)
    along = gradient / np.linalg.norm(gradient)
    directions = [along] + [
        rng.standard_normal(kernel.shape) / math.sqrt(kernel.size)
        for _ in range(5)
    ]
    for direction in directions:
        assert (gradient * direction).sum() == pytest.approx(
            finite_difference(kernel, direction, 0.1, 100.0), abs=tolerance
        )


def test_gradient_keeps_its_direction_next_to_the_optimum(rng):
    kernel = simplex.vertices(10, 64, 0.1).T
    kernel += 1e-6 * rng.standard_normal(kernel.shape)
    kernel = kernel.astype("float32")
    _, gradient = value_and_gradient(SimplexRegularizer(), kernel)
    w = kernel.astype("float64")
    residual = w.T @ w - simplex.gram(10, 0.1)
    expected = 200.0 * w @ residual / np.linalg.norm(residual)
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient), expected, atol=1e-3
    )
    assert np.linalg.norm(expected) > 10


@pytest.mark.parametrize("s", [0.1, 1 / 3, 1 + 2**-24])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("dim", "num_classes"), [(1, 2), (64, 10), (128, 100)])
def test_gradient_is_exactly_zero_at_the_optimum(dim, num_classes, dtype, s):
    for kernel in (
        ops.cast(simplex.vertices(num_classes, dim, s).T, dtype),
        SimplexVertices(s)((dim, num_classes), dtype=dtype),
    ):
        _, gradient = value_and_gradient(SimplexRegularizer(s), kernel)
        gradient = ops.convert_to_numpy(ops.cast(gradient, "float32"))
        np.testing.assert_array_equal(gradient, np.zeros((dim, num_classes)))


def test_penalty_is_exactly_zero_at_an_optimum_without_rounding():
    kernel = np.array([[0.5, -0.5]], dtype="float32")
    penalty, gradient = value_and_gradient(SimplexRegularizer(0.5), kernel)
    assert float(penalty) == 0.0
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), [[0, 0]])


@pytest.mark.parametrize(
    "policy", ["float32", "mixed_bfloat16", "mixed_float16"]
)
def test_a_training_step_at_the_optimum_leaves_the_kernel_alone(policy):
    keras.config.set_dtype_policy(policy)
    head = keras.layers.Dense(
        10,
        use_bias=False,
        kernel_initializer=SimplexVertices(),
        kernel_regularizer=SimplexRegularizer(),
    )
    model = keras.Sequential([keras.Input((64,)), head])
    before = ops.convert_to_numpy(head.kernel)
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, logits: 0 * logits)
    history = model.fit(
        np.ones((4, 64)), np.zeros((4, 10)), batch_size=2, verbose=0
    )
    assert history.history["loss"][0] == pytest.approx(0, abs=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(head.kernel), before)


@pytest.mark.parametrize(
    "policy", ["float32", "mixed_bfloat16", "mixed_float16"]
)
def test_a_training_step_lowers_the_penalty(policy):
    keras.config.set_dtype_policy(policy)
    head = keras.layers.Dense(
        10, use_bias=False, kernel_regularizer=SimplexRegularizer()
    )
    model = keras.Sequential([keras.Input((64,)), head])
    before = float(head.losses[0])
    model.compile(keras.optimizers.SGD(1e-3), loss=lambda _, logits: 0 * logits)
    # A loss scale that starts too high may skip some of the first steps.
    model.fit(np.ones((40, 64)), np.zeros((40, 10)), batch_size=2, verbose=0)
    assert float(head.losses[0]) < 0.9 * before


@pytest.mark.parametrize(
    ("dim", "num_classes"), [(16, 2), (16, 3), (64, 10), (128, 100)]
)
def test_minimizing_the_penalty_reaches_the_ideal_angle(dim, num_classes):
    head = keras.layers.Dense(
        num_classes, use_bias=False, kernel_regularizer=SimplexRegularizer()
    )
    model = keras.Sequential([keras.Input((dim,)), head])
    # The gradient does not fade as the penalty does, so the step must.
    steps = 2000
    rate = keras.optimizers.schedules.ExponentialDecay(1e-3, steps, 1e-4)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9),
        loss=lambda _, logits: 0 * logits,
        steps_per_execution=20,
    )
    model.fit(
        np.zeros((steps, dim)),
        np.zeros((steps, num_classes)),
        batch_size=1,
        verbose=0,
    )
    assert simplex.min_angle(head.kernel) == pytest.approx(
        simplex.ideal_angle(num_classes), abs=1e-3
    )


def test_nan_in_the_kernel_shows_in_the_penalty():
    kernel = np.full((4, 3), 0.1, dtype="float32")
    kernel[1, 2] = np.nan
    assert math.isnan(float(SimplexRegularizer()(kernel)))


def test_alpha_of_zero_penalizes_nothing(rng):
    kernel = rng.standard_normal((8, 3)).astype("float32")
    regularizer = SimplexRegularizer(alpha=0)
    penalty, gradient = value_and_gradient(regularizer, kernel)
    assert float(penalty) == 0.0
    np.testing.assert_array_equal(
        ops.convert_to_numpy(gradient), np.zeros((8, 3))
    )
