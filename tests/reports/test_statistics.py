"""Intervals and tests, against published values and the binomial itself."""

import math

import pytest

from keras_wp.reports.statistics import mcnemar, paired_difference

pytestmark = pytest.mark.once


def test_paired_interval_matches_published_values():
    # Fagerland, Lydersen and Laake, "Recommended tests and confidence
    # intervals for paired binomial proportions" (Statistics in Medicine 33,
    # 2014): airway hyper-responsiveness before and after transplantation.
    low, high = paired_difference(1, 1, 7, 12)
    assert low == pytest.approx(-0.507, abs=5e-4)
    assert high == pytest.approx(-0.026, abs=5e-4)


def test_paired_interval_is_antisymmetric():
    low, high = paired_difference(30, 12, 5, 53)
    assert paired_difference(30, 5, 12, 53) == pytest.approx((-high, -low))
    assert low < 0.07 < high


def test_paired_interval_narrows_where_outcomes_agree():
    low, high = paired_difference(48, 2, 2, 48)
    wide_low, wide_high = paired_difference(25, 25, 25, 25)
    assert high - low < 0.5 * (wide_high - wide_low)


@pytest.mark.parametrize("counts", [(9, 0, 0, 0), (0, 9, 0, 0), (0, 0, 0, 9)])
def test_paired_interval_of_extremes_stays_within_bounds(counts):
    low, high = paired_difference(*counts)
    assert -1 <= low <= high <= 1


def test_paired_interval_of_nothing():
    assert paired_difference(0, 0, 0, 0) == (-1.0, 1.0)


@pytest.mark.parametrize("first, second", [(1, 7), (0, 5), (4, 4), (3, 20)])
def test_mcnemar_is_the_tail_of_the_binomial(first, second):
    n, least = first + second, min(first, second)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_of_many_images():
    assert mcnemar(0, 0) == 1.0
    n, least = 1200, 500
    tail = sum(math.comb(n, k) for k in range(least + 1)) * 2 / 2**n
    assert mcnemar(500, 700) == pytest.approx(tail, rel=1e-9)
