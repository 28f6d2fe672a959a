"""Conformal bounds by hand, and their coverage on data with known quantiles."""

from typing import Any

import numpy as np
import pytest

from app.errors import InvalidSeries
from app.services.ml.intervals import ResidualPool, at_level_of, growth, naive_pool, no_more_often, typical_quantile
from tests.factories import series_of, weekly_series


def pool_of(residuals: Any, weekdays: Any = None, tested: int = 28) -> ResidualPool:
    residuals = np.asarray(residuals, dtype=float)
    return ResidualPool.of(residuals, np.zeros(residuals.size, np.int64) if weekdays is None else weekdays, tested)


def test_symmetric_residuals_give_the_rank_of_the_textbook():
    pool = pool_of([-4, -3, -2, -1, 0, 1, 2, 3, 4], tested=1)

    lower, upper = pool.bounds(np.array([100.0]), np.array([0]), 0.8)

    # |r|: rank ceil(10 * 0.8) = 8 of 0 1 1 2 2 3 3 4 4 is 4; signed: rank ceil(10 * 0.9) = 9 is 4; a typical error of
    # mean size 20 / 9 stays within 1.6078 of it (half of 1.2816 * 1.2533 + ln 5).
    width = (4 + 4 + 1.6078 * 20 / 9) / 3
    assert upper[0] == pytest.approx(100 + width, rel=1e-5)
    assert lower[0] == pytest.approx(100 - width, rel=1e-5)


def test_skewed_residuals_give_skewed_bounds():
    pool = pool_of([0, 0, 0, 0, 0, 0, 0, 5, 10], tested=1)

    lower, upper = pool.bounds(np.array([100.0]), np.array([0]), 0.8)

    # |r| rank 8: 5. Signed above, rank 9: 10; below, rank 9 of the mirrored: 0. Typical: 1.6078 times the mean, 15 / 9.
    assert upper[0] == pytest.approx(100 + (10 + 5 + 1.6078 * 15 / 9) / 3, rel=1e-5)
    assert lower[0] == pytest.approx(100 - (0 + 5 + 1.6078 * 15 / 9) / 3, rel=1e-5)


def test_a_typical_error_lies_between_a_normal_and_a_laplace_one():
    rng = np.random.default_rng(5)
    errors = np.concatenate([rng.normal(0, np.sqrt(np.pi / 2), 200_000), rng.laplace(0, 1, 200_000)])  # mean size 1

    for level in (0.5, 0.8, 0.95):
        assert typical_quantile(level) == pytest.approx(np.quantile(np.abs(errors), level), rel=0.03)


def test_one_huge_residual_moves_the_bounds_by_its_mean_only():
    calm = np.tile([-1.0, 1.0], 42)
    spoiled = np.append(calm, 50.0)

    widths = [pool_of(r).bounds(np.zeros(1), np.array([0]), 0.8)[1][0] for r in (calm, spoiled)]

    assert widths[1] < 1.4 * widths[0]


def test_weekdays_have_their_own_width_shrunk_toward_the_overall_one():
    weekdays = np.array([0] * 20 + [1] * 20)
    pool = pool_of([1.0, -1.0] * 10 + [3.0, -3.0] * 10, weekdays)

    lower, upper = pool.bounds(np.zeros(3), np.array([0, 1, 2]), 0.8)

    width = (upper - lower) / growth(3, tested=28)
    # Sizes with 20 pseudo-observations of the overall mean 2: 1.5, 2.5 and (without data) 2.
    assert width[0] / width[1] == pytest.approx(1.5 / 2.5)
    assert width[2] / width[1] == pytest.approx(2.0 / 2.5)


def test_a_holiday_does_not_widen_the_band_of_its_weekday_for_ever():
    weekdays = np.arange(84) % 7
    residuals = np.where(np.arange(84) % 2, 1.0, -1.0)
    spoiled = np.where(np.isin(np.arange(84), [35, 70]), 50.0, residuals)  # two Mondays

    lower, upper = pool_of(spoiled, weekdays).bounds(np.zeros(7), np.arange(7), 0.8)

    width = (upper - lower) / growth(7, tested=28)
    np.testing.assert_allclose(width, width[0])


def test_rare_errors_still_make_bands():
    pool = pool_of([0.0] * 19 + [10.0])

    assert pool.bounds(np.zeros(1), np.array([0]), 0.95)[1][0] > 0


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_coverage_on_new_days_is_the_level(level):
    rng = np.random.default_rng(7)
    weekdays = np.arange(84) % 7
    hits = []
    for _ in range(400):
        pool = pool_of(rng.normal(0, 2 + weekdays), weekdays)
        lower, upper = pool.bounds(np.zeros(7), np.arange(7), level)
        new = rng.normal(0, 2 + np.arange(7))
        hits.append(((new >= lower) & (new <= upper)).mean())

    assert np.mean(hits) == pytest.approx(level, abs=0.03)


def test_higher_levels_contain_lower_ones_with_any_number_of_residuals():
    rng = np.random.default_rng(1)
    for n in range(1, 60):
        pool = pool_of(rng.standard_cauchy(n), rng.integers(0, 7, n))
        widths = [
            np.subtract(*pool.bounds(np.zeros(7), np.arange(7), level)[::-1]) for level in (0.5, 0.8, 0.9, 0.95, 0.99)
        ]

        assert (np.diff(np.array(widths), axis=0) >= 0).all()


def test_too_few_residuals_widen_beyond_the_largest():
    pool = pool_of([-1.0, 1.0, -1.0])

    _, upper = pool.bounds(np.zeros(1), np.array([0]), 0.95)

    # Three residuals support 3/4; the normal quantiles of 0.95 and 0.75 are 1.96 and 1.15.
    assert upper[0] > 1.5


def test_a_constant_series_gets_zero_width_intervals():
    pool = naive_pool(series_of([5.0] * 10))

    lower, upper = pool.bounds(np.full(3, 5.0), np.array([0, 1, 2]), 0.95)

    assert lower.tolist() == upper.tolist() == [5.0, 5.0, 5.0]


def test_without_folds_the_differences_to_the_week_before_are_the_residuals():
    series = weekly_series(20, noise=0.5)

    pool = naive_pool(series)

    np.testing.assert_array_equal(pool.residuals, series.y[7:] - series.y[:-7])


def test_one_single_day_gets_bounds_at_least_as_wide_as_itself():
    lower, upper = naive_pool(series_of([50.0])).bounds(np.array([50.0]), np.array([1]), 0.8)

    assert lower[0] <= 25
    assert upper[0] >= 100


def test_bounds_widen_with_the_days_ahead():
    steps = growth(63, tested=7)

    np.testing.assert_allclose(steps[:7], [1 + 0.15 * (n / 7 - 0.5) for n in np.arange(0.5, 7)])  # middle of each day
    assert steps[:7].mean() == pytest.approx(1)
    assert steps[13] == pytest.approx(1.075 * np.sqrt(2))  # a random walk's beyond what was tested
    assert steps[62] == 2  # never more than double


def test_the_bounds_of_a_step_are_as_wide_as_its_growth():
    pool = pool_of([-1.0, 1.0] * 10, tested=7)

    lower, upper = pool.bounds(np.zeros(63), np.zeros(63, dtype=np.int64), 0.8)

    width = upper - lower
    np.testing.assert_allclose(width / width[3], growth(63, tested=7))


def test_shrinkage_narrows_the_bounds_around_the_forecast():
    residuals, weekdays = np.array([-4.0, -3, -2, -1, 0, 1, 2, 3, 4]), np.zeros(9, dtype=np.int64)

    lower, upper = ResidualPool.of(residuals, weekdays, 28, 0.5).bounds(np.array([100.0]), np.array([0]), 0.8)

    whole = ResidualPool.of(residuals, weekdays, 28).bounds(np.array([100.0]), np.array([0]), 0.8)
    np.testing.assert_allclose([lower[0], upper[0]], [(100 + whole[0][0]) / 2, (100 + whole[1][0]) / 2])


def test_a_pool_refuses_what_is_no_residual():
    for residuals in ([], [np.nan], [np.inf]):
        with pytest.raises(InvalidSeries):
            pool_of(residuals)


def test_errors_grow_with_the_root_of_the_level():
    # Levels 400 against 100, 400 and 1,600: a half and double are as far as it goes, roots of 2 and 1/2.
    np.testing.assert_allclose(
        at_level_of(400.0, np.array([100.0, 200.0, 400.0, 500.0, 1600.0])) ** 2, [2, 2, 1, 0.8, 0.5]
    )


@pytest.mark.parametrize(("ahead", "past"), [(0.0, 5.0), (5.0, 0.0), (0.0, 0.0)])
def test_where_nothing_is_sold_the_level_says_nothing_of_errors(ahead, past):
    assert at_level_of(ahead, np.array([past])).tolist() == [1.0]


def test_rare_days_stay_as_often_as_usual_and_the_newest_of_them():
    rare = np.zeros((2, 10), dtype=bool)
    rare[0, [2, 5]] = rare[1, [0, 7]] = True

    kept = no_more_often(rare, 0.1)  # two of twenty

    assert np.flatnonzero(~kept).tolist() == [2, 5]


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_rare_days_that_are_no_more_frequent_than_usual_all_stay(share):
    assert no_more_often(np.arange(20) % 5 == 0, share).all()


def test_without_rare_days_all_days_stay():
    assert no_more_often(np.zeros(5, dtype=bool), 0.0).all()


def test_where_rare_days_never_happen_none_stays():
    rare = np.array([True, False, True])

    assert no_more_often(rare, 0.0).tolist() == [False, True, False]
