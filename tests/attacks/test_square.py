"""Square: schedule, patches and proposals against the paper's text."""

import numpy as np
import pytest
from keras import ops
from squares import EPS, linear_model

from keras_wp import _backend, _noise
from keras_wp.attacks import patches, square
from keras_wp.attacks.square import Square
from keras_wp.engine import stream
from keras_wp.engine.problem import Problem


def published_share(iteration, steps, rescale, p_init=0.8):
    """The schedule of section 3.3 and of the authors' `p_selection`."""
    if rescale:
        iteration = int(iteration / steps * 10000)
    for last, divisor in (
        (10, 1),
        (50, 2),
        (200, 4),
        (500, 8),
        (1000, 16),
        (2000, 32),
        (4000, 64),
        (6000, 128),
        (8000, 256),
    ):
        if iteration <= last:
            return p_init / divisor
    return p_init / 512


def published_pattern(height, width):
    """Equation 2 and the text after it, pixel by pixel."""

    def pyramid(rows, columns):
        values = np.zeros((rows, columns))
        middle = rows // 2, columns // 2
        rings = max(rows // 2, columns // 2) + 1
        for row in range(rows):
            for column in range(columns):
                away = max(abs(row - middle[0]), abs(column - middle[1]))
                values[row, column] = sum(
                    1 / k**2 for k in range(away + 1, rings + 1)
                )
        return values

    upper = height // 2
    values = np.zeros((height, width))
    values[:upper] = pyramid(upper, width)
    values[upper:] = -pyramid(height - upper, width)
    return values / np.linalg.norm(values)


def keys_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return ops.convert_to_tensor(
        rng.integers(0, 2**32, (count, 2), dtype=np.uint32)
    )


def problem_of(x, y, model=None, bounds=(0.0, 1.0)):
    tensors = (x, np.int32(y), np.int32(y))
    return Problem(
        model,
        *map(ops.convert_to_tensor, tensors),
        keys_of(len(x)),
        ops.zeros((len(x), 10)),
        bounds=bounds,
    )


def begin(attack, problem):
    state = attack.init(problem, ops.zeros_like(problem.y))
    return {**state, "iteration": ops.zeros_like(problem.y)}


def run_steps(attack, problem, steps):
    """States before each step, and the points examined."""
    state = begin(attack, problem)
    step = _backend.compile(lambda state: attack.step(problem, state))
    states, examined = [], []
    for _ in range(steps):
        states.append(state)
        iteration = state["iteration"] + 1
        state, (x, _) = step(state)
        state = {**state, "iteration": iteration}
        examined.append(np.asarray(x))
    return [*states, state], examined


def proposals(move, grid, sizes, stage, clean, best):
    """What `move` makes of the best images so far."""
    run = _backend.compile(
        lambda keys, stage, clean, best: move(
            keys,
            grid,
            sizes=sizes,
            stage=stage,
            clean=clean,
            best=best,
            eps=EPS,
        )
    )
    tensors = map(ops.convert_to_tensor, (stage, clean, best))
    return np.asarray(run(keys_of(len(clean)), *tensors))


@pytest.mark.parametrize("steps", [100, 999, 5000, 10000])
@pytest.mark.parametrize("rescale", [True, False])
def test_schedule_is_that_of_the_paper(steps, rescale):
    starts = square.halvings(steps, rescale)
    for iteration in range(0, steps, 1 if steps < 5000 else 7):
        stage = sum(iteration >= start for start in starts)
        assert 0.8 / 2**stage == published_share(iteration, steps, rescale)


def test_constants_are_those_of_the_paper():
    # Andriushchenko et al., ECCV 2020, section 5.1 (p = 0.8 for l-inf; the
    # margin loss) and Croce and Hein, ICML 2020, section 5 (5000 queries).
    attack = Square(eps=EPS)
    assert (attack.steps, attack.p_init, attack.loss) == (5000, 0.8, "margin")
    assert attack.restarts == 1


@pytest.mark.parametrize(
    "shape, odd, sides",
    [
        ((32, 32, 3), False, [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]),
        ((28, 28, 1), False, [25, 18, 13, 9, 6, 4, 3, 2, 2, 1]),
        ((32, 32, 3), True, [29, 21, 15, 11, 7, 5, 5, 3, 3, 3]),
    ],
)
def test_patches_are_squares_of_the_scheduled_share(shape, odd, sides):
    shares = 0.8 / 2.0 ** np.arange(10)
    sizes = patches.Grid(shape).patch_sizes(shares, odd)
    np.testing.assert_array_equal(sizes, np.stack([sides, sides], axis=1))


def test_patches_of_a_vector_lie_in_its_only_row():
    sizes = patches.Grid((100,)).patch_sizes([0.8, 0.4, 0.001])
    np.testing.assert_array_equal(sizes, [[1, 81], [1, 36], [1, 1]])


@pytest.mark.parametrize("size", [(3, 3), (7, 7), (6, 6), (29, 29), (1, 1)])
def test_pattern_is_two_pyramids(size):
    found = patches.pattern(*size)
    np.testing.assert_allclose(found, published_pattern(*size), rtol=1e-12)
    assert np.linalg.norm(found) == pytest.approx(1.0)


def test_a_flat_pattern_is_parted_in_its_width():
    found = patches.pattern(1, 9)
    assert found.shape == (1, 9)
    assert (found[0, :4] > 0).all()
    assert (found[0, 4:] < 0).all()


@pytest.mark.once
def test_windows_reach_every_place_equally_often():
    count, grid = 9000, patches.Grid((5, 4, 1))
    sizes = np.tile(np.int32([[3, 2]]), (count, 1))
    rows, columns, inside = map(np.asarray, grid.window(keys_of(count), sizes))
    assert (inside.sum(axis=(1, 2)) == 6).all()
    places = np.stack([-rows[:, 0, 0], -columns[:, 0, 0]], axis=1)
    found, times = np.unique(places, axis=0, return_counts=True)
    assert len(found) == 3 * 3
    # Five deviations of a binomial count of 9000 draws of odds 1/9.
    assert np.abs(times - 1000).max() < 5 * np.sqrt(9000 * 8 / 81)
    top, left = places[0]
    patch = np.zeros((5, 4), bool)
    patch[top : top + 3, left : left + 2] = True
    np.testing.assert_array_equal(inside[0], patch)


def test_each_image_has_a_window_of_its_own_size():
    grid = patches.Grid((8, 8, 1))
    sizes = np.int32([[1, 1], [3, 3], [8, 8], [2, 5]])
    _, _, inside = grid.window(keys_of(4), sizes)
    filled = np.asarray(inside).sum(axis=(1, 2))
    np.testing.assert_array_equal(filled, sizes.prod(axis=1))


@pytest.mark.once
def test_linf_starts_with_vertical_stripes():
    x = np.full((20, 6, 5, 3), 0.5, np.float32)
    problem = problem_of(x, np.zeros(20))
    start = np.asarray(begin(Square(eps=EPS), problem)["x_adv"]) - x
    np.testing.assert_allclose(np.abs(start), EPS, rtol=1e-5)
    np.testing.assert_array_equal(start, start[:, :1].repeat(6, axis=1))
    assert 0.3 < (start[:, 0] > 0).mean() < 0.7


@pytest.mark.once
def test_l2_starts_with_tiles_of_patterns():
    x = np.full((20, 17, 15, 2), 0.5, np.float32)
    problem = problem_of(x, np.zeros(20), bounds=(-9.0, 9.0))
    attack = Square(eps=EPS, norm="l2", bounds=(-9.0, 9.0))
    start = np.asarray(begin(attack, problem)["x_adv"]) - x
    lengths = np.linalg.norm(start.reshape(20, -1), axis=1)
    np.testing.assert_allclose(lengths, EPS, rtol=1e-5)
    # Five tiles of 3 pixels, in the middle of 17.
    assert not start[:, [0, 16]].any()
    upright = published_pattern(3, 3)
    tiles = start[:, 1:16].reshape(20, 5, 3, 5, 3, 2)
    tiles = tiles.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3, 3)
    seen = set()
    for tile in tiles / np.linalg.norm(tiles, axis=(1, 2), keepdims=True):
        fits = [
            np.abs(tile - sign * pattern).max() < 1e-4
            for sign in (1, -1)
            for pattern in (upright, upright.T)
        ]
        assert sum(fits) == 1
        seen.add(fits.index(True))
    assert seen == {0, 1, 2, 3}


def test_linf_proposals_move_one_patch_to_the_faces_of_the_ball(rng):
    grid = patches.Grid((9, 9, 3))
    clean = rng.uniform(0.3, 0.7, (30, 9, 9, 3)).astype("float32")
    best = clean + rng.uniform(-EPS, EPS, clean.shape).astype("float32")
    sizes = np.int32([[5, 5], [2, 2]])
    stage = np.arange(30, dtype=np.int32) % 2
    found = proposals(patches.move_linf, grid, sizes, stage, clean, best)
    moved = np.abs(found - best) > 1e-6
    np.testing.assert_array_equal(
        moved.any(axis=3).sum(axis=(1, 2)), np.where(stage, 4, 25)
    )
    delta = found - clean
    np.testing.assert_allclose(np.abs(delta[moved]), EPS, rtol=1e-4)
    for image in range(30):
        for channel in range(3):
            signs = np.sign(delta[image, ..., channel])
            assert len(set(signs[moved[image, ..., channel]])) == 1
    assert 0.3 < (delta[moved] > 0).mean() < 0.7


@pytest.mark.once
def test_l2_proposals_follow_algorithm_3(rng):
    height, width, channels = 9, 8, 3
    grid = patches.Grid((height, width, channels))
    shape = (12, height, width, channels)
    clean = rng.uniform(0.3, 0.7, shape).astype("float32")
    delta = rng.normal(size=shape).astype("float32")
    delta *= 0.8 * EPS / np.sqrt((delta**2).sum((1, 2, 3), keepdims=True))
    sizes = np.int32([[5, 5], [3, 3]])
    stage = np.arange(12, dtype=np.int32) % 2
    keys = keys_of(12)
    found = proposals(patches.move_l2, grid, sizes, stage, clean, clean + delta)
    found = found - clean
    first, second = (
        [
            np.asarray(t)
            for t in grid.window(_noise.fold_in(keys, n), sizes[stage])
        ]
        for n in (1, 2)
    )
    unseen = {(sign, turned) for sign in (1, -1) for turned in (0, 1)}
    for image in range(12):
        side = sizes[stage[image], 0]
        top, left = -first[0][image, 0, 0], -first[1][image, 0, 0]
        patch = slice(top, top + side), slice(left, left + side)
        window = np.zeros((height, width), bool)
        window[patch] = True
        either = window | second[2][image]
        old = delta[image].astype("float64")
        unused = max(EPS**2 - (old**2).sum(), 0.0)
        errors = {}
        for turned in (0, 1):
            eta = published_pattern(side, side)
            eta = eta.T if turned else eta
            for signs in np.ndindex(2, 2, 2):
                signs = 1 - 2 * np.asarray(signs)
                new = old.copy()
                new[either] = 0.0
                for channel in range(channels):
                    kept = old[..., channel][patch]
                    fresh = signs[channel] * eta
                    fresh = fresh + kept / np.linalg.norm(kept)
                    budget = (old[..., channel][either] ** 2).sum()
                    budget += unused / channels
                    fresh *= np.sqrt(budget) / np.linalg.norm(fresh)
                    new[..., channel][patch] = fresh
                new *= EPS / np.linalg.norm(new)
                errors[(*signs, turned)] = np.abs(new - found[image]).max()
        best = min(errors, key=errors.get)
        assert errors[best] < 1e-6
        unseen -= {(best[0], best[-1])}
    assert not unseen


def test_l2_proposals_are_sound_where_nothing_is_perturbed():
    grid = patches.Grid((6, 6, 1))
    clean = np.full((4, 6, 6, 1), 0.5, np.float32)
    sizes = np.int32([[3, 3]])
    stage = np.zeros(4, np.int32)
    found = proposals(patches.move_l2, grid, sizes, stage, clean, clean)
    lengths = np.linalg.norm(found.reshape(4, -1) - 0.5, axis=1)
    np.testing.assert_allclose(lengths, EPS, rtol=1e-4)


@pytest.mark.once
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_only_what_raises_the_margin_is_kept(norm, rng):
    weights = rng.normal(size=(75, 4)).astype("float32")
    model = linear_model(weights, (5, 5, 3), np.zeros(4))
    x = rng.uniform(0.3, 0.7, (6, 5, 5, 3)).astype("float32")
    y = (x.reshape(6, -1) @ weights).argmax(1)
    problem = problem_of(x, y, model)
    attack = Square(eps=EPS, norm=norm, steps=20)
    states, examined = run_steps(attack, problem, 15)

    def margin(points):
        logits = points.reshape(6, -1) @ weights
        own = logits[np.arange(6), y]
        logits[np.arange(6), y] = -np.inf
        return logits.max(1) - own

    np.testing.assert_array_equal(examined[0], states[0]["x_adv"])
    best = margin(examined[0])
    kept, refused = 0, 0
    for state, before, x_new in zip(
        states[2:], states[1:-1], examined[1:], strict=True
    ):
        value = margin(x_new)
        better = value > best
        best = np.maximum(best, value)
        np.testing.assert_allclose(state["best_loss"], best, atol=1e-4)
        wanted = np.where(better[:, None, None, None], x_new, before["x_adv"])
        np.testing.assert_array_equal(state["x_adv"], wanted)
        kept += better.sum()
        refused += (~better).sum()
    assert min(kept, refused) > 5


def test_a_step_takes_no_gradient(monkeypatch):
    def refuse(self, x):
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(Problem, "linearize", refuse)
    model = linear_model(
        np.zeros((12, 3), np.float32), (2, 2, 3), np.float32([9, 0, 0])
    )
    x = np.full((3, 2, 2, 3), 0.5, np.float32)
    x_adv = Square(eps=EPS, steps=5)(model, x, np.zeros(3, int))
    assert np.abs(x_adv - x).max() <= EPS + 1e-6


@pytest.mark.once
def test_a_run_costs_its_steps_and_the_start():
    model = linear_model(
        np.zeros((12, 3), np.float32), (2, 2, 3), np.float32([9, 0, 0])
    )
    x = np.full((2, 2, 2, 3), 0.5, np.float32)
    images = [
        stream.Image(i, x[i], 0, 0, np.uint32([i, 3]), np.float32([9, 0, 0]))
        for i in range(2)
    ]
    for restarts, queries in ((1, 8), (3, 24)):
        attack = Square(eps=EPS, steps=7, restarts=restarts)
        outcomes = list(stream.run(attack, model, images))
        assert [outcome.steps for outcome in outcomes] == [queries] * 2


@pytest.mark.parametrize("shape", [(4, 4, 1), (16,), (4, 4)])
def test_linf_search_ends_at_the_corner_of_a_linear_model(shape, rng):
    weights = rng.normal(size=(16, 2)).astype("float32")
    model = linear_model(weights, shape, [40.0, 0.0])
    x = rng.uniform(0.4, 0.6, (4, *shape)).astype("float32")
    attack = Square(eps=EPS, steps=600)
    x_adv = attack(model, x, np.zeros(4, int))
    gap = weights[:, 1] - weights[:, 0]
    gained = (x_adv - x).reshape(4, -1) @ gap
    np.testing.assert_allclose(gained, EPS * np.abs(gap).sum(), rtol=1e-4)


@pytest.mark.once
def test_l2_search_nears_the_optimum_of_a_smooth_linear_model(rng):
    # A perturbation of the patches' own shape, as images call for.
    slope = published_pattern(7, 7)[..., None].repeat(2, axis=2)
    weights = np.stack([-slope.ravel(), slope.ravel()], axis=1)
    model = linear_model(weights.astype("float32"), (7, 7, 2), [40.0, 0.0])
    x = rng.uniform(0.4, 0.6, (4, 7, 7, 2)).astype("float32")
    x_adv = Square(eps=EPS, norm="l2", steps=1000)(model, x, np.zeros(4, int))
    gained = (x_adv - x).reshape(4, -1) @ (weights[:, 1] - weights[:, 0])
    best = EPS * np.linalg.norm(weights[:, 1] - weights[:, 0])
    assert (gained > 0.8 * best).all()
    assert (gained <= best * (1 + 1e-5)).all()
