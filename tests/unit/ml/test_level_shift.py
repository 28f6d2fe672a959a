"""A change of level that nobody can miss is found where it was put; seasons, growth and luck are none."""

import numpy as np
import pytest

from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.level_shift import NO_SHIFT, LevelShift, find_level_shift
from app.services.ml.series import DailySeries, FloatArray
from tests.factories import closed_on_sundays, series_of, weekly_series

N_DAYS = 500


def changed(days_ago: int, factor: float, series: DailySeries | None = None) -> DailySeries:
    y = (series or weekly_series(N_DAYS, noise=0.1)).y.copy()
    y[-days_ago:] *= factor
    return series_of(y)


def shift_of(y: FloatArray | DailySeries) -> LevelShift:
    return find_level_shift(y if isinstance(y, DailySeries) else series_of(y), Calendar())


@pytest.mark.parametrize("factor", [0.3, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("days_ago", [14, 17, 28, 56, 84])
def test_a_change_is_found_on_its_day_and_in_its_size(days_ago, factor):
    found = shift_of(changed(days_ago, factor))

    assert found.days == pytest.approx(days_ago, abs=2)
    assert found.factor == pytest.approx(factor, rel=0.15)


def test_days_without_sales_hide_no_change():
    found = shift_of(changed(30, 0.5, closed_on_sundays(N_DAYS)))

    assert found.days == pytest.approx(30, abs=2)
    assert found.factor == pytest.approx(0.5, rel=0.1)


def test_a_young_shop_has_had_six_weeks_to_compare():
    assert shift_of(changed(14, 0.5, weekly_series(42, noise=0.1))).days == 14
    assert shift_of(changed(14, 0.5, weekly_series(41, noise=0.1))) == NO_SHIFT


@pytest.mark.parametrize("days_ago", [3, 7, 10, 100])
def test_what_is_too_new_or_long_ago_is_none(days_ago):
    assert shift_of(changed(days_ago, 0.5)) == NO_SHIFT


@pytest.mark.parametrize(
    "level",
    [
        np.ones(N_DAYS),
        1.04 ** (np.arange(N_DAYS) / 7),
        1 + 0.5 * np.sin(2 * np.pi * np.arange(N_DAYS) / 364),
        np.where(np.arange(N_DAYS) % 364 >= N_DAYS % 364 - 28, 2.0, 1.0),
        np.where(np.arange(N_DAYS) >= N_DAYS - 28, 1.4, 1.0),
    ],
    ids=["no change", "growth", "season", "the same peak last year", "less than 1.6 times"],
)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_no_change_for_good_is_left_alone(level, seed):
    assert shift_of(level * weekly_series(N_DAYS, noise=0.25, seed=seed).y) == NO_SHIFT


@pytest.mark.parametrize("seed", range(10))
def test_rare_sales_show_no_change(seed):
    random = np.random.default_rng(seed)
    assert shift_of((random.random(N_DAYS) < 0.3) * random.lognormal(2, 0.6, N_DAYS)) == NO_SHIFT


def test_announced_closures_are_no_low_level():
    series = changed(20, 0.01, weekly_series(N_DAYS, noise=0.1))
    closed = Calendar(known_days=tuple(KnownDay(day.item(), "closure") for day in series.dates[-20:]))

    assert find_level_shift(series, closed) == NO_SHIFT


@pytest.mark.parametrize("n_days", [1, 6, 7, 41, 42, 60])
def test_any_series_can_be_asked(n_days):
    for y in (np.zeros(n_days), np.full(n_days, 5.0), -np.arange(n_days, dtype=float)):
        assert shift_of(y) == NO_SHIFT


def test_no_change_is_so_large_that_numbers_overflow():
    assert shift_of(changed(28, 1e12)).factor == 1e4


def test_earlier_days_are_converted_to_the_level_of_the_last():
    shift = LevelShift(factor=0.5, days=2)

    assert shift.taken_from(series_of([8.0, 6.0, 2.0, 1.0])).y.tolist() == [4.0, 3.0, 2.0, 1.0]
    assert NO_SHIFT.taken_from(series := series_of([8.0, 6.0])) is series


@pytest.mark.parametrize(
    ("cutoff", "is_missed"), [(44, False), (45, True), (72, True), (73, True), (85, True), (86, False)]
)
def test_a_fold_misses_a_change_that_falls_on_it_or_came_two_weeks_before_it(cutoff, is_missed):
    assert LevelShift(factor=0.5, days=28).is_missed(cutoff, 28, n_days=100) is is_missed


def test_fitted_values_are_in_the_unit_of_their_days():
    series = changed(28, 0.5, weekly_series(N_DAYS, noise=0.05))

    fitted = WeekdayMean().fit(series, Calendar()).fitted_values()

    np.testing.assert_allclose(fitted[-84:], series.y[-84:], rtol=0.5)
    assert np.nanmean(fitted[-84:] / series.y[-84:]) == pytest.approx(1, abs=0.05)
