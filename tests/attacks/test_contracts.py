"""What every attack promises, whatever it does: a new one is one line."""

import contextlib
import dataclasses
import json

import hypothesis
import keras
import numpy as np
import pytest
from contracts import ATTACKS, CLASSES, COUNT, LINF
from helpers import (
    compiled_functions,
    predictions,
    random_images,
    snapshot,
    tiny_cnn,
    to_numpy,
)
from hypothesis import strategies as st
from keras import ops

from keras_wp import _backend, attacks
from keras_wp.engine import programs


def for_each(cases, **options):
    """All tests of an attack follow each other, and compile it once."""
    return pytest.mark.parametrize("case", cases, scope="module", **options)


each_attack = for_each(ATTACKS.values(), ids=ATTACKS)


def quickly(name, quick):
    """A case of the table, left to the slow tests unless `quick`."""
    marks = () if quick else pytest.mark.slow
    return pytest.param(ATTACKS[name], id=name, marks=marks)


# A suite compiles the programs of all its parts, which the table has as well.
each_attack_but_suites_quickly = for_each(
    [quickly(name, name != "autoattack") for name in ATTACKS]
)

# One form of each kind of attack, and those with code of their own, where
# everything is compiled anew.
KINDS = {case.kind: name for name, case in reversed(ATTACKS.items())}

FEW = {*KINDS.values(), "pgd-restarts", "fab-l2-targets", "square-l2"}

each_kind_quickly = for_each(
    [quickly(name, name in FEW - {"autoattack"}) for name in ATTACKS]
)

# With one slot everything is compiled once more.
each_attack_alone = for_each(
    [quickly(name, name.startswith(("fgsm", "pgd"))) for name in ATTACKS]
)


@pytest.fixture(autouse=True)
def slots(monkeypatch):
    """Fewer slots than images, so that every call refills them."""
    use_slots(monkeypatch, 7)


def use_slots(monkeypatch, count):
    monkeypatch.setattr(_backend, "preferred_slots", lambda size: count)


@contextlib.contextmanager
def weights(model, values):
    before = model.get_weights()
    model.set_weights(values)
    try:
        yield
    finally:
        model.set_weights(before)


def length(norm, delta):
    flat = delta.astype(np.float64).reshape(len(delta), -1)
    return np.linalg.norm(flat, np.inf if norm == "linf" else 2, axis=1)


def check_ball_and_bounds(attack, eps, x, x_adv):
    wide, origin = np.float64(x_adv), np.float64(x)
    low, high = attack.bounds
    assert np.isfinite(wide).all()
    assert wide.min() >= low - 1e-6
    assert wide.max() <= high + 1e-6
    if eps is not None:
        assert length(attack.norm, wide - origin).max() <= eps + 1e-6


def check_same(x_adv, expected):
    """The same steps, rounding aside.

    A sign turns the rounding of a gradient that is almost zero into a whole
    step of one pixel, and the root of what is left of a budget multiplies it:
    hence not all pixels, and not to the last digit.
    """
    close = np.isclose(x_adv, expected, rtol=0, atol=LINF / 100)
    assert close.mean() >= 0.99


@each_attack
@pytest.mark.parametrize(
    "dtype, kind",
    [
        ("float16", "array"),
        ("bfloat16", "tensor"),
        # To convert is the same for all attacks.
        pytest.param("float32", "tensor", marks=pytest.mark.slow),
        pytest.param("float64", "array", marks=pytest.mark.slow),
    ],
)
def test_shape_dtype_and_kind_are_kept(case, dtype, kind, model, x):
    if kind == "array":
        x = x.astype(dtype)
    else:
        x = ops.cast(ops.convert_to_tensor(x), dtype)
    attack = case()
    x_adv = attack(model, x, case.labels(model, np.float32(to_numpy(x))))
    assert type(x_adv) is type(x)
    assert x_adv.dtype == x.dtype
    assert x_adv.shape == x.shape
    check_ball_and_bounds(attack, case.eps, to_numpy(x), to_numpy(x_adv))
    assert (to_numpy(x_adv) != to_numpy(x)).any()


@each_attack
@hypothesis.settings(max_examples=6)
@hypothesis.given(
    eps=st.floats(1e-4, 2.0),
    seed=st.integers(0, 2**31),
    form=st.sampled_from(["any", "black and white", "one shade", "faint"]),
)
def test_ball_and_bounds_are_kept(case, model, eps, seed, form):
    x = random_images(COUNT, seed=seed)
    if form == "black and white":
        x = x.round()
    elif form == "one shade":
        x[:] = x[:, :1, :1, :1]
    elif form == "faint":
        x *= 1e-6
    changes = {} if case.eps is None else {"eps": eps}
    attack = case(seed=seed, **changes)
    x_adv = attack(model, x, case.labels(model, x))
    check_ball_and_bounds(attack, changes.get("eps"), x, x_adv)


@pytest.mark.once
@each_kind_quickly
def test_other_bounds_are_kept(case, model, x):
    attack = case(bounds=(-1.0, 1.5))
    x = x * 2.5 - 1.0
    x_adv = attack(model, x, case.labels(model, x))
    check_ball_and_bounds(attack, case.eps, x, x_adv)


@each_kind_quickly
def test_results_depend_on_no_other_image(case, model, monkeypatch):
    check_slots_do_not_matter(case, 128, model, monkeypatch)


@each_attack_alone
def test_results_are_those_of_images_alone(case, model, monkeypatch):
    check_slots_do_not_matter(case, 1, model, monkeypatch)


def check_slots_do_not_matter(case, count, model, monkeypatch):
    x = random_images(24)
    y = case.labels(model, x)
    attack = case()
    expected = attack(model, x, y)
    order = np.random.default_rng(4).permutation(24)
    use_slots(monkeypatch, count)
    shuffled = attack(model, x[order], y[order])
    check_same(shuffled, expected[order])
    np.testing.assert_array_equal(
        case.fooled(model, shuffled, y[order]),
        case.fooled(model, expected, y)[order],
    )


@pytest.mark.once
@each_kind_quickly
def test_steps_of_one_call_are_those_of_many(case, model, monkeypatch):
    x = random_images(COUNT)
    y = case.labels(model, x)

    def images(most):
        monkeypatch.setattr(_backend, "steps_at_once", lambda: most)
        monkeypatch.setattr(programs, "_LONGEST_CALL", np.inf)
        return case()(model, x, y)

    check_same(images(4), images(1))


@each_attack
def test_the_same_call_gives_the_same_result(case, model, x):
    y = case.labels(model, x)
    first = case()(model, x, y)
    # Nor may anything hang on the state of a global generator.
    keras.utils.set_random_seed(123)
    np.testing.assert_array_equal(case()(model, x, y), first)


@contextlib.contextmanager
def eager_functions(backend):
    if backend == "jax":
        import jax

        with jax.disable_jit():
            yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def test_functions_run_eagerly_where_that_is_asked_for(backend):
    if backend == "jax":
        pytest.skip("JAX differentiates with tracers, which have no values")
    seen = []

    def model(x):
        seen.append(x.numpy().shape)
        return ops.stack([x[:, 0, 0, 0], x[:, 1, 1, 0]], axis=-1)

    x = random_images(3)
    y = np.argmax(x[:, [0, 1], [0, 1], 0], axis=-1)
    with eager_functions(backend):
        attacks.PGD(eps=0.1, steps=2)(model, x, y)
    assert seen


@pytest.mark.once
@each_attack_but_suites_quickly
def test_compiled_equals_eager(case, model, backend):
    x = random_images(8)
    y = case.labels(model, x)
    compiled = case()(model, x, y)
    with eager_functions(backend):
        eager = case()(model, x, y)
    check_same(compiled, eager)
    np.testing.assert_array_equal(
        case.fooled(model, compiled, y), case.fooled(model, eager, y)
    )


@each_kind_quickly
def test_nothing_is_traced_twice_and_fresh_weights_are_seen(case, model):
    fresh = tiny_cnn(num_classes=CLASSES, dropout=0.5, seed=9, scale=2.0)

    def traces():
        return [fn.traces for fn in compiled_functions(fresh).values()]

    x = random_images(40)
    before = case()(fresh, x, case.labels(fresh, x))
    # Never two; a suite may reach its last part, or refill, only later.
    assert max(traces()) == 1
    # Other weights, images, seeds, names and budgets.
    fresh.set_weights(model.get_weights())
    x = random_images(COUNT, seed=8)
    y = case.labels(model, x)
    changes = {} if case.eps is None else {"eps": case.eps / 2}
    attack = case(seed=5, name="other", **changes)
    after = attack(fresh, x, y)
    assert max(traces()) == 1
    assert (before[:COUNT] != after).any()
    check_same(after, attack(model, x, y))


@each_attack
def test_weights_statistics_and_input_are_untouched(case, model, x):
    before = snapshot(model)
    y = case.labels(model, x)
    x_before, y_before = x.copy(), y.copy()
    case()(model, x, y)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


@each_attack
@pytest.mark.parametrize(
    "dtype", ["float16", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_settled_images_come_back_bit_for_bit(case, dtype, model):
    x = random_images(COUNT).astype(dtype)
    # Off by rounding, at both bounds and in the fourth of the images that
    # has nothing to do.
    x[::4, 0, 0, 0] = 1 + 5e-7
    x[::4, 0, 1, 0] = -5e-7
    x[::4, 0, 2, 0] = -0.0
    y = case.labels(model, np.float32(x).clip(0, 1))
    x_adv = case()(model, x, y)
    assert x_adv[::4].tobytes() == x[::4].tobytes()
    assert (x_adv[1::4] != x[1::4]).any()


@each_attack
def test_images_that_are_all_settled_come_back(case, model, x):
    y = predictions(model, x)
    y = y if case.targeted else (y + 1) % CLASSES
    x_adv = case()(model, x, y)
    assert x_adv is not x
    assert x_adv.tobytes() == x.tobytes()


@each_attack
def test_the_attack_does_harm(case, model):
    x = random_images(40, seed=3)
    y = case.labels(model, x)
    settled = np.arange(40) % 4 == 0
    fooled = case.fooled(model, case()(model, x, y), y)
    assert fooled[settled].all()
    assert fooled[~settled].mean() >= case.fools


@each_attack
@pytest.mark.parametrize(
    "scale", [0.0, pytest.param(1e-4, marks=pytest.mark.slow), 1e4]
)
def test_models_of_any_scale_are_borne(case, scale, model, x):
    # At 0 the output is constant and no gradient leads anywhere.
    values = [np.array(value) for value in model.get_weights()]
    head = next(i for i, v in enumerate(values) if v.shape == (8, CLASSES))
    values[head] *= scale
    values[head + 1] *= scale or 1.0
    with weights(model, values):
        x_adv = case()(model, x, case.labels(model, x))
    check_ball_and_bounds(case(), case.eps, x, x_adv)


@each_attack
def test_attacks_are_immutable_values(case):
    attack = case()
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.seed = 1
    assert attack == case()
    assert hash(attack) == hash(case())
    assert attack != case(seed=1)
    assert case(name="mine").label == "mine"
    assert attack.label == attack.default_name


@each_attack
def test_configurations_are_plain_and_complete(case):
    attack = case()
    config = json.loads(json.dumps(attack.config()))
    assert config["attack"] == type(attack).__name__
    # What is left out, as a surrogate that there is none of, is the default.
    names = [field.name for field in dataclasses.fields(attack)]
    fields = {name: config[name] for name in names if name in config}
    assert type(attack)(**fields) == attack
