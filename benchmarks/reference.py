"""REFERENCE: the straightforward way to build a forecasting backend, with plain libraries and no cleverness of ours.

Naive, seasonal naive, SARIMAX(1,1,1)(1,1,1,7), Prophet as it comes and XGBoost with 300 trees forecast 3 earlier folds
of 28 days; the one with the smallest mean absolute error is fitted again on everything. Intervals are native for
SARIMAX and Prophet, and quantiles of the fold residuals for the others. Given a country, the same holidays (the day,
its eve, its morrow) go to Prophet, SARIMAX and XGBoost.
"""

import importlib
import logging
import warnings
from collections.abc import Callable, Mapping
from datetime import date, timedelta

import numpy as np
import pandas as pd

from app.services.ml.calendar import Calendar
from app.services.ml.series import SEASON, DailySeries, FloatArray, weekdays_from
from benchmarks.methods import BOUNDS, Known, Prediction

N_FOLDS = 3
MIN_DAYS = 56  # before a fold
N_TREES = 300
LAGS = (1, 7, 14, 28)
MEANS = (7, 28)
SEED = 0

Model = Callable[[Known, int, bool], Prediction]  # known, horizon, are intervals wanted


def naive(known: Known, horizon: int, _intervals: bool) -> Prediction:
    """The last day, repeated."""
    return Prediction(np.full(horizon, known.series.y[-1]))


def seasonal_naive(known: Known, horizon: int, _intervals: bool) -> Prediction:
    """The last week, repeated."""
    return Prediction(np.resize(known.series.y[-SEASON:], horizon))


def sarimax(known: Known, horizon: int, intervals: bool) -> Prediction:
    """SARIMAX(1,1,1)(1,1,1,7) of statsmodels with its defaults."""
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    series = known.series
    flags = _holiday_flags(known, horizon)
    past, ahead = (flags[: len(series)], flags[len(series) :]) if flags.size else (None, None)
    model = SARIMAX(series.y, exog=past, order=(1, 1, 1), seasonal_order=(1, 1, 1, SEASON))
    result = model.fit(disp=False).get_forecast(horizon, exog=ahead)
    bounds: dict[float, FloatArray] = {}
    for level in (0.8, 0.95) if intervals else ():
        tail = (1 - level) / 2
        bounds |= dict(zip(_tails(tail), result.conf_int(alpha=1 - level).T, strict=True))
    return Prediction(result.predicted_mean, bounds)


def prophet(known: Known, horizon: int, intervals: bool) -> Prediction:
    """Prophet with its defaults; the country's holidays with one day on either side."""
    from prophet import Prophet

    series = known.series
    np.random.seed(SEED)  # noqa: NPY002 - Prophet samples from numpy's global generator
    model = Prophet(holidays=_holiday_table(known, horizon))
    model.fit(pd.DataFrame({"ds": series.dates, "y": series.y}))
    future = pd.DataFrame({"ds": pd.date_range(series.end + timedelta(days=1), periods=horizon)})
    if not intervals:
        return Prediction(model.predict(future)["yhat"].to_numpy())
    samples = model.predictive_samples(future)["yhat"]  # shape (horizon, 1000); `predict` keeps one level only
    model.uncertainty_samples = 0
    mean = model.predict(future)["yhat"].to_numpy()
    return Prediction(mean, dict(zip(BOUNDS, np.quantile(samples, BOUNDS, axis=1), strict=True)))


def xgboost(known: Known, horizon: int, _intervals: bool) -> Prediction:
    """XGBoost, 300 trees, on lags, rolling means and the calendar; its own forecasts are its later lags."""
    import xgboost as xgb

    series = known.series
    y, n = series.y, len(series)
    days = _calendar_columns(series.start, n + horizon)
    flags = _holiday_flags(known, horizon)
    days = np.column_stack([days, flags]) if flags.size else days
    first = max(LAGS)
    rows = np.column_stack([*(_lagged(y, lag) for lag in LAGS), *(_recent_mean(y, width) for width in MEANS), days[:n]])
    parameters = {"max_depth": 4, "eta": 0.05, "subsample": 0.8, "colsample_bytree": 0.8, "tree_method": "hist",
                  "nthread": 1, "seed": SEED}  # fmt: skip
    booster = xgb.train(parameters, xgb.DMatrix(rows[first:], y[first:]), num_boost_round=N_TREES)
    path = np.concatenate([y, np.zeros(horizon)])
    for day in range(n, n + horizon):
        recent = [path[day - lag] for lag in LAGS] + [path[day - width : day].mean() for width in MEANS]
        path[day] = booster.inplace_predict(np.concatenate([recent, days[day]])[None, :])[0]
    return Prediction(path[n:])


MODELS: Mapping[str, Model] = {
    "naive": naive,
    "snaive": seasonal_naive,
    "sarimax": sarimax,
    "prophet": prophet,
    "xgboost": xgboost,
}


def reference(known: Known, horizon: int) -> Prediction:
    """The best of the five on 3 earlier folds, fitted again on all days that are known."""
    folds = _fold_errors(known, horizon)
    if not folds:
        return _with_residuals(seasonal_naive(known, horizon, True), _seasonal_differences(known.series))
    best = min(folds, key=lambda name: float(np.abs(folds[name]).mean()))
    forecast = MODELS[best](known, horizon, True)
    return forecast if forecast.bounds else _with_residuals(forecast, folds[best])


def alone(name: str) -> Callable[[Known, int], Prediction]:
    """One of the five without folds; intervals where the library has its own."""
    return lambda known, horizon: MODELS[name](known, horizon, True)


def snaive_with_intervals(known: Known, horizon: int) -> Prediction:
    """Seasonal naive with the quantiles of its in-sample errors."""
    return _with_residuals(seasonal_naive(known, horizon, True), _seasonal_differences(known.series))


def quiet() -> None:
    """Import what the five use, and silence what they say of every fit."""
    for library in ("prophet", "statsmodels.tsa.statespace.sarimax", "xgboost", "holidays"):
        importlib.import_module(library)
    logging.getLogger("cmdstanpy").disabled = True
    logging.getLogger("prophet").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def _fold_errors(known: Known, horizon: int) -> dict[str, FloatArray]:
    """Actual minus forecast of each model that forecast every fold, all folds in one array; empty without folds."""
    y = known.series.y
    cutoffs = [y.size - horizon * back for back in range(N_FOLDS, 0, -1) if y.size - horizon * back >= MIN_DAYS]
    errors: dict[str, FloatArray] = {}
    for name, model in MODELS.items() if cutoffs else ():
        try:
            forecasts = [_head(known, cutoff, model, horizon) for cutoff in cutoffs]
        except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError):
            continue  # a library that cannot take this series: the others remain, naive never fails
        residuals = np.concatenate(
            [y[cutoff : cutoff + horizon] - forecast for cutoff, forecast in zip(cutoffs, forecasts, strict=True)]
        )
        if np.isfinite(residuals).all():
            errors[name] = residuals
    return errors


def _head(known: Known, cutoff: int, model: Model, horizon: int) -> FloatArray:
    before = Known(known.unique_id, known.series.head(cutoff), known.country)
    return model(before, horizon, False).clipped().mean


def _with_residuals(forecast: Prediction, residuals: FloatArray) -> Prediction:
    quantiles = np.quantile(residuals, BOUNDS)
    return Prediction(forecast.mean, {q: forecast.mean + width for q, width in zip(BOUNDS, quantiles, strict=True)})


def _seasonal_differences(series: DailySeries) -> FloatArray:
    return series.y[SEASON:] - series.y[:-SEASON] if len(series) > SEASON else np.zeros(1)


def _tails(tail: float) -> tuple[float, float]:
    lower = min(BOUNDS, key=lambda bound: abs(bound - tail))
    return lower, min(BOUNDS, key=lambda bound: abs(bound - (1 - tail)))


def _holiday_flags(known: Known, horizon: int) -> FloatArray:
    """Holiday, eve and morrow, shape (n_days + horizon, k); only columns that the past shows; empty without any."""
    if not known.country:
        return np.empty(0)
    n_days = len(known.series)
    _, columns = Calendar(known.country).regressors(known.series.start, n_days + horizon)
    flags = columns[:, :3]
    seen = flags[:n_days].any(axis=0)
    return flags[:, seen] if seen.any() else np.empty(0)


def _holiday_table(known: Known, horizon: int) -> pd.DataFrame | None:
    """Prophet's table of holidays: name, day and how many days around it may differ."""
    if not known.country:
        return None
    n_days = len(known.series) + horizon
    names = Calendar(known.country).holiday_names(known.series.start, n_days)
    days = pd.date_range(known.series.start, periods=n_days)
    found = [(name, day) for name, day in zip(names, days, strict=True) if name]
    if not any(day.date() <= known.series.end for _, day in found):
        return None
    return pd.DataFrame(found, columns=["holiday", "ds"]).assign(lower_window=-1, upper_window=1)


def _calendar_columns(start: date, n_days: int) -> FloatArray:
    """Weekday, day of month, month and day of year, shape (n_days, 4)."""
    days = [start + timedelta(days=offset) for offset in range(n_days)]
    rows = [(day.day, day.month, day.timetuple().tm_yday) for day in days]
    return np.column_stack([weekdays_from(start, n_days), np.array(rows)]).astype(np.float64)


def _lagged(y: FloatArray, lag: int) -> FloatArray:
    return np.concatenate([np.full(min(lag, y.size), np.nan), y[:-lag]])


def _recent_mean(y: FloatArray, width: int) -> FloatArray:
    """Mean of the ``width`` days before each day, shape (n_days,); nan where there are fewer."""
    sums = np.concatenate([[0.0], np.cumsum(y)])
    means = np.full(y.size, np.nan)
    means[width:] = (sums[width:-1] - sums[: -width - 1]) / width
    return means
