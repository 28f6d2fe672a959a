"""What the direct candidates learn: cycles, holidays, promotions, levels; and the robust fit under two of them."""

from datetime import date, timedelta

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused
from app.services.ml.calendar import Calendar, KnownDay, days_since_payday
from app.services.ml.candidates import calendar_ridge, ridge
from app.services.ml.candidates.calendar_ridge import CalendarRidge
from app.services.ml.candidates.direct import one_hot, yearly_waves
from app.services.ml.candidates.direct_rows import Table
from app.services.ml.candidates.levels import Levels
from app.services.ml.candidates.recursive import Recursive
from app.services.ml.candidates.ridge import Ridge
from app.services.ml.candidates.robust import RobustRidge
from app.services.ml.series import DailySeries
from tests.factories import weekly_series

START = date(2022, 1, 3)
DIRECT = [Levels, Ridge, CalendarRidge]


def shop(n_days: int):
    week = np.array([80.0, 90.0, 100.0, 110.0, 160.0, 200.0, 60.0])[np.arange(n_days) % 7]
    return week + np.random.default_rng(2).normal(0, 5, n_days)


@pytest.mark.parametrize("candidate", DIRECT)
def test_a_two_weekly_promotion_nobody_announced_is_continued(candidate):
    y = shop(528)
    promoted = np.arange(528) // 7 % 2 == 0
    y[promoted] *= 1.5

    forecast = candidate().fit(DailySeries(START, y[:500]), Calendar()).predict(28)

    usual = shop(528)[500:]
    ratio = forecast / usual
    assert ratio[promoted[500:]].mean() / ratio[~promoted[500:]].mean() > 1.35


@pytest.mark.parametrize("candidate", [*DIRECT, Recursive])
def test_an_announced_promotion_raises_its_day(candidate):
    y = shop(400)
    days = list(range(5, 400, 11))
    y[days] *= 2.0
    past = tuple(KnownDay(START + timedelta(days=i), "promotion") for i in days)
    coming = KnownDay(START + timedelta(days=409), "promotion")

    model = candidate().fit(DailySeries(START, y), Calendar(known_days=past))
    announced = model.observe(DailySeries(START, y), Calendar(known_days=(*past, coming)))

    assert announced.predict(28)[9] > 1.3 * model.predict(28)[9]


@pytest.mark.parametrize("candidate", DIRECT)
def test_a_holiday_that_closed_the_shop_before_is_forecast_low(candidate):
    y = shop(1083)
    start = date(2022, 1, 5)
    closed = Calendar("DE").holidays(start, y.size)
    y[closed] = 0.0
    series = DailySeries(start, y)  # ends on 22 December 2024

    forecast = candidate().fit(series, Calendar("DE")).predict(7)

    usual = candidate().fit(series, Calendar()).predict(7)
    assert (series.end + timedelta(days=3)).isoformat() == "2024-12-25"
    assert (forecast[2:4] < 0.5 * usual[2:4]).all()
    assert forecast[[0, 1, 4, 5, 6]] == pytest.approx(usual[[0, 1, 4, 5, 6]], rel=0.35)


@pytest.mark.parametrize("candidate", [*DIRECT, Recursive])
def test_the_day_that_wages_come_is_forecast_high(candidate):
    y = shop(928)
    paid = days_since_payday(START, y.size) == 0
    y[paid] *= 1.6
    series = DailySeries(START, y[:900])

    forecast = candidate().fit(series, Calendar()).predict(28)

    usual, ahead = shop(928)[900:], paid[900:]
    assert ahead.sum() == 2
    assert (forecast[ahead] / usual[ahead]).mean() > 1.3
    assert forecast[~ahead] == pytest.approx(usual[~ahead], rel=0.3)


def test_a_bridge_day_is_told_from_other_fridays():
    """A shop near the coast that is full on bridge days."""
    start = date(2019, 1, 7)
    calendar = Calendar("DE")
    n_days = (date(2024, 5, 6) - start).days  # the week of Ascension is ahead
    week = np.array([80.0, 90.0, 100.0, 110.0, 160.0, 200.0, 60.0])[np.arange(n_days + 7) % 7]
    y = week * np.where(calendar.bridges(start, week.size), 2.5, 1.0)
    noise = np.random.default_rng(3).normal(1, 0.03, n_days)

    forecast = Levels().fit(DailySeries(start, y[:n_days] * noise), calendar).predict(7)

    assert calendar.bridges(start, week.size)[n_days:].tolist() == [False] * 4 + [True] + [False] * 2
    assert forecast[4] > 1.5 * week[n_days + 4]


def test_the_designs_have_the_columns_that_a_stored_state_must_have():
    rows = Table(weekly_series(120, noise=0.2), Calendar("DE"), 28).ahead(28)

    assert ridge.design(rows).shape == (28, ridge.N_COLUMNS)
    assert calendar_ridge.design(rows).shape == (28, calendar_ridge.N_COLUMNS)


@pytest.mark.parametrize("candidate", [Ridge, CalendarRidge])
def test_coefficients_of_another_number_are_refused(candidate):
    state = candidate().fit(DailySeries(START, shop(200)), Calendar()).get_state()

    for wrong in ({"coefficients": np.zeros(3)}, {"intercept": float("nan")}):
        with pytest.raises(ArtifactRefused, match=candidate.name):
            candidate.from_state(state | wrong, MLSettings())


def test_the_robust_fit_finds_a_line_through_gross_errors():
    x = np.linspace(-1, 1, 400)
    target = 0.5 + 2.0 * x
    target[::10] = 8.0  # a tenth of the days is far off, all to one side

    robust = RobustRidge.fit(x[:, None], target, np.array([1e-3]), 10)
    squares = RobustRidge.fit(x[:, None], target, np.array([1e-3]), 0)

    assert robust.predict(np.array([[1.0]]))[0] == pytest.approx(2.5, abs=0.05)
    assert squares.predict(np.array([[1.0]]))[0] > 2.8


def test_without_reweighting_the_fit_is_the_textbook_ridge_on_standardised_columns():
    rng = np.random.default_rng(4)
    rows, target = rng.normal(2.0, 3.0, (50, 3)), rng.normal(0, 1, 50)

    fitted = RobustRidge.fit(rows, target, np.array([7.0, 7.0, 28.0]), 0)

    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    # Ridge is least squares on data with one more row per column: the root of the penalty, and a target of zero.
    augmented = np.vstack([standard, np.diag(np.sqrt([7.0, 7.0, 28.0]))])
    slopes = np.linalg.lstsq(augmented, np.concatenate([target - target.mean(), np.zeros(3)]), rcond=None)[0]
    np.testing.assert_allclose(fitted.coefficients, slopes / rows.std(axis=0))
    np.testing.assert_allclose(fitted.predict(rows), target.mean() + standard @ slopes)


def test_a_constant_column_gets_no_coefficient_and_weights_of_zero_leave_rows_out():
    rows = np.column_stack([np.ones(20), np.arange(20.0)])
    target = np.where(np.arange(20) < 10, np.arange(20.0), 99.0)

    fitted = RobustRidge.fit(rows, target, np.full(2, 1e-9), 2, (np.arange(20) < 10).astype(float))

    assert fitted.coefficients[0] == 0.0
    assert fitted.coefficients[1] == pytest.approx(1.0, abs=1e-6)


def test_columns_of_weekdays_and_waves():
    np.testing.assert_array_equal(one_hot(np.array([0.0, 2.0]), 3), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(yearly_waves(np.array([0.0, 365.25 / 4]), 1), [[0, 1], [1, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("candidate", "n_fitted", "most"), [(Ridge, 368, 0.09), (CalendarRidge, 63, 0.22), (CalendarRidge, 150, 0.13)]
)
def test_what_a_young_history_cannot_teach_does_not_run_away_later(candidate, n_fitted, most):
    """Fitted early and carried on for twelve weeks, as in the folds: a known week with noise of 30 % of its mean."""
    errors = []
    for seed in range(6):
        series = weekly_series(n_fitted + 84, noise=0.3, seed=seed)
        truth = weekly_series(n_fitted + 112).y[-28:]
        model = candidate().fit(series.head(n_fitted), Calendar()).observe(series, Calendar())
        errors.append(np.abs(model.predict(28) - truth).mean() / truth.mean())

    assert np.mean(errors) < most  # with every column it is 0.14, 0.43 and 0.17
