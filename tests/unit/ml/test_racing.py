"""Racing: an expensive candidate that cannot win stops after the first fold, and nothing else is stopped."""

from typing import ClassVar

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.backtest import cross_validate
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.naive import Naive
from app.services.ml.candidates.snaive import SeasonalNaive
from app.services.ml.log_space import in_log_space
from tests.factories import WEEK, weekly_series

SETTINGS = MLSettings(horizon_days=14, cv_folds=3)
SERIES = weekly_series(200, noise=0.2)


class Costly(SeasonalNaive):
    """Off by a share of the mean week, and keeps count of its forecasts."""

    name: ClassVar[str] = "costly"
    expensive: ClassVar[bool] = True
    off: ClassVar[float] = 0.0
    forecasts: ClassVar[list[int]] = []

    def predict(self, horizon):
        self.forecasts.append(horizon)
        return super().predict(horizon) + self.off * WEEK.mean()


@pytest.fixture(autouse=True)
def costly():
    Costly.forecasts.clear()
    Costly.off = 0.0


def run_of(name: str, candidates, settings: MLSettings = SETTINGS):
    validation = cross_validate(SERIES, Calendar(), candidates, settings)
    return next(run for run in validation.runs if run.name == name)


def test_an_expensive_candidate_far_behind_stops_after_the_first_fold_with_both_errors():
    Costly.off = 3.0

    run = run_of("costly", [Costly, SeasonalNaive])

    first = SERIES.y[158:172]
    best = np.abs(np.tile(SERIES.y[151:158], 2) - first).mean()
    own = np.abs(np.tile(SERIES.y[151:158], 2) + 3.0 * WEEK.mean() - first).mean()
    assert run.status == "left_out"
    assert run.reason == f"costly was stopped: MAE {own:.4g} on the first past period, the best reached {best:.4g}."
    assert run.forecasts.size == 0
    assert len(Costly.forecasts) == 1


def test_an_expensive_candidate_that_keeps_up_is_scored_on_every_fold():
    run = run_of("costly", [Costly, SeasonalNaive])

    assert run.status == "scored"
    assert len(Costly.forecasts) == 3


def test_the_order_of_the_candidates_neither_saves_nor_moves_anyone():
    Costly.off = 3.0

    validation = cross_validate(SERIES, Calendar(), [Costly, Naive, SeasonalNaive], SETTINGS)

    assert [(run.name, run.status) for run in validation.runs] == [
        ("costly", "left_out"),
        ("naive", "scored"),
        ("snaive", "scored"),
    ]


def test_a_cheap_candidate_is_never_stopped():
    assert run_of("naive", [Naive, SeasonalNaive]).status == "scored"


def test_alone_or_with_a_single_fold_nobody_is_stopped():
    Costly.off = 3.0

    assert run_of("costly", [Costly]).status == "scored"
    assert run_of("costly", [Costly, SeasonalNaive], MLSettings(horizon_days=14, cv_folds=1)).status == "scored"


def test_log_space_keeps_what_a_candidate_costs():
    assert in_log_space(Costly).expensive
    assert not in_log_space(Naive).expensive
