"""SARIMAX against plain statsmodels, and what our shortcuts may cost."""

import sys
import warnings
from datetime import date, timedelta

import numpy as np
import pytest
from statsmodels.tsa.statespace.sarimax import SARIMAX

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar, DayKind, KnownDay
from app.services.ml.candidates.arima import Order
from app.services.ml.candidates.common import PAYDAY_SPANS, independent_columns, regressor_names, regressor_values
from app.services.ml.candidates.sarimax import Sarimax
from app.services.ml.series import DailySeries

START = date(2022, 1, 3)
PAYDAYS = tuple(PAYDAY_SPANS)
ORDERS = {"order": (1, 1, 1), "seasonal_order": (1, 1, 1, 7)}


def shop(n_days: int = 400, seed: int = 3):
    rng = np.random.default_rng(seed)
    level = 100 + np.cumsum(rng.normal(0, 1.5, n_days))
    week = np.array([0.8, 0.9, 1.0, 1.1, 1.4, 1.6, 0.5])[np.arange(n_days) % 7]
    return level * week + rng.normal(0, 5, n_days)


def known_days(kind: DayKind, n_days: int, every: int = 14) -> Calendar:
    return Calendar(known_days=tuple(KnownDay(START + timedelta(days=i), kind) for i in range(3, n_days, every)))


def paydays(n_days: int, ahead: int = 28):
    """What is known without a calendar, of the days and of those ahead: shapes (n_days, 3) and (ahead, 3)."""
    known = regressor_values(PAYDAYS, Calendar(), START, n_days + ahead)
    return known[:n_days], known[n_days:]


def test_with_the_same_parameters_the_forecast_is_statsmodels_own():
    y = shop()
    known, ahead = paydays(400)
    model = Sarimax().fit(DailySeries(START, y), Calendar())
    state = model.get_state()

    plain = SARIMAX(y, exog=known, **ORDERS, concentrate_scale=True)
    filtered = plain.filter(np.concatenate([state["coefficients"], state["arma"]]))

    assert state["regressors"] == list(PAYDAYS)
    np.testing.assert_allclose(model.predict(28), filtered.forecast(28, exog=ahead), rtol=1e-6)
    np.testing.assert_allclose(model.fitted_values()[8:], filtered.fittedvalues[8:], rtol=1e-6)


def test_the_short_search_forecasts_within_two_percent_of_statsmodels_full_one():
    y = shop()
    known, ahead = paydays(400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = SARIMAX(y, exog=known, **ORDERS).fit(disp=0, maxiter=200)

    ours = Sarimax().fit(DailySeries(START, y), Calendar())

    np.testing.assert_allclose(ours.predict(28), plain.forecast(28, exog=ahead), rtol=0.02, atol=0.02 * y.mean())


@pytest.mark.parametrize("seed", [3, 4])
def test_the_short_search_comes_within_three_of_the_log_likelihood_of_the_full_one(seed):
    y = shop(seed=seed)
    known, _ = paydays(400)
    plain = SARIMAX(y, exog=known, **ORDERS, concentrate_scale=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = plain.fit(disp=0, maxiter=200).llf

    state = Sarimax().fit(DailySeries(START, y), Calendar()).get_state()

    assert plain.loglike(np.concatenate([state["coefficients"], state["arma"]])) > best - 3.0


@pytest.mark.parametrize("kind", ["promotion", "event"])
def test_a_known_day_is_worth_what_it_sells(kind):
    y = shop(420)
    calendar = known_days(kind, 448)
    y[3:420:14] += 40.0

    model = Sarimax().fit(DailySeries(START, y), calendar)

    assert model.get_state()["regressors"] == [kind, *PAYDAYS]
    if kind == "event":  # what promotions sell is taken out before
        assert np.asarray(model.get_state()["coefficients"], dtype=float)[0] == pytest.approx(40.0, abs=4.0)
    unannounced = model.observe(DailySeries(START, y), known_days(kind, 420))
    lift = model.predict(28) - unannounced.predict(28)
    assert np.flatnonzero(lift > 30.0).tolist() == [i for i in range(28) if (420 + i - 3) % 14 == 0]


def test_a_regressor_that_never_varied_is_dropped():
    known = tuple(KnownDay(START + timedelta(days=i), "event") for i in range(400))

    model = Sarimax().fit(DailySeries(START, shop()), Calendar(known_days=known))

    assert model.get_state()["regressors"] == list(PAYDAYS)


def test_every_holiday_is_a_regressor_and_an_unknown_one_counts_as_the_mean_of_the_others():
    german = Calendar("DE")
    names = regressor_names(german, date(2024, 1, 1), 121)  # to the end of April

    assert names == (
        *("holiday_eve", "holiday_morrow", "promotion", "event", "bridge", *PAYDAYS),
        *("holiday: Karfreitag", "holiday: Neujahr", "holiday: Ostermontag"),
    )
    new_year, labour_day = (regressor_values(names, german, day, 1)[0] for day in (date(2025, 1, 1), date(2024, 5, 1)))
    # Both are the day after the last of a month, a payday.
    assert new_year.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0]
    assert labour_day.tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 1, 1, 1 / 3, 1 / 3, 1 / 3])


def test_bridge_days_and_paydays_are_regressors():
    names = ("bridge", *PAYDAYS)

    # Thursday, 9 May 2024, was Ascension Day; the 15th a Wednesday.
    values = regressor_values(names, Calendar("DE"), date(2024, 5, 8), 10)

    assert values[:, 0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert values[:, 1].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert values[:, 2].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert values[:, 3].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_on_a_closed_weekday_no_regressor_counts():
    calendar = Calendar("DE", closed_weekdays=frozenset({2}))  # 1 May 2024 was a Wednesday

    assert not regressor_values(("holiday: Erster Mai", *PAYDAYS), calendar, date(2024, 5, 1), 1).any()


def test_of_two_columns_that_are_the_same_one_is_kept():
    column = np.array([0.0, 1.0, 0.0, 2.0])

    kept = independent_columns(np.column_stack([np.zeros(4), column, 3 * column, np.arange(4.0)]))

    assert kept == [1, 3]


@pytest.mark.parametrize(
    ("order", "seasonal"),
    [
        ((0, 0, 0), (0, 0, 0, 0)),
        ((0, 1, 1), (0, 1, 1, 7)),
        ((2, 0, 1), (1, 0, 0, 7)),
        ((3, 2, 3), (0, 0, 0, 0)),
        ((0, 0, 0), (1, 1, 1, 14)),
        ((0, 1, 0), (0, 0, 0, 7)),
    ],
)
def test_every_order_of_the_settings_gives_finite_forecasts(order, seasonal):
    settings = MLSettings(sarimax_order=order, sarimax_seasonal=seasonal)

    forecast = Sarimax.from_settings(settings).fit(DailySeries(START, shop(200)), Calendar("DE")).predict(28)

    assert forecast.shape == (28,)
    assert np.isfinite(forecast).all()


def test_without_any_difference_the_level_is_kept():
    y = 500 + np.random.default_rng(1).normal(0, 5, 300)
    settings = MLSettings(sarimax_order=(1, 0, 0), sarimax_seasonal=(0, 0, 0, 0))

    forecast = Sarimax.from_settings(settings).fit(DailySeries(START, y), Calendar()).predict(28)

    np.testing.assert_allclose(forecast, 500, atol=5)


def test_another_order_gives_another_forecast():
    series = DailySeries(START, shop())

    ours = Sarimax().fit(series, Calendar()).predict(28)
    other = Sarimax((0, 1, 1), (0, 1, 1, 14)).fit(series, Calendar()).predict(28)

    assert np.abs(ours - other).max() > 1.0


def test_a_season_too_long_for_the_filter_is_refused_with_the_setting():
    with pytest.raises(CandidateFailed, match="ML_SARIMAX_SEASONAL"):
        Sarimax((1, 1, 1), (1, 1, 1, 365)).fit(DailySeries(START, shop()), Calendar())


def test_seasonal_orders_without_a_season_are_refused_with_the_setting():
    with pytest.raises(CandidateFailed, match="ML_SARIMAX_SEASONAL"):
        Sarimax((1, 1, 1), (1, 1, 1, 0)).fit(DailySeries(START, shop()), Calendar())


def test_a_history_too_short_for_the_order_is_refused():
    with pytest.raises(CandidateFailed, match="sarimax needs"):
        Sarimax((1, 1, 1), (1, 1, 1, 28)).fit(DailySeries(START, shop(60)), Calendar())


def test_a_state_of_other_orders_is_refused():
    state = Sarimax().fit(DailySeries(START, shop()), Calendar()).get_state()

    with pytest.raises(ArtifactRefused, match="orders"):
        Sarimax.from_state(state, MLSettings(sarimax_order=(0, 1, 1)))


def test_differences_are_taken_as_box_and_jenkins_write_them():
    order = Order((0, 1, 0), (0, 1, 0, 7))
    squares = np.arange(12.0) ** 2

    # (t² - (t-7)²) = 14 t - 49, whose difference is 14.
    assert order.difference(squares).tolist() == [14.0] * 4
    assert order.days_lost == 8


def test_without_statsmodels_the_candidate_says_which_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.statespace.sarimax", None)

    with pytest.raises(CandidateUnavailable, match="statsmodels"):
        Sarimax.from_settings(MLSettings())
