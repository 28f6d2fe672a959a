"""Days of the last three months that the fitted model cannot explain."""

from collections.abc import Callable

import numpy as np

from app.config.ml_settings import MLSettings
from app.services.ml.results import Anomaly
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray

LOOK_BACK_DAYS = 90  # what is reported
CONTEXT_DAYS = 364  # what it is compared with, at most
MIN_DAYS = 28  # shorter histories have no normal yet
HOLIDAY_LENIENCY = 2.0  # a known public holiday must surprise twice as much
FOREST_THRESHOLD = 0.65  # of the isolation score in 0..1; ordinary days lie at or below 0.5
FOREST_MIN_Z = 3.0  # an isolated day must also be a surprise to the model
SEED = 20_240_229
# The model knows the week already: what STL takes out of its residuals is slow drift. Shorter smoothers would follow
# the noise, and make the rest look calm and every ordinary day odd.
SEASONAL_SMOOTHER = 53  # periods, odd
TREND_PERIODS = 8
SEASONAL_JUMP = 13  # periods between two local fits, straight lines in between: a quarter of what they smooth over
LOW_PASS_JUMP = 3  # of a smoother of nine days: judges no day otherwise
ROBUST_ROUNDS = 10  # with these two a quarter of the time, and 2 days in 1,000 are judged otherwise
MIN_STL_PERIODS = 12  # with fewer, a single odd day bends the smoothers, and hides itself


def find_anomalies(
    series: DailySeries, expected: FloatArray, closed: BoolArray, holidays: BoolArray, settings: MLSettings
) -> tuple[Anomaly, ...]:
    """The flagged days of the last 90, oldest first, by `ML_ANOMALY_METHOD`.

    Parameters
    ----------
    series : the history
    expected : shape (n_days,), the model's fitted values; nan where it has none (such days are never flagged). Those
        before the last `days_judged_by` are not looked at
    closed : shape (n_days,), closed weekdays and announced closures; such days are never flagged
    holidays : shape (n_days,), known public holidays; their surprise counts half
    settings : `anomaly_method`, `stl_period`, `stl_zthresh`

    Returns
    -------
    tuple of Anomaly : empty below 28 days of history
    """
    if len(series) < MIN_DAYS:
        return ()
    n = min(len(series), days_judged_by(settings))
    recent = series.tail(n)
    judged = np.isfinite(expected[-n:]) & ~closed[-n:]
    if not judged.any():
        return ()
    surprise = np.where(judged, recent.y - np.nan_to_num(expected[-n:]), 0.0)
    score, flagged = _METHODS[settings.anomaly_method](recent, surprise, judged, settings)
    score = np.where(holidays[-n:], score / HOLIDAY_LENIENCY, score)
    flagged &= judged & (np.abs(score) >= (settings.stl_zthresh if settings.anomaly_method == "stl_resid" else 1.0))
    flagged[:-LOOK_BACK_DAYS] = False
    return tuple(_anomaly(recent, surprise, score, int(i)) for i in np.flatnonzero(flagged))


def days_judged_by(settings: MLSettings) -> int:
    """How many of the last days the flags are decided by, at most: those with fitted values need be no more."""
    return max(CONTEXT_DAYS, MIN_STL_PERIODS * settings.stl_period)


def robust_z(values: FloatArray, judged: BoolArray, floor: float) -> FloatArray:
    """Distance from the median in robust standard deviations, shape of ``values``.

    The deviation is 1.4826 x MAD; where more than half of the values are equal, 1.2533 x the mean absolute deviation
    stands in. It is at least ``floor``, so that rounding noise around a perfect fit is no anomaly.

    References
    ----------
    Iglewicz & Hoaglin (1993), How to Detect and Handle Outliers, ASQC, section 3.
    """
    away = values - np.median(values[judged])
    distance = np.abs(away[judged])
    mad = 1.4826 * float(np.median(distance))
    deviation = max(mad if mad > 0 else 1.2533 * float(distance.mean()), floor)
    return away / deviation if deviation > 0 else np.zeros_like(away)


def _stl_residuals(
    series: DailySeries, surprise: FloatArray, judged: BoolArray, settings: MLSettings
) -> tuple[FloatArray, BoolArray]:
    """Robust z of what STL leaves of the model's residuals, and where it reaches `ML_STL_ZTHRESH`.

    Below 12 periods the residuals are judged as they are.

    References
    ----------
    Cleveland, Cleveland, McRae & Terpenning (1990), Journal of Official Statistics 6(1), 3-73.
    """
    from statsmodels.tsa.seasonal import STL  # heavy: only when a tenant is computed

    size = float(np.abs(surprise).max())
    remainder = surprise
    if (
        size > 0 and len(series) >= MIN_STL_PERIODS * settings.stl_period
    ):  # scaled, for STL's weights divide by residuals
        smooth = STL(
            surprise / size,
            period=settings.stl_period,
            seasonal=SEASONAL_SMOOTHER,
            trend=_odd(TREND_PERIODS * settings.stl_period),
            robust=True,
            trend_jump=SEASON,
            seasonal_jump=SEASONAL_JUMP,
            low_pass_jump=LOW_PASS_JUMP,
        )
        remainder = size * np.asarray(smooth.fit(inner_iter=1, outer_iter=ROBUST_ROUNDS).resid)
    score = robust_z(remainder, judged, _noise_floor(series))
    return score, np.abs(score) >= settings.stl_zthresh


def _isolation_forest(
    series: DailySeries, surprise: FloatArray, judged: BoolArray, settings: MLSettings
) -> tuple[FloatArray, BoolArray]:
    """Robust z of the model's residuals, and the days that are easy to isolate among days of their weekday.

    References
    ----------
    Liu, Ting & Zhou (2008), ICDM, 413-422: scores well above 0.5 are anomalies.
    """
    del settings  # one signature for all methods
    from sklearn.ensemble import IsolationForest

    score = robust_z(surprise, judged, _noise_floor(series))
    if not np.abs(score[judged]).max() > FOREST_MIN_Z:
        return score, np.zeros(len(series), dtype=bool)
    features = _weekday_features(series, score)
    forest = IsolationForest(n_estimators=100, random_state=SEED, n_jobs=1).fit(features[judged])
    isolation = -forest.score_samples(features)
    return score, (isolation >= FOREST_THRESHOLD) & (np.abs(score) >= FOREST_MIN_Z)


def _weekday_features(series: DailySeries, score: FloatArray) -> FloatArray:
    """Surprise, distance from the weekday's median, change to the week before, weekday: shape (n_days, 5)."""
    medians = np.array([np.median(series.y[series.weekdays == w]) for w in range(SEASON)])
    away = series.y - medians[series.weekdays]
    week_before = np.concatenate([series.y[:SEASON], series.y[:-SEASON]])
    scale = max(float(np.abs(away).mean()), 1e-12)
    angle = 2.0 * np.pi * series.weekdays / SEASON
    return np.column_stack([score, away / scale, (series.y - week_before) / scale, np.sin(angle), np.cos(angle)])


def _odd(n: int) -> int:
    return n + 1 - n % 2


def _noise_floor(series: DailySeries) -> float:
    """Half a percent of the typical day: smaller deviations are of no interest to anyone."""
    return 0.005 * float(np.abs(series.y).mean())


def _anomaly(series: DailySeries, surprise: FloatArray, score: FloatArray, i: int) -> Anomaly:
    y = float(series.y[i])
    return Anomaly(series.dates[i].item(), y, y - float(surprise[i]), float(score[i]), is_anomaly=True)


_Method = Callable[[DailySeries, FloatArray, BoolArray, MLSettings], tuple[FloatArray, BoolArray]]
_METHODS: dict[str, _Method] = {"stl_resid": _stl_residuals, "isolation_forest": _isolation_forest}
