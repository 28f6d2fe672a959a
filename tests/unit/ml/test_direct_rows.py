"""The rows of the direct candidates, by hand: what each feature is, and that none looks beyond its origin."""

from datetime import date, timedelta

import numpy as np
import pytest

from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates.direct_rows import STEPS, Rows, RunningMean, Table
from app.services.ml.series import DailySeries, FloatArray
from tests.factories import MONDAY, series_of, weekly_series

SQUARES = np.arange(1.0, 421.0) ** 2  # their roots are the numbers of the days, from 1


def ahead(y: FloatArray, horizon: int = STEPS, calendar: Calendar | None = None, start: date = MONDAY) -> Rows:
    return Table(DailySeries(start, y), calendar or Calendar(), horizon).ahead(horizon)


def roots(rows: Rows, name: str) -> FloatArray:
    """A feature in the unit of the target, back in roots of sales."""
    return rows.column(name) * rows.size


def test_the_unit_is_the_root_mean_square_of_the_last_year():
    rows = ahead(SQUARES)

    np.testing.assert_allclose(rows.size, np.sqrt(SQUARES[-364:].mean()))


def test_sales_come_back_from_the_unit_of_the_target_with_their_sign():
    rows = ahead(SQUARES, 2)

    np.testing.assert_allclose(rows.sales(np.array([3.0, -2.0])), [9 * rows.size[0] ** 2, -4 * rows.size[0] ** 2])


def test_the_base_is_the_mean_of_the_last_eight_same_weekdays():
    rows = ahead(SQUARES)

    # The day after the last is day 421; its weekday was 414, 407, ... 365 before.
    assert roots(rows, "base")[0] == pytest.approx(np.mean(np.arange(414, 364, -7)))
    np.testing.assert_allclose(rows.base[:7], rows.base[21:28])


def test_lags_are_the_newest_same_weekdays_whatever_the_step():
    rows = ahead(SQUARES)

    assert roots(rows, "week_1")[[0, 6, 7, 27]] == pytest.approx([414, 420, 414, 420])
    assert roots(rows, "week_6")[0] == pytest.approx(379)
    assert roots(rows, "month_ago")[[0, 7, 27]] == pytest.approx([393, 400, 420])


def test_fortnight_lags_keep_the_two_weekly_phase():
    rows = ahead(SQUARES)

    # Days 421 and 428: fourteen days before, and twice fourteen days before.
    assert roots(rows, "fortnight_1")[[0, 7]] == pytest.approx([407, 414])
    assert roots(rows, "fortnight_3")[[0, 7]] == pytest.approx([379, 386])
    assert roots(rows, "fortnight")[0] == pytest.approx(393)


def test_last_year_is_seen_against_the_base_in_weekly_differences():
    rows = ahead(SQUARES)

    known = rows.column("year_364") * rows.spread * rows.size + roots(rows, "base")

    assert known[[0, 27]] == pytest.approx([421 - 364, 448 - 364])
    assert np.isnan(ahead(SQUARES[:300]).column("year_364")).all()


def test_the_spread_is_the_mean_weekly_difference_and_never_zero():
    assert ahead(SQUARES).spread[0] * ahead(SQUARES).size[0] == pytest.approx(7.0)
    assert ahead(np.full(100, 5.0)).spread[0] > 0


def test_training_rows_lie_a_week_apart_and_end_with_the_series():
    rows = Table(series_of(SQUARES[:60]), Calendar()).training()
    origins = rows.days - rows.steps

    assert sorted(set(origins.tolist())) == [32, 39, 46, 53]
    assert rows.days.max() == 59
    np.testing.assert_allclose(rows.target * rows.size, rows.days + 1)


def test_every_day_but_the_first_two_weeks_has_a_row_in_sample():
    days = Table(series_of(SQUARES[:60]), Calendar()).in_sample(0).days

    assert days.tolist() == list(range(11, 60))


def test_rows_in_sample_of_the_last_days_are_those_of_all_days():
    table = Table(series_of(SQUARES[:60]), Calendar())
    every, last = table.in_sample(0), table.in_sample(40)

    assert last.days.tolist() == list(range(39, 60))  # from the weekly origin before
    np.testing.assert_array_equal(last.values, every.where(every.days >= 39).values)


def test_announced_closures_and_odd_zeros_are_neither_targets_nor_features():
    y = weekly_series(140).y.copy()
    y[[100, 136]] = 0.0
    closure = KnownDay(MONDAY + timedelta(days=100), "closure")
    table = Table(series_of(y), Calendar(known_days=(closure,)), STEPS)

    rows = table.training()

    assert not np.isin(rows.days, [100, 136]).any()
    assert np.isnan(table.ahead(STEPS).column("week_1")).any()
    np.testing.assert_allclose(table.ahead(STEPS).base, ahead(weekly_series(140).y).base, rtol=1e-2)


def test_a_holiday_does_what_it_did_the_last_two_times_that_the_origin_knows():
    y = np.full(1096, 100.0)
    start = date(2021, 1, 4)
    for year, sold in ((2021, 81.0), (2022, 49.0), (2023, 25.0)):
        y[(date(year, 11, 1) - start).days] = sold  # All Saints, Spain: roots 9, 7 and 5 instead of 10
    table = Table(DailySeries(start, y), Calendar("ES"))
    rows = table.training()
    effect = rows.column("holiday_effect") * rows.spread * rows.size

    def of(day: date) -> set[float]:
        return set(np.round(effect[rows.days == (day - start).days], 6).tolist())

    assert of(date(2022, 11, 1)) == {-1.0}
    assert of(date(2023, 11, 1)) == {-2.0}
    assert of(date(2023, 11, 7)) == {0.0}
    assert all(np.isnan(effect[rows.days == (date(2021, 11, 1) - start).days]))


def test_recent_holidays_count_the_last_four_same_weekdays():
    start = date(2023, 1, 2)
    y = np.full((date(2023, 12, 28) - start).days, 100.0)  # the last day is Wednesday, 27 December

    rows = ahead(y, 7, Calendar("DE"), start)

    # Thursday to Sunday none; Monday and Tuesday follow Christmas Day and Boxing Day.
    assert rows.column("recent_holidays").tolist() == [0, 0, 0, 0, 1, 1, 0]


def test_no_row_changes_when_the_days_from_its_origin_on_do():
    y = weekly_series(420, noise=0.3).y
    changed = np.where(np.arange(420) >= 350, 7.0 * y, y)
    before, after = (Table(series_of(values), Calendar("DE")).training() for values in (y, changed))

    earlier = before.days - before.steps <= 350
    assert earlier.any()
    np.testing.assert_array_equal(before.values[earlier], after.values[earlier])
    assert not np.array_equal(before.values[~earlier], after.values[~earlier], equal_nan=True)


def test_a_horizon_beyond_a_year_has_no_features_from_the_future():
    rows = ahead(SQUARES, 400)

    assert np.isnan(rows.column("year_364")[364:]).all()
    assert np.isfinite(rows.base).all()
    assert rows.column("step").max() == STEPS - 1


def test_a_running_mean_leaves_missing_days_out():
    mean = RunningMean(np.array([1.0, np.nan, 3.0, np.nan]))

    np.testing.assert_array_equal(
        mean.between(np.array([0, 0, 1, 3]), np.array([4, 2, 2, 3])), [2.0, 1.0, np.nan, np.nan]
    )


def test_candidates_on_the_same_days_share_one_table_and_other_days_have_their_own():
    series, calendar = weekly_series(120), Calendar("DE")

    table = Table.of(series, calendar)

    assert Table.of(series, Calendar("DE")) is table
    assert table.training() is Table.of(series, calendar).training()
    assert Table.of(series, Calendar("ES")) is not table
    assert Table.of(series.head(120), calendar) is not table
    np.testing.assert_array_equal(table.ahead(9).values, Table(series, calendar, 60).ahead(60).values[:9])
