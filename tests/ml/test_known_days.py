"""Shops with known truth: what it is worth to announce promotions and closures, and that none costs nothing."""

from datetime import date, timedelta

import numpy as np
import pytest

from app.config.ml_settings import FAST, MLSettings
from app.services.ml.backtest import cross_validate
from app.services.ml.calendar import Calendar, DayKind, KnownDay
from app.services.ml.candidates import CANDIDATES
from app.services.ml.hashing import output_hash
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.results import EngineResult
from app.services.ml.series import BoolArray, FloatArray
from tests.factories import MONDAY, WEEK, series_of

N_DAYS, HORIZON = 500, 28
CHEAP = MLSettings(model_candidates=("snaive", "weekday_mean", "calendar_ridge", "ridge"))


def calendar_of(days: BoolArray, kind: DayKind) -> Calendar:
    known = (KnownDay(MONDAY + timedelta(days=int(day)), kind) for day in np.flatnonzero(days))
    return Calendar(known_days=tuple(known))


def forecast(sales: FloatArray, calendar: Calendar, settings: MLSettings = CHEAP) -> EngineResult:
    return BusinessMLEngine(settings).forecast(series_of(sales[:N_DAYS]), calendar)


def truth(seed: int, uplift: float) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Sales with noise, sales as expected, and promotion days: one in 15, four of them in the days ahead."""
    random = np.random.default_rng(seed)
    promoted = np.zeros(N_DAYS + HORIZON, dtype=bool)
    promoted[random.choice(N_DAYS, N_DAYS // 15, replace=False)] = True
    promoted[N_DAYS + random.choice(HORIZON, 4, replace=False)] = True
    expected = np.resize(WEEK, promoted.size) * np.where(promoted, 1.0 + uplift, 1.0)
    return expected * random.normal(1.0, 0.1, promoted.size), expected, promoted


@pytest.mark.parametrize("seed", [1, 2])
def test_announced_promotions_halve_the_error_on_their_days_and_cost_nothing_on_others(seed):
    sales, expected, promoted = truth(seed, uplift=0.5)
    ahead = promoted[N_DAYS:]

    blind, seeing = (forecast(sales, one) for one in (Calendar(), calendar_of(promoted, "promotion")))

    errors = [np.abs(result.forecast.yhat - expected[N_DAYS:]) for result in (blind, seeing)]
    assert errors[1][ahead].mean() < 0.5 * errors[0][ahead].mean()
    assert errors[1][~ahead].mean() < 1.1 * errors[0][~ahead].mean()


def test_the_default_methods_see_them_too():
    sales, expected, promoted = truth(4, uplift=0.5)
    settings = MLSettings(model_candidates=FAST)

    results = [forecast(sales, one, settings) for one in (Calendar(), calendar_of(promoted, "promotion"))]

    errors = [np.abs(result.forecast.yhat - expected[N_DAYS:])[promoted[N_DAYS:]].mean() for result in results]
    assert errors[1] < 0.5 * errors[0]


def test_what_promotions_sold_is_reported():
    sales, _, promoted = truth(5, uplift=0.5)

    said = [str(note) for note in forecast(sales, calendar_of(promoted, "promotion")).notes]

    assert any("Promotions sold +4" in one or "Promotions sold +5" in one for one in said)
    assert any("(33 past days); announced days ahead: 4" in one for one in said)


def test_promotions_that_were_never_seen_before_are_said_to_be_forecast_like_usual_days():
    sales, _, promoted = truth(6, uplift=0.0)
    promoted[:N_DAYS] = False

    unheard, heard = (forecast(sales, one) for one in (Calendar(), calendar_of(promoted, "promotion")))

    assert heard.forecast.yhat.tobytes() == unheard.forecast.yhat.tobytes()
    assert [note.code for note in heard.notes] == ["promotions_unmeasured"]
    assert heard.notes[0].values["n"] == 4


def test_promotions_without_effect_change_next_to_nothing():
    sales, expected, promoted = truth(7, uplift=0.0)

    blind, seeing = (forecast(sales, one) for one in (Calendar(), calendar_of(promoted, "promotion")))

    difference = np.abs(seeing.forecast.yhat - blind.forecast.yhat).mean()
    assert difference < 0.03 * expected.mean()


def test_an_announced_holiday_of_three_weeks_halves_the_error_after_it():
    sales = truth(8, uplift=0.0)[0]
    closed = np.zeros(N_DAYS + HORIZON, dtype=bool)
    closed[N_DAYS - 35 : N_DAYS - 14] = True  # closed for three weeks, open again for two
    closed[[N_DAYS + 3, N_DAYS + 4]] = True
    expected = np.where(closed, 0.0, np.resize(WEEK, closed.size))

    blind, seeing = (
        forecast(np.where(closed, 0.0, sales), one) for one in (Calendar(), calendar_of(closed, "closure"))
    )

    errors = [np.abs(result.forecast.yhat - expected[N_DAYS:]) for result in (blind, seeing)]
    assert errors[1].mean() < 0.5 * errors[0].mean()
    assert (seeing.forecast.yhat[[3, 4]] == 0.0).all()
    for lower, upper in seeing.forecast.bands.values():
        assert (lower[[3, 4]] == 0.0).all()
        assert (upper[[3, 4]] == 0.0).all()


def test_a_promotion_long_after_the_days_ahead_changes_not_a_bit():
    sales = truth(9, uplift=0.0)[0]
    later = KnownDay(date(2030, 1, 1), "promotion")

    hashes = {output_hash(forecast(sales, one)) for one in (Calendar(), Calendar(known_days=(later,)))}

    assert len(hashes) == 1


def test_what_a_promotion_sells_is_measured_at_each_fold_on_the_days_before_it():
    sales, _, promoted = truth(10, uplift=0.4)
    calendar = calendar_of(promoted, "promotion")
    candidates = [one for one in CANDIDATES if one.name in FAST]
    later = sales.copy()
    later[N_DAYS - 2 * HORIZON :] *= np.where(promoted, 9.0, 1.0)[N_DAYS - 2 * HORIZON :]

    runs, changed = (
        cross_validate(series_of(one[:N_DAYS]), calendar, candidates, MLSettings()).runs for one in (sales, later)
    )

    for one, other in zip(runs, changed, strict=True):
        assert one.forecasts[:2].tobytes() == other.forecasts[:2].tobytes(), one.name
        assert one.forecasts[2].tobytes() != other.forecasts[2].tobytes(), one.name
