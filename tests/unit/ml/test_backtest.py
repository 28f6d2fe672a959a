"""Folds, and that nothing after a cut-off reaches what is said before it."""

from typing import ClassVar

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.backtest import Fold, checked, cross_validate, guarded, rolling_origins
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import CANDIDATES
from app.services.ml.candidates.naive import Naive
from app.services.ml.candidates.snaive import SeasonalNaive
from tests.factories import series_of, weekly_series

SETTINGS = MLSettings(horizon_days=14, cv_folds=3)


class Broken(Naive):
    name: ClassVar[str] = "broken"

    def predict(self, horizon):
        raise ZeroDivisionError("secret sales of 1234.56")


class Short(Naive):
    name: ClassVar[str] = "short"

    def predict(self, horizon):
        return np.zeros(horizon - 1)


class Infinite(Naive):
    name: ClassVar[str] = "infinite"

    def predict(self, horizon):
        return np.full(horizon, np.inf)


class Absurd(Naive):
    name: ClassVar[str] = "absurd"

    def predict(self, horizon):
        return np.full(horizon, 1e9)


class Absent(Naive):
    name: ClassVar[str] = "absent"

    @classmethod
    def from_settings(cls, settings):
        raise CandidateUnavailable("its library is not installed")


class Recorder(Naive):
    """Writes down what it was asked to learn from and to observe."""

    name: ClassVar[str] = "recorder"
    calls: ClassVar[list[tuple[str, int]]] = []

    def fit(self, series, calendar):
        self.calls.append(("fit", len(series)))
        return super().fit(series, calendar)

    def observe(self, series, calendar):
        self.calls.append(("observe", len(series)))
        return super().observe(series, calendar)


def test_folds_lie_back_to_back_at_the_end_of_the_history():
    assert rolling_origins(200, 28, 3) == (Fold(116, 28), Fold(144, 28), Fold(172, 28))


def test_folds_take_at_most_sixty_percent_and_shrink_to_whole_weeks():
    assert rolling_origins(100, 28, 3) == (Fold(58, 14), Fold(72, 14), Fold(86, 14))
    assert rolling_origins(100, 365, 1) == (Fold(44, 56),)


def test_when_not_a_week_is_left_for_each_fold_there_are_fewer():
    assert rolling_origins(30, 28, 3) == (Fold(16, 7), Fold(23, 7))
    assert rolling_origins(21, 28, 3) == (Fold(14, 7),)
    assert rolling_origins(20, 28, 3) == ()
    assert rolling_origins(1, 28, 3) == ()


@pytest.mark.parametrize("horizon", [1, 3, 7, 10, 28, 365])
@pytest.mark.parametrize("n_folds", [1, 3, 20])
def test_every_history_leaves_two_weeks_to_learn_from(horizon, n_folds):
    for n_days in range(1, 400):
        folds = rolling_origins(n_days, horizon, n_folds)

        assert all(fold.cutoff >= 14 and 1 <= fold.horizon <= horizon for fold in folds)
        assert len(folds) <= n_folds
        assert not folds or folds[-1].cutoff + folds[-1].horizon == n_days


def test_parameters_are_estimated_once_and_observed_forward():
    Recorder.calls.clear()

    cross_validate(weekly_series(200), Calendar(), [Recorder], SETTINGS)

    assert Recorder.calls == [("fit", 158), ("observe", 172), ("observe", 186)]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_days_after_any_cut_off_change_nothing_before_it(candidate):
    series, calendar = weekly_series(200, noise=0.2), Calendar("DE")
    before = cross_validate(series, calendar, [candidate], SETTINGS)

    for known, fold in enumerate(before.folds, start=1):
        changed = series_of(np.where(np.arange(200) >= fold.cutoff, 3.0 * series.y[::-1], series.y))
        after = cross_validate(changed, calendar, [candidate], SETTINGS).runs[0].forecasts

        np.testing.assert_array_equal(before.runs[0].forecasts[:known], after[:known])
        assert known == len(before.folds) or not np.array_equal(before.runs[0].forecasts[known:], after[known:])


def test_out_of_fold_forecasts_match_a_hand_made_seasonal_naive():
    series = weekly_series(100, noise=0.3)

    validation = cross_validate(series, Calendar(), [SeasonalNaive], MLSettings(horizon_days=7, cv_folds=2))

    np.testing.assert_array_equal(validation.runs[0].forecasts, [series.y[79:86], series.y[86:93]])
    np.testing.assert_array_equal(validation.actual, [series.y[86:93], series.y[93:]])
    by_hand = [np.abs(series.y[86:93] - series.y[79:86]).mean(), np.abs(series.y[93:] - series.y[86:93]).mean()]
    np.testing.assert_allclose(validation.fold_metric(validation.runs[0].forecasts, "mae"), by_hand)
    assert validation.metrics(validation.runs[0].forecasts)["mae"] == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize(
    ("candidate", "status", "reason"),
    [
        (Broken, "failed", "broken raised ZeroDivisionError."),
        (Short, "failed", "short gave shape (13,) instead of (14,)."),
        (Infinite, "failed", "infinite gave a forecast that is not finite."),
        (Absurd, "failed", "absurd gave a forecast more than 10 times the largest day ever sold."),
        (Absent, "left_out", "its library is not installed"),
    ],
)
def test_a_failing_candidate_is_a_row_with_a_reason_and_the_others_go_on(candidate, status, reason):
    validation = cross_validate(weekly_series(200), Calendar(), [candidate, Naive], SETTINGS)

    assert (validation.runs[0].status, validation.runs[0].reason) == (status, reason)
    assert [run.name for run in validation.scored] == ["naive"]


def test_a_candidate_that_needs_a_longer_history_is_left_out_with_the_numbers():
    class Slow(Naive):
        name: ClassVar[str] = "slow"
        min_history: ClassVar[int] = 500

    run = cross_validate(weekly_series(200), Calendar(), [Slow], SETTINGS).runs[0]

    assert run.status == "left_out"
    assert run.reason == "slow needs 500 days before the first comparison; there are 158."


def test_what_a_candidate_says_in_its_error_is_not_passed_on():
    with pytest.raises(CandidateFailed) as caught, guarded("broken"):
        raise ValueError("1234.56 sold")

    assert "1234" not in str(caught.value)


def test_an_interrupt_is_not_taken_for_a_failing_candidate():
    with pytest.raises(KeyboardInterrupt), guarded("any"):
        raise KeyboardInterrupt


def test_a_forecast_of_a_series_that_never_sold_must_be_zero():
    zeros = series_of(np.zeros(30))

    assert checked(np.zeros(3), 3, zeros, "any").tolist() == [0, 0, 0]
    with pytest.raises(CandidateFailed, match="10 times"):
        checked(np.ones(3), 3, zeros, "any")
