"""The engine as a whole: what it promises about every result, and what each setting changes."""

from datetime import timedelta
from typing import ClassVar

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates import CANDIDATES
from app.services.ml.candidates.naive import Naive
from app.services.ml.candidates.snaive import SeasonalNaive
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.ml_engine import BusinessMLEngine, confidence
from app.services.ml.results import EngineResult
from tests.factories import MONDAY, WEEK, closed_on_sundays, series_of, weekly_series, with_day

CHEAP = ("naive", "snaive", "weekday_mean")


def run(series, calendar=None, candidates=CANDIDATES, **settings) -> EngineResult:
    chosen = MLSettings(**({"model_candidates": CHEAP} | settings))
    return BusinessMLEngine(chosen, candidates).forecast(series, calendar or Calendar())


class LateFailure(WeekdayMean):
    """Sound on folds, broken on the whole history."""

    name: ClassVar[str] = "late"

    def fit(self, series, calendar):
        if len(series) >= 280:
            raise RuntimeError("the optimiser gave up")
        return super().fit(series, calendar)


class AlwaysFails(Naive):
    def fit(self, series, calendar):
        raise MemoryError


def test_a_perfectly_regular_series_is_continued_with_zero_width():
    result = run(weekly_series())

    np.testing.assert_allclose(result.forecast.yhat, np.tile(WEEK, 4))
    for lower, upper in result.forecast.bands.values():
        np.testing.assert_array_equal(lower, result.forecast.yhat)
        np.testing.assert_array_equal(upper, result.forecast.yhat)
    assert result.chosen == "snaive"  # the simpler of two perfect ones
    assert result.anomalies == ()
    assert result.forecast.start == MONDAY + timedelta(days=280)
    assert result.as_of == MONDAY + timedelta(days=279)


def test_the_result_tells_who_took_part_and_why():
    result = run(weekly_series(noise=0.2))

    assert [score.name for score in result.scores] == list(CHEAP)
    assert all(score.status == "scored" and score.metrics["mae"] > 0 for score in result.scores)
    assert {score.name: score.weight for score in result.scores if score.weight} == result.weights
    assert set(result.members) == set(result.weights)
    assert sum(result.weights.values()) == pytest.approx(1, abs=1e-5)
    assert str(result.reason)
    assert result.metrics["mase"] > 0
    assert set(result.seconds) == {"compare", "fit", "intervals", "explanation", "anomalies"}


def test_closed_weekdays_are_exactly_zero_with_zero_bounds():
    result = run(closed_on_sundays(noise=0.3))

    sundays = (result.forecast.start.weekday() + np.arange(28)) % 7 == 6
    assert result.closed_weekdays == (6,)
    assert (result.forecast.yhat[sundays] == 0).all()
    assert (result.forecast.yhat[~sundays] > 0).all()
    for lower, upper in result.forecast.bands.values():
        assert (lower[sundays] == 0).all()
        assert (upper[sundays] == 0).all()
        assert (upper[~sundays] > 0).all()


def test_an_announced_closure_is_exactly_zero():
    series = weekly_series(noise=0.2)
    closure = KnownDay(series.end + timedelta(days=3), "closure", "stocktaking")

    result = run(series, Calendar(known_days=(closure,)))

    assert result.forecast.yhat[2] == 0
    assert result.forecast.bands[0.95][1][2] == 0
    assert (np.delete(result.forecast.yhat, 2) > 0).all()


def test_a_series_that_was_never_negative_has_no_negative_bound_and_refunds_may():
    small = series_of(np.random.default_rng(1).poisson(0.3, 280))
    with_refund = with_day(small, 100, -5.0)

    assert min(run(small).forecast.bands[0.95][0]) == 0
    assert min(run(with_refund).forecast.bands[0.95][0]) < 0


def test_the_same_input_gives_the_same_numbers():
    first, second = (run(weekly_series(noise=0.3)) for _ in range(2))

    np.testing.assert_array_equal(first.forecast.yhat, second.forecast.yhat)
    assert first.weights == second.weights
    assert first.metrics == second.metrics
    assert first.anomalies == second.anomalies


@pytest.mark.parametrize("n_days", [1, 2, 6, 7, 13, 14, 20])
def test_a_history_too_short_to_compare_gets_the_simplest_method_with_a_reason(n_days):
    result = run(weekly_series(n_days, noise=0.1))

    assert result.level == "fallback"
    assert result.chosen == "weekday_mean"
    assert "by rule" in str(result.reason)
    assert result.metrics == {}
    assert np.isfinite(result.forecast.yhat).all()
    assert any("Short history" in str(note) for note in result.notes)
    assert all(score.status == "left_out" and score.reason for score in result.scores)


def test_a_five_day_old_shop_is_forecast_near_its_average_trading_day():
    result = run(series_of([10.0, 20.0, 30.0, 0.0, 40.0]))  # from Monday on

    saturday, sunday, monday, tuesday, wednesday, thursday, friday = result.forecast.yhat[:7]
    assert saturday == sunday == 25  # not seen yet
    assert 10 < monday < tuesday < 25 < wednesday < friday < 40
    assert thursday == 0


def test_without_the_weekday_mean_a_five_day_old_shop_is_forecast_at_its_average_day():
    result = run(series_of([10.0, 20.0, 30.0, 0.0, 40.0]), candidates=(Naive,), model_candidates=("naive",))

    np.testing.assert_allclose(result.forecast.yhat, 20.0)
    assert result.members["mean"]["level"] == 20.0


def test_unexplained_days_without_sales_count_in_the_bands_as_often_as_they_are():
    y = weekly_series(504, noise=0.1).y.copy()
    y[[100, 200]] = 0.0
    y[[425, 440, 445, 455, 465, 475]] = 0.0  # in the folds, the last 84 days

    kept = run(series_of(y)).residuals.residuals

    # 8 of 504 days are 1.3 of 84: one of the six stays, the newest.
    assert kept.size == 84 - 5
    assert (kept < -0.5 * WEEK.min()).sum() == 1


def test_days_without_sales_up_to_the_last_one_stay_in_the_bands():
    y = weekly_series(504, noise=0.1).y.copy()
    y[-4:] = 0.0  # the shop may have closed

    assert run(series_of(y)).residuals.residuals.size == 84


def test_a_failing_candidate_leaves_its_reason_and_the_others_forecast():
    result = run(weekly_series(noise=0.2), candidates=(AlwaysFails, SeasonalNaive, WeekdayMean))

    assert (result.scores[0].status, result.scores[0].reason) == ("failed", "naive raised MemoryError.")
    assert result.scores[0].metrics == {}
    assert "naive" not in result.weights
    assert any("naive failed" in str(note) for note in result.notes)


def test_when_all_candidates_fail_there_is_still_a_forecast():
    result = run(weekly_series(noise=0.2), candidates=(AlwaysFails,), model_candidates=("naive",))

    assert result.level == "fallback"
    np.testing.assert_allclose(result.forecast.yhat, result.forecast.yhat[0])
    assert result.forecast.yhat[0] == pytest.approx(WEEK.mean(), rel=0.3)


def test_a_member_that_fails_on_the_whole_history_is_dropped_and_the_choice_made_again():
    candidates, names = (Naive, SeasonalNaive, LateFailure), ("naive", "snaive", "late")
    assert "late" in run(weekly_series(279, noise=0.4), candidates=candidates, model_candidates=names).weights

    result = run(weekly_series(280, noise=0.4), candidates=candidates, model_candidates=names)
    without = run(weekly_series(280, noise=0.4), model_candidates=("naive", "snaive"))

    assert (result.scores[2].status, result.scores[2].reason) == ("failed", "late raised RuntimeError.")
    assert result.weights == without.weights
    assert result.metrics == without.metrics
    np.testing.assert_array_equal(result.forecast.bands[0.8], without.forecast.bands[0.8])


def test_when_every_member_fails_on_the_whole_history_there_is_still_a_forecast():
    result = run(weekly_series(280, noise=0.4), candidates=(LateFailure,), model_candidates=("late",))

    assert (result.level, result.chosen) == ("fallback", "mean")
    assert str(result.reason) == "No method could be used: mean by rule."


def test_an_unknown_country_is_noted_and_the_forecast_made_without_holidays():
    result = run(weekly_series(noise=0.1), Calendar(country="ATLANTIS"))

    assert any("ATLANTIS" in str(note) for note in result.notes)
    np.testing.assert_array_equal(result.forecast.yhat, run(weekly_series(noise=0.1)).forecast.yhat)


def test_an_unknown_candidate_is_noted():
    result = run(weekly_series(), model_candidates=("snaive", "oracle"))

    assert any("oracle" in str(note) for note in result.notes)
    assert list(result.weights) == ["snaive"]


def test_a_day_beyond_reason_is_cut_and_noted():
    result = run(with_day(weekly_series(noise=0.1), 30, 1e300))

    assert any("typing errors" in str(note) for note in result.notes)
    assert result.forecast.yhat.max() < 100


def test_less_than_a_billionth_counts_as_no_sale():
    result = run(series_of(np.full(100, 5e-324)))

    assert (result.forecast.yhat == 0).all()


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_confidence_and_weights_do_not_depend_on_the_scale_of_sales(scale):
    small, large = run(weekly_series(noise=0.3)), run(weekly_series(noise=0.3, level=scale))

    assert large.confidence_score == pytest.approx(small.confidence_score, abs=1e-3)
    assert large.weights == pytest.approx(small.weights, abs=1e-3)


def test_confidence_grows_with_accuracy_and_history_and_stays_in_bounds():
    noisy, calm = run(weekly_series(noise=0.8)), run(weekly_series(noise=0.1))

    assert 0 < noisy.confidence_score < calm.confidence_score < 1
    assert run(weekly_series(60, noise=0.1)).confidence_score < calm.confidence_score
    assert confidence({"mase": 1.0, "wape": 0.0, "mae": 1.0}, 56) == pytest.approx(0.5 * np.sqrt(0.5), abs=1e-4)
    assert confidence({}, 56) == 0.25
    assert confidence({"mae": 0.0}, 10**9) == 1.0


# Every setting of the engine changes a result.


def test_horizon_sets_the_length():
    assert run(weekly_series(), horizon_days=5).forecast.yhat.shape == (5,)
    assert run(weekly_series(), horizon_days=365).forecast.yhat.shape == (365,)


def test_folds_set_what_is_compared():
    assert run(weekly_series(noise=0.3), cv_folds=1).metrics != run(weekly_series(noise=0.3), cv_folds=3).metrics


def test_select_best_takes_one_where_the_default_blends():
    rng = np.random.default_rng(8)
    series = series_of(50 + np.cumsum(rng.normal(0, 1.0, 280)) + rng.normal(0, 2, 280))

    blend, best = run(series), run(series, select_best=True)

    assert (blend.level, best.level) == ("blend", "single")
    assert len(best.weights) == 1
    assert not np.array_equal(blend.forecast.yhat, best.forecast.yhat)


def test_candidates_are_those_of_the_settings():
    assert list(run(weekly_series(noise=0.2), model_candidates=("naive",)).weights) == ["naive"]


def test_the_primary_metric_changes_the_weights():
    series = with_day(weekly_series(noise=0.3), 270, 400.0)

    assert run(series, cv_primary_metric="mae").weights != run(series, cv_primary_metric="smape").weights


def test_the_log_transform_makes_means_geometric():
    series = weekly_series(noise=0.6, level=100)

    plain, logged = (
        run(series, model_candidates=("weekday_mean",)),
        run(series, model_candidates=("weekday_mean",), log_transform=True),
    )

    by_hand = np.expm1(WeekdayMean().fit(series_of(np.log1p(series.y)), Calendar()).predict(7))
    np.testing.assert_allclose(logged.forecast.yhat[:7], by_hand, rtol=1e-5)
    assert (logged.forecast.yhat < plain.forecast.yhat).all()


def test_the_training_window_caps_what_is_seen():
    series = series_of(np.concatenate([np.full(200, 1000.0), weekly_series(80, noise=0.2, start=MONDAY).y]))

    capped, alone = run(series, max_train_window_days=80), run(series.tail(80))

    np.testing.assert_array_equal(capped.forecast.yhat, alone.forecast.yhat)
    assert capped.metrics == alone.metrics


def test_the_interval_level_adds_a_band():
    assert set(run(weekly_series()).forecast.bands) == {0.8, 0.95}
    bands = run(weekly_series(noise=0.3), interval_level=0.5).forecast.bands
    assert set(bands) == {0.5, 0.8, 0.95}
    assert (bands[0.5][1] <= bands[0.8][1]).all()
    assert (bands[0.8][0] >= bands[0.95][0]).all()


def test_the_holidays_country_is_used_when_the_tenant_has_none():
    result = run(weekly_series(noise=0.1), holidays_country="XX")

    assert any("'XX'" in str(note) for note in result.notes)


@pytest.mark.parametrize("method", ["stl_resid", "isolation_forest"])
def test_a_planted_outlier_is_reported_by_either_method(method):
    series = with_day(weekly_series(noise=0.05), -20, 150.0)

    result = run(series, model_candidates=("weekday_mean",), anomaly_method=method)

    assert series.end - timedelta(days=19) in {anomaly.day for anomaly in result.anomalies}
