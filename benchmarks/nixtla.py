"""Rivals of the Nixtla family: statsforecast's methods one series at a time, mlforecast's LightGBM over all of them."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app.services.ml.series import SEASON, FloatArray
from benchmarks.methods import BOUNDS, Known, Prediction

LEVELS = (80, 95)
SEED = 0
MEDIAN_OF = ("AutoETS", "AutoCES", "DynamicOptimizedTheta", "MSTL")


def statistical(name: str) -> Callable[[Known, int], Prediction]:
    """A class of `statsforecast.models` with a season of a week and its own intervals."""
    return lambda known, horizon: _forecast(name, known, horizon)


def median(known: Known, horizon: int) -> Prediction:
    """The median of four, day by day and bound by bound (Petropoulos & Svetunkov, 2020, IJF 36(1), 110-115)."""
    members = [_forecast(name, known, horizon) for name in MEDIAN_OF]
    mean = np.median([member.mean for member in members], axis=0)
    return Prediction(mean, {q: np.median([member.bounds[q] for member in members], axis=0) for q in BOUNDS})


def compile_models() -> None:
    """Import statsforecast and run each method once: what numba compiles is no cost of a series."""
    warnings.simplefilter("ignore")
    from statsforecast import models

    days = np.arange(20 * SEASON)
    y = 100 + 10 * np.sin(days) + days % SEASON
    for name in (*MEDIAN_OF, "AutoARIMA"):
        getattr(models, name)(season_length=SEASON).forecast(y, SEASON, level=list(LEVELS))


def global_lightgbm(known: list[Known], horizon: int) -> dict[str, Prediction]:
    """One LightGBM over all series, recursive, on scaled sales with lags, means and the calendar; its own conformal."""
    import lightgbm
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMean
    from mlforecast.target_transforms import LocalStandardScaler
    from mlforecast.utils import PredictionIntervals

    model = lightgbm.LGBMRegressor(
        n_estimators=300, learning_rate=0.05, num_leaves=31, n_jobs=1, random_state=SEED, verbosity=-1
    )
    forecaster = MLForecast(
        {"lightgbm": model},
        freq="D",
        lags=[1, 7, 14, 21, 28],
        lag_transforms={1: [RollingMean(7), RollingMean(28)], 7: [RollingMean(7), RollingMean(28)]},
        date_features=["dayofweek", "day", "month", "dayofyear"],
        target_transforms=[LocalStandardScaler()],
        num_threads=1,
    )
    forecaster.fit(_frame(known), prediction_intervals=PredictionIntervals(n_windows=2, h=horizon), static_features=[])
    table = forecaster.predict(horizon, level=list(LEVELS))
    return {
        str(unique_id): _prediction({column: rows[column].to_numpy() for column in rows}, "lightgbm-", "lightgbm")
        for unique_id, rows in table.groupby("unique_id", sort=False)
    }


def import_mlforecast() -> None:
    """What `global_lightgbm` imports."""
    warnings.simplefilter("ignore")
    import lightgbm  # noqa: F401
    import mlforecast  # noqa: F401


def _forecast(name: str, known: Known, horizon: int) -> Prediction:
    from statsforecast import models

    model = getattr(models, name)(season_length=SEASON)
    found: Mapping[str, Any] = model.forecast(known.series.y, horizon, level=list(LEVELS))
    return _prediction(found, "", "mean")


def _prediction(columns: Mapping[str, FloatArray], prefix: str, mean: str) -> Prediction:
    """From columns named as Nixtla does: "lo-95", "hi-80" behind a prefix."""
    low80, high80, low95, high95 = (
        np.asarray(columns[f"{prefix}{side}-{level}"], dtype=np.float64) for level in LEVELS for side in ("lo", "hi")
    )
    return Prediction(
        np.asarray(columns[mean], dtype=np.float64), dict(zip(BOUNDS, (low95, low80, high80, high95), strict=True))
    )


def _frame(known: list[Known]) -> Any:
    import pandas as pd

    parts = [
        pd.DataFrame({"unique_id": one.unique_id, "ds": one.series.dates.astype("datetime64[ns]"), "y": one.series.y})
        for one in known
    ]
    return pd.concat(parts, ignore_index=True)
