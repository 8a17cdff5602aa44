"""Differences over images and seeds, against calculations by hand."""

import numpy as np
import pytest

from keras_wp.experiments.studies import paired_seeds
from keras_wp.reports import pairs
from keras_wp.reports.statistics import paired_difference

pytestmark = pytest.mark.once


def test_interval_is_that_of_the_analysis_of_variance():
    # d = second - first = [[1, 0, 0], [1, 1, 0]]; its mean is 1/2. By hand:
    # MS_seed = 3 (1/36 + 1/36) = 1/6; MS_image = 2 (1/4 + 1/4) / 2 = 1/2;
    # MS_rest = 2 (1 + 4 + 1) / 36 / 2 = 1/6.
    # Variance (1/6 + 1/3) / 6 = 1/12, with (1 + 2)^2 = 9 degrees of freedom,
    # for which Student's t is 2.262157 at 97.5 %.
    found = paired_seeds.compare([[0, 0, 1], [0, 0, 1]], [[1, 0, 1], [1, 1, 1]])
    assert found["difference"] == pytest.approx(1 / 2)
    low = 1 / 2 - 2.262157 / 12**0.5
    # No difference is more than 1.
    assert found["interval"] == pytest.approx([low, 1.0], abs=1e-6)
    assert found["over"] == "images and seeds"


def test_images_are_counted_for_each_seed_and_in_all():
    found = paired_seeds.compare(
        [[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 0, 1, 0], [0, 1, 1, 1]]
    )
    assert found["by_seed"] == [
        {"both": 1, "first": 1, "second": 1, "neither": 1},
        {"both": 2, "first": 1, "second": 1, "neither": 0},
    ]
    assert found["pooled"] == {
        "both": 3,
        "first": 2,
        "second": 2,
        "neither": 1,
    }
    assert found["difference_by_seed"] == [0, 0]


def test_one_seed_has_the_interval_of_paired_outcomes(rng):
    first, second = rng.random((2, 1, 50)) < 0.6
    found = paired_seeds.compare(first, second)
    (counts,) = found["by_seed"]
    expected = paired_difference(
        counts["both"], counts["second"], counts["first"], counts["neither"]
    )
    assert found["interval"] == pytest.approx(list(expected))
    assert found["over"] == "images"


def test_agreement_on_every_image_is_not_certainty():
    outcomes = np.tile([1, 1, 1, 0], (3, 5))
    found = paired_seeds.compare(outcomes, outcomes)
    low, high = found["interval"]
    assert low < found["difference"] == 0 < high
    assert found["over"] == "images"


def test_seeds_that_disagree_widen_the_interval():
    first = np.zeros((3, 40), bool)
    second = np.zeros((3, 40), bool)
    second[:, :12] = True
    same = paired_seeds.compare(first, second)["interval"]
    second[0, 12:24], second[1, :12] = True, False
    other = paired_seeds.compare(first, second)
    assert other["difference"] == pytest.approx(12 / 40)
    assert np.ptp(other["interval"]) > 2 * np.ptp(same)


def test_intervals_cover_what_is_true_over_images_and_seeds():
    rng = np.random.default_rng(0)
    count, covered, blind = 400, 0, 0
    for _ in range(count):
        # Both are right equally often, on average over images and seeds, but
        # not with a given seed.
        image = rng.normal(0, 0.5, 100)
        seed = rng.normal(0, 0.25, (3, 1))
        first = image + rng.normal(0, 1, (3, 100)) < 0
        second = image + seed + rng.normal(0, 1, (3, 100)) < 0
        low, high = paired_seeds.compare(first, second)["interval"]
        covered += low <= 0 <= high
        low, high = pairs.counted("", second, first).interval
        blind += low <= 0 <= high
    assert covered / count >= 0.92
    # As if all outcomes were independent, which they are not.
    assert blind / count < 0.85


def test_means_that_agree_by_chance_make_nothing_certain():
    # Each of three seeds has ten images on which only the second is right, and
    # eight on which only the first is; two seeds share one image.
    first, second = np.zeros((2, 3, 200), bool)
    for seed in range(3):
        second[seed, 20 * seed : 20 * seed + 10] = True
        first[seed, 20 * seed + 10 : 20 * seed + 18] = True
    second[1, 20], second[1, 0] = False, True
    found = paired_seeds.compare(first, second)
    assert found["difference_by_seed"] == pytest.approx([0.01] * 3)
    pooled = found["pooled"]
    of_all = paired_difference(
        pooled["both"], pooled["second"], pooled["first"], pooled["neither"]
    )
    assert np.ptp(found["interval"]) > np.ptp(of_all)


def test_intervals_cover_what_is_true_where_seeds_make_no_difference():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        # Rare differences, of the same odds with each seed.
        odds = rng.choice([0.0, 0.2], 200, p=[0.75, 0.25])
        first, second = rng.random((2, 3, 200)) < odds
        low, high = paired_seeds.compare(first, second)["interval"]
        covered.append(low <= 0 <= high)
    assert np.mean(covered) >= 0.95


def test_outcomes_of_other_images_are_refused():
    with pytest.raises(ValueError, match="Expected the outcomes of the same"):
        paired_seeds.compare(np.zeros((2, 3)), np.zeros((2, 4)))
