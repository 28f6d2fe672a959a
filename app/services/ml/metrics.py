"""Error measures of forecasts: pure functions on arrays.

Shapes: ``actual``, ``forecast``, ``lower`` and ``upper`` are (horizon,), all in one unit; ``history`` is (n_days,), the
training days alone. Every function gives nan where its formula has no value (an empty sum, a zero denominator).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from app.errors import InvalidSeries
from app.services.ml.series import SEASON, FloatArray

SQL_QUANTILES = (0.025, 0.1, 0.5, 0.9, 0.975)
Metric = Callable[[FloatArray, FloatArray, FloatArray], float]


def mae(actual: FloatArray, forecast: FloatArray) -> float:
    """Mean absolute error, mean |y - f|: unit of the series, >= 0."""
    return _mean(np.abs(_errors(actual, forecast)))


def rmse(actual: FloatArray, forecast: FloatArray) -> float:
    """Root mean squared error, sqrt(mean (y - f)^2): unit of the series, >= 0."""
    return float(np.sqrt(_mean(_errors(actual, forecast) ** 2)))


def bias(actual: FloatArray, forecast: FloatArray) -> float:
    """Mean of f - y: unit of the series; above zero when the forecast is too high."""
    return _mean(-_errors(actual, forecast))


def wape(actual: FloatArray, forecast: FloatArray) -> float:
    """Weighted absolute percentage error, sum |y - f| / sum |y|: a share, >= 0; nan when nothing was sold.

    References
    ----------
    Kolassa & Schuetz (2007), Foresight 6, 40-43 ("MAD/mean ratio").
    """
    return _ratio(float(np.abs(_errors(actual, forecast)).sum()), float(np.abs(actual).sum()))


def smape(actual: FloatArray, forecast: FloatArray) -> float:
    """Symmetric MAPE, 100 mean 2|y - f| / (|y| + |f|): percent in 0..200; a day with y = f = 0 counts as 0.

    References
    ----------
    Makridakis, Spiliotis & Assimakopoulos (2020), IJF 36(1), 54-74, section 2.4 (M4).
    """
    error = np.abs(_errors(actual, forecast))
    size = np.abs(actual) + np.abs(forecast)
    return _mean(200.0 * np.divide(error, size, out=np.zeros_like(error), where=size > 0))


def mape(actual: FloatArray, forecast: FloatArray) -> float:
    """Mean absolute percentage error of the days with sales, 100 mean |y - f| / |y|: percent; nan without one."""
    return _mean(_percentage_errors(actual, forecast))


def median_ape(actual: FloatArray, forecast: FloatArray) -> float:
    """Median absolute percentage error over the days with sales: percent, >= 0; nan without one."""
    errors = _percentage_errors(actual, forecast)
    return float(np.median(errors)) if errors.size else float("nan")


def within(actual: FloatArray, forecast: FloatArray, percent: float) -> float:
    """Share (0..1) of the days with sales whose forecast is at most ``percent`` % off; nan without such a day."""
    return _mean((_percentage_errors(actual, forecast) <= percent).astype(np.float64))


def within_5(actual: FloatArray, forecast: FloatArray) -> float:
    """Share (0..1) of the days with sales whose forecast is at most 5 % off."""
    return within(actual, forecast, 5.0)


def within_10(actual: FloatArray, forecast: FloatArray) -> float:
    """Share (0..1) of the days with sales whose forecast is at most 10 % off."""
    return within(actual, forecast, 10.0)


def within_15(actual: FloatArray, forecast: FloatArray) -> float:
    """Share (0..1) of the days with sales whose forecast is at most 15 % off."""
    return within(actual, forecast, 15.0)


def r2(actual: FloatArray, forecast: FloatArray) -> float:
    """Coefficient of determination, 1 - sum (y - f)^2 / sum (y - mean y)^2: <= 1; nan when ``actual`` is constant."""
    spread = float(((actual - actual.mean()) ** 2).sum()) if actual.size else 0.0
    return 1.0 - _ratio(float((_errors(actual, forecast) ** 2).sum()), spread)


def mase(actual: FloatArray, forecast: FloatArray, history: FloatArray, season: int = SEASON) -> float:
    """Mean absolute scaled error: below 1 is better than the in-sample seasonal naive error.

    Parameters
    ----------
    actual, forecast : shape (horizon,), one unit
    history : shape (n_days,), training days only
    season : days; 7 for a weekly pattern

    Returns
    -------
    float : unitless, >= 0; nan if ``history`` repeats exactly every ``season`` days or is not longer than ``season``

    Raises
    ------
    InvalidSeries : ``actual`` and ``forecast`` differ in shape

    References
    ----------
    Hyndman & Koehler (2006), IJF 22(4), 679-688.
    """
    return _ratio(mae(actual, forecast), seasonal_scale(history, season))


def rmsse(actual: FloatArray, forecast: FloatArray, history: FloatArray, season: int = SEASON) -> float:
    """Root mean squared scaled error: as `mase` with squares; unitless, >= 0; nan where `mase` is.

    References
    ----------
    Hyndman & Koehler (2006), IJF 22(4), 679-688; M5 uses season 1 (Makridakis et al. 2022), we use 7.
    """
    scale = float(np.sqrt(_mean((history[season:] - history[:-season]) ** 2))) if history.size > season else 0.0
    return _ratio(rmse(actual, forecast), scale)


def pinball(actual: FloatArray, forecast: FloatArray, quantile: float) -> float:
    """Mean pinball loss of a forecast of ``quantile`` (0..1): unit of the series, >= 0; half the MAE at 0.5.

    References
    ----------
    Koenker & Bassett (1978), Econometrica 46(1), 33-50.
    """
    error = _errors(actual, forecast)
    return _mean(np.maximum(quantile * error, (quantile - 1.0) * error))


def coverage(actual: FloatArray, lower: FloatArray, upper: FloatArray) -> float:
    """Share (0..1) of the days inside [lower, upper], bounds included."""
    return _mean(((actual >= lower) & (actual <= upper)).astype(np.float64))


def scaled_quantile_loss(
    actual: FloatArray, quantiles: Mapping[float, FloatArray], history: FloatArray, season: int = SEASON
) -> float:
    """Scaled quantile loss (sQL): mean over the quantiles of 2 x `pinball` / MASE's scale; >= 0, nan where MASE is.

    ``quantiles`` maps a quantile in 0..1 to its forecast, shape (horizon,); usually `SQL_QUANTILES`.
    """
    losses = [2.0 * pinball(actual, forecast, quantile) for quantile, forecast in quantiles.items()]
    return _ratio(_mean(np.array(losses)), seasonal_scale(history, season))


def seasonal_scale(history: FloatArray, season: int = SEASON) -> float:
    """In-sample mean absolute error of the seasonal naive method: unit of the series; 0 when there is none."""
    return float(np.abs(history[season:] - history[:-season]).mean()) if history.size > season else 0.0


def _errors(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    if actual.shape != forecast.shape:
        raise InvalidSeries(f"Actual and forecast differ in shape: {actual.shape} and {forecast.shape}.")
    return actual - forecast


def _percentage_errors(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    error = np.abs(_errors(actual, forecast))
    sold = actual != 0
    percentages: FloatArray = 100.0 * error[sold] / np.abs(actual[sold])
    return percentages


def _mean(values: FloatArray) -> float:
    return float(values.sum()) / values.size if values.size else float("nan")  # `mean` takes twice as long on 28 days


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")


def _unscaled(metric: Callable[[FloatArray, FloatArray], float]) -> Metric:
    return lambda actual, forecast, _history: metric(actual, forecast)


# What a score table shows, by the name that `ML_CV_PRIMARY_METRIC` and stored metrics use.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "wape": _unscaled(wape),
        "mase": mase,
        "rmsse": rmsse,
        "rmse": _unscaled(rmse),
        "mae": _unscaled(mae),
        "smape": _unscaled(smape),
        "mape": _unscaled(mape),
        "median_ape": _unscaled(median_ape),
        "within_5": _unscaled(within_5),
        "within_10": _unscaled(within_10),
        "within_15": _unscaled(within_15),
        "r2": _unscaled(r2),
        "bias": _unscaled(bias),
    }
)
