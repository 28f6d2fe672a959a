"""SARIMAX: a seasonal ARIMA with regressors that are known ahead."""

from datetime import timedelta
from typing import Any, ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import arima
from app.services.ml.candidates.base import State
from app.services.ml.candidates.common import (
    Candidate,
    float_vector,
    independent_columns,
    known_sales,
    name_list,
    quiet,
    regressor_names,
    regressor_values,
    without_closures,
)
from app.services.ml.series import SEASON, DailySeries, FloatArray

WINDOW_DAYS = 730  # older days cost as much as new ones and say little about the next weeks
MOST_STATES = 64  # the Kalman filter's cost grows with the square of the states; a season of 28 days still fits
LEVEL = "level"  # the name of the constant regressor of a model without differences


class Sarimax(Candidate):
    """Regression with seasonal ARIMA errors (Box & Jenkins; Durbin & Koopman 2012 for the filter), by statsmodels.

    Parameters come from the last 730 days (see `arima`), announced closures being missing days; observing newer days
    runs the Kalman filter over the last 730 of them with the stored parameters. Every holiday by itself, its
    eve and morrow, promotions and events that occurred in training enter as regressors.
    """

    name: ClassVar[str] = "sarimax"
    min_history: ClassVar[int] = 6 * SEASON
    expensive: ClassVar[bool] = True

    def __init__(
        self, order: tuple[int, int, int] = (1, 1, 1), seasonal: tuple[int, int, int, int] = (1, 1, 1, SEASON)
    ) -> None:
        super().__init__()
        self.order = arima.Order(order, seasonal)
        self._arma = np.zeros(0)
        self._regressors: tuple[str, ...] = ()
        self._coefficients = np.zeros(0)  # unit of the series
        self._error_size = 0.0  # standard deviation of the one-step error, unit of the series
        self._filtered: Any = None
        self._unit = 1.0

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:
        _require_library()
        return cls(settings.sarimax_order, settings.sarimax_seasonal)

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:
        _require_library()
        window = series.tail(WINDOW_DAYS)
        self._refuse_unusable(len(window))
        unit = _unit(window.y)
        names = regressor_names(calendar, window.start, len(window))
        names = names if self.order.days_lost else (LEVEL, *names)
        values = _values(names, window, calendar)
        kept = independent_columns(self.order.difference(values))
        try:
            with quiet():
                self._arma, coefficients = arima.estimate(
                    without_closures(window, calendar) / unit,
                    known_sales(window, calendar) / unit,
                    values[:, kept],
                    self.order,
                )
        except (ValueError, np.linalg.LinAlgError) as error:
            raise CandidateFailed(f"{self.name} could not be fitted ({type(error).__name__}).") from error
        self._regressors = tuple(names[i] for i in kept)
        self._coefficients = coefficients * unit

    def anchor(self, series: DailySeries, calendar: Calendar) -> None:
        """Run the Kalman filter over the last 730 days with the parameters as they are."""
        super().anchor(series, calendar)
        _require_library()
        window = series.tail(WINDOW_DAYS)
        self._refuse_unusable(len(window))
        self._unit = _unit(window.y)
        rest = known_sales(window, calendar) - self._effects(window, calendar)
        try:
            with quiet():
                model = arima.state_space(rest / self._unit, self.order)
                self._filtered = model.filter(self._arma, cov_type="none")
        except (ValueError, np.linalg.LinAlgError) as error:
            raise CandidateFailed(f"{self.name} could not be filtered ({type(error).__name__}).") from error
        self._error_size = float(np.sqrt(self._filtered.scale)) * self._unit

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:  # noqa: ARG002 - all at once
        window = series.tail(WINDOW_DAYS)
        fitted = np.full(len(series), np.nan)
        one_step = np.asarray(self._filtered.fittedvalues) * self._unit + self._effects(window, calendar)
        one_step[: self.order.days_lost] = np.nan
        fitted[-len(window) :] = one_step
        return fitted

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        with quiet():
            rest = np.asarray(self._filtered.forecast(horizon)) * self._unit
        ahead = DailySeries(series.end + timedelta(days=1), np.zeros(horizon))
        return rest + self._effects(ahead, calendar)

    def _parameters(self) -> State:
        return {
            "order": list(self.order.order),
            "seasonal": list(self.order.seasonal),
            "arma": self._arma,
            "regressors": list(self._regressors),
            "coefficients": self._coefficients,
            "error_size": self._error_size,
        }

    def restore(self, state: State) -> None:
        """Take the parameters back; ValueError when they are of another order than the settings'."""
        stored = (state["order"], state["seasonal"])
        if stored != (list(self.order.order), list(self.order.seasonal)):
            raise ValueError("the stored orders are not those of the settings")
        self._arma = float_vector(state, "arma", sum(self.order.blocks))
        self._regressors = name_list(state, "regressors")
        self._coefficients = float_vector(state, "coefficients", len(self._regressors))

    def _refuse_unusable(self, n_days: int) -> None:
        *seasonal, season = self.order.seasonal
        if any(seasonal) and season <= 1:
            raise CandidateFailed(
                f"{self.name} has seasonal orders but a season of {season} days.",
                next_step="Give ML_SARIMAX_SEASONAL a season of 2 days or more, or seasonal orders of 0.",
            )
        needed = self.order.days_lost + 2 * self.order.longest_lag + SEASON
        if self.order.states > MOST_STATES:
            raise CandidateFailed(
                f"{self.name} would need {self.order.states} states for its order; {MOST_STATES} are allowed.",
                next_step="Choose a shorter season in ML_SARIMAX_SEASONAL.",
            )
        if n_days < needed:
            raise CandidateFailed(f"{self.name} needs {needed} days for its order; there are {n_days}.")

    def _effects(self, days: DailySeries, calendar: Calendar) -> FloatArray:
        """What the regressors add to each day, shape (n_days,), unit of the series."""
        return np.asarray(_values(self._regressors, days, calendar) @ self._coefficients)


def _values(names: tuple[str, ...], days: DailySeries, calendar: Calendar) -> FloatArray:
    """Regressors of the days, shape (n_days, len(names)); the level is one on every day."""
    values = regressor_values(names, calendar, days.start, len(days))
    values[:, [name == LEVEL for name in names]] = 1.0
    return values


def _require_library() -> None:
    """Import statsmodels before anything is silenced: its import sets warning filters of its own."""
    try:
        import statsmodels.tsa.statespace.sarimax  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise CandidateUnavailable(
            "sarimax is left out: its library is not installed.", next_step="pip install statsmodels"
        ) from error


def _unit(sales: FloatArray) -> float:
    """A scale that brings sales to order one, > 0."""
    largest = float(np.abs(sales).max())
    return largest * max(float((sales / largest).std()), 1e-6) if largest > 0 else 1.0
