"""Every variable that decides a forecast does: set it in the environment, and the output is another one."""

from datetime import date
from functools import cache

import numpy as np
import pytest

from app.config.ml_settings import PRESETS, MLSettings
from app.services.ml.calendar import Calendar
from app.services.ml.hashing import NOT_PART_OF_A_FORECAST, output_hash
from app.services.ml.ml_engine import BusinessMLEngine
from tests.factories import series_of, weekly_series

CHEAP = "naive,snaive,weekday_mean"
# variable: (candidates to see it with, another value than the default)
CHANGES = {
    "ML_MODEL_CANDIDATES": (CHEAP, "naive"),
    "ML_SELECT_BEST": (CHEAP, "true"),
    "ML_CV_PRIMARY_METRIC": (CHEAP, "rmse"),
    "ML_HORIZON_DAYS": (CHEAP, "14"),
    "ML_CV_FOLDS": (CHEAP, "2"),
    "ML_SEASONALITY_MODE": ("prophet", "multiplicative"),
    "ML_HOLIDAYS_COUNTRY": ("prophet", "ES"),
    "ML_LOG_TRANSFORM": ("weekday_mean", "true"),
    "ML_SARIMAX_ORDER": ("sarimax", "0,1,1"),
    "ML_SARIMAX_SEASONAL": ("sarimax", "0,1,1,7"),
    "ML_ANOMALY_METHOD": (CHEAP, "isolation_forest"),
    "ML_STL_PERIOD": (CHEAP, "14"),
    "ML_STL_ZTHRESH": (CHEAP, "12"),
    "ML_MAX_TRAIN_WINDOW_DAYS": (CHEAP, "90"),
    "ML_INTERVAL_LEVEL": (CHEAP, "0.9"),
}
READ_ELSEWHERE = {
    "stale_after_days",  # decides which day is the last one: tests/contract/test_intake_contract.py
    "global_model",  # whether there is one more candidate: tests/integration/test_global_model.py
    "global_lstm",  # likewise: tests/unit/ml/test_global_lstm.py
}


@cache
def _output(settings: MLSettings) -> str:
    growing = weekly_series(400, noise=0.15, start=date(2025, 1, 6)).y * np.linspace(1.0, 2.0, 400)
    growing[[-20, -40]] *= (2.5, 0.2)
    series = series_of(growing, date(2025, 1, 6))
    return output_hash(BusinessMLEngine(settings).forecast(series, Calendar()))


@pytest.mark.parametrize("preset", ["classic", "fast", "full"])
def test_a_preset_is_what_it_stands_for(preset, monkeypatch):
    series = weekly_series(150, noise=0.2)
    monkeypatch.setenv("ML_MODEL_CANDIDATES", preset)

    result = BusinessMLEngine(MLSettings()).forecast(series, Calendar())

    assert tuple(score.name for score in result.scores) == PRESETS[preset]


@pytest.mark.parametrize("variable", list(CHANGES))
def test_a_variable_changes_the_output(variable, monkeypatch):
    candidates, value = CHANGES[variable]
    monkeypatch.setenv("ML_MODEL_CANDIDATES", candidates)
    before = _output(MLSettings())

    monkeypatch.setenv(variable, value)

    assert _output(MLSettings()) != before


def test_no_setting_is_forgotten():
    seen = {variable.removeprefix("ML_").lower() for variable in CHANGES}

    assert set(MLSettings.model_fields) == seen | READ_ELSEWHERE | NOT_PART_OF_A_FORECAST
