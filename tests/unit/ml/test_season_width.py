"""How much wider the season ahead makes the bands: by hand, and on shops whose only difference is a year ago."""

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.results import EngineResult
from app.services.ml.season_width import season_width
from app.services.ml.series import DailySeries
from tests.factories import series_of, weekly_series

YEAR, HORIZON = 364, 28
NOWHERE = Calendar()


def shop(n_days: int, fold: float = 11.0, **seasons: float) -> DailySeries:
    """Roots of 10 each day, ``fold`` in the last 28 days, and as given in the same 28 days ahead of years before."""
    roots = np.full(n_days, 10.0)
    for years, root in seasons.items():
        first = n_days - YEAR * int(years.removeprefix("ago_"))
        roots[first : first + HORIZON] = root
    roots[-HORIZON:] = fold
    return series_of(roots**2)


def width(series: DailySeries, calendar: Calendar = NOWHERE) -> float:
    return season_width(series, calendar, (len(series) - HORIZON,), HORIZON)


def test_a_season_that_moved_four_times_as_far_doubles_the_width():
    # The mean of 8 weeks is off by 1 on the fold and by 4 a year ago; the root of 4.
    assert width(shop(500, ago_1=14.0)) == pytest.approx(2.0)
    assert width(shop(500, ago_1=6.0)) == pytest.approx(2.0)


def test_all_earlier_years_count_alike():
    assert width(shop(900, ago_1=14.0, ago_2=12.0)) == pytest.approx(np.sqrt(3.0))


def test_several_folds_count_with_their_mean_error():
    # A second fold 28 days earlier is met exactly: the folds are off by 0.5 on average, the year before by 2.
    series = shop(500, ago_1=12.0)

    assert season_width(series, NOWHERE, (444, 472), HORIZON) == pytest.approx(2.0)


def test_a_calm_season_is_no_promise():
    assert width(shop(500, fold=12.0, ago_1=11.0)) == 1.0
    assert width(shop(500, fold=12.0)) == 1.0


def test_three_times_the_width_is_the_most():
    assert width(shop(500, ago_1=40.0)) == 3.0


def test_the_size_of_a_shop_does_not_matter():
    small = shop(500, ago_1=13.0)

    assert width(series_of(1e6 * small.y)) == pytest.approx(width(small))


@pytest.mark.parametrize("n_days", [28, 300, 364, 364 + 27])
def test_without_four_weeks_before_the_season_a_year_ago_nothing_is_known(n_days):
    assert width(series_of(np.append(np.full(n_days - 14, 100.0), np.full(14, 121.0)))) == 1.0


def test_folds_without_an_error_say_nothing():
    assert width(shop(500, fold=10.0, ago_1=14.0)) == 1.0


def test_a_season_that_was_closed_says_nothing():
    series = shop(500, ago_1=40.0)
    closures = tuple(KnownDay(day.item(), "closure") for day in series.dates[500 - YEAR : 500 - YEAR + HORIZON])

    assert width(series) == 3.0
    assert width(series, Calendar(known_days=closures)) == 1.0


def forecast(series: DailySeries) -> EngineResult:
    """By one method that looks at the last weeks only, so that last year changes the bands and nothing else."""
    return BusinessMLEngine(MLSettings(model_candidates=("weekday_mean",))).forecast(series, NOWHERE)


def test_bands_and_those_of_totals_widen_before_a_season_that_was_restless():
    calm = weekly_series(504, noise=0.1)
    y = calm.y.copy()
    y[504 - YEAR : 504 - YEAR + HORIZON] *= np.tile([1.6, 0.6], HORIZON // 2)  # no change of level
    restless = series_of(y)

    results = [forecast(series) for series in (calm, restless)]

    factor = season_width(restless, NOWHERE, (420, 448, 476), HORIZON)
    assert factor > 1.3
    np.testing.assert_array_equal(results[1].forecast.yhat, results[0].forecast.yhat)
    before, now = (result.forecast.bands[0.8][1] - result.forecast.yhat for result in results)
    np.testing.assert_allclose(now, factor * before, rtol=1e-4)
    totals = [result.totals[0].bands[0.8][1] - result.totals[0].yhat for result in results]
    assert totals[1] == pytest.approx(factor * totals[0], rel=1e-3)
