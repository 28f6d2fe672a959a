"""`ML_LOG_TRANSFORM`: any candidate on signed log1p sales, so that no candidate has to know about it."""

from datetime import date
from typing import ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import Forecaster, State
from app.services.ml.series import DailySeries, FloatArray


def to_log(y: FloatArray) -> FloatArray:
    """sign(y) log(1 + |y|): keeps the sign of refunds, is 0 at 0."""
    return np.asarray(np.sign(y) * np.log1p(np.abs(y)), dtype=np.float64)


def from_log(z: FloatArray) -> FloatArray:
    """The inverse of `to_log`; inf where it overflows."""
    return np.asarray(np.sign(z) * np.expm1(np.abs(z)), dtype=np.float64)


def in_log_space(candidate: type[Forecaster]) -> type[Forecaster]:
    """A class with the candidate's name and state that learns from and forecasts sales through `to_log`."""

    class LogSpace:
        name: ClassVar[str] = candidate.name
        min_history: ClassVar[int] = candidate.min_history
        expensive: ClassVar[bool] = candidate.expensive

        def __init__(self, inner: Forecaster) -> None:
            self._inner = inner
            self.trained_through: date | None = inner.trained_through

        @classmethod
        def from_settings(cls, settings: MLSettings) -> Self:
            return cls(candidate.from_settings(settings))

        def fit(self, series: DailySeries, calendar: Calendar) -> Self:
            self._inner = self._inner.fit(_logged(series), calendar)
            self.trained_through = self._inner.trained_through
            return self

        def refit(self, state: State, series: DailySeries, calendar: Calendar) -> Self:
            self._inner = self._inner.refit(state, _logged(series), calendar)
            self.trained_through = self._inner.trained_through
            return self

        def observe(self, series: DailySeries, calendar: Calendar) -> Self:
            return type(self)(self._inner.observe(_logged(series), calendar))

        def fitted_values(self, since: int = 0) -> FloatArray:
            return from_log(self._inner.fitted_values(since))

        def predict(self, horizon: int) -> FloatArray:
            return from_log(self._inner.predict(horizon))

        def get_state(self) -> State:
            return self._inner.get_state()

        @classmethod
        def from_state(cls, state: State, settings: MLSettings) -> Self:
            return cls(candidate.from_state(state, settings))

    return LogSpace


def _logged(series: DailySeries) -> DailySeries:
    return series.once("log", lambda: DailySeries(series.start, to_log(series.y)))
