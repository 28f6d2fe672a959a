"""The contract of a candidate: one small class that makes point forecasts and knows nothing else.

Folds, blending, intervals, anomalies and storage are shared, and know nothing about which method it is.
"""

from datetime import date
from typing import ClassVar, Protocol, Self

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar
from app.services.ml.series import DailySeries, FloatArray

# Plain parameters: numbers, strings, None, bytes, numpy arrays, and lists and string-keyed dicts of these.
State = dict[str, object]


class Forecaster(Protocol):
    """A method. `fit` learns parameters; `observe` re-anchors them on newer days without re-estimation.

    A fitted candidate is never changed: `fit` and `refit` fill in and return `self`, `observe` returns a new one.
    """

    name: ClassVar[str]  # stable: stored with every model version
    min_history: ClassVar[int]  # days; the engine leaves the candidate out, with the reason, below it
    expensive: ClassVar[bool]  # a tenth of a second or more; stopped after the first fold where it cannot win
    trained_through: date | None  # last day whose sales the parameters have seen; None before `fit`

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:
        """Unfitted, with what it takes from the settings. Raises CandidateUnavailable without its library."""
        ...

    def fit(self, series: DailySeries, calendar: Calendar) -> Self:
        """Estimate parameters from all days of ``series``; the forecast origin is its end."""
        ...

    def refit(self, state: State, series: DailySeries, calendar: Calendar) -> Self:
        """`fit` that may go on from the parameters of an earlier one, given as `get_state` gave them.

        It keeps of ``state`` only what it gives back unchanged, so that refitting week after week gives what the last
        time alone gives. A method that gains nothing from a start fits from nothing.
        """
        ...

    def observe(self, series: DailySeries, calendar: Calendar) -> Self:
        """The same parameters with the forecast origin at the end of ``series``.

        ``series`` is the whole history up to the new origin (not only the new days); its start may differ from the
        one that was fitted. `trained_through` stays.
        """
        ...

    def fitted_values(self, since: int = 0) -> FloatArray:
        """One-step (or in-sample) fit of every day of the last series, shape (n_days,); nan where there is none.

        Days before index ``since`` are not asked for: a method may leave them nan.
        """
        ...

    def predict(self, horizon: int) -> FloatArray:
        """Sales of the ``horizon`` days after the origin, shape (horizon,), unit of the series; changes no state."""
        ...

    def get_state(self) -> State:
        """Parameters as plain numbers and arrays, a few kilobytes; no series, no library objects."""
        ...

    @classmethod
    def from_state(cls, state: State, settings: MLSettings) -> Self:
        """Back from `get_state`; call `observe` before `predict`. Raises ArtifactRefused for another shape."""
        ...
