"""Prophet: a trend that bends, the week, the year and known days, fitted as one regression."""

import json
import logging
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import State
from app.services.ml.candidates.common import (
    Candidate,
    float_vector,
    independent_columns,
    name_list,
    quiet,
    regressor_names,
    regressor_values,
    telling_sales,
)
from app.services.ml.series import SEASON, DailySeries, FloatArray

YEAR = 365.25  # days, as Prophet counts them
YEARLY_ORDER = 10
WEEKLY_ORDER = 3
YEARLY_FROM_DAYS = 730  # Prophet's own rule: two years show what comes every year
ANCHOR_DAYS = 28
LEAST_FACTOR = 0.1  # of a multiplicative day: below it a residual says nothing about the level
SEED = 20240101

# While it is imported it calls the absence of plotly an error; nothing here is drawn by it.
logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)


@dataclass(frozen=True, eq=False)
class Curve:
    """A fitted Prophet as plain numbers: everything that its forecast is made from.

    Times are days from ``start`` in units of ``span`` days; ``rate``, ``offset`` and ``bends`` are in units of
    ``unit`` sales (Taylor & Letham, equations 3 and 6).
    """

    mode: Literal["additive", "multiplicative"]
    start: date
    span: float
    unit: float
    rate: float
    offset: float
    bend_times: FloatArray  # shape (n_bends,)
    bends: FloatArray  # shape (n_bends,)
    yearly: bool
    regressors: tuple[str, ...]
    weights: FloatArray  # shape (Fourier terms + regressors,)

    def parts(self, start: date, n_days: int, calendar: Calendar) -> tuple[FloatArray, FloatArray]:
        """Trend, in sales, and seasonal part, in sales or as a share of the trend; both shape (n_days,)."""
        time = ((start - self.start).days + np.arange(n_days)) / self.span
        after = np.maximum(time[:, None] - self.bend_times, 0.0)
        trend = self.unit * (self.offset + self.rate * time + after @ self.bends)
        known = regressor_values(self.regressors, calendar, start, n_days)
        seasonal = np.column_stack([_fourier(start, n_days, yearly=self.yearly), known]) @ self.weights
        return trend, seasonal * (self.unit if self.mode == "additive" else 1.0)


class Prophet(Candidate):
    """Taylor & Letham (2018), *Forecasting at scale*, The American Statistician 72(1), by the `prophet` package.

    Weekly season; yearly season from two years on; holidays, promotions and events that occurred in training as
    regressors; announced closures and zeros that are odd for their weekday are missing days. The posterior mode only,
    no sampled trajectories.

    The trend's level is anchored on the newest days: the median residual of the last 28 days (missing days left out;
    in multiplicative mode the residual over the day's seasonal factor) is added to the trend, after `fit` and after
    `observe` alike.
    """

    name: ClassVar[str] = "prophet"
    min_history: ClassVar[int] = 4 * SEASON
    expensive: ClassVar[bool] = True

    def __init__(self, mode: Literal["additive", "multiplicative"] = "additive") -> None:
        super().__init__()
        self.mode = mode
        self._curve: Curve | None = None
        self._shift = 0.0

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:
        _library()
        return cls(settings.seasonality_mode)

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:
        known = telling_sales(series, calendar, knows_holidays=True)
        names = regressor_names(calendar, series.start, len(series))
        values = regressor_values(names, calendar, series.start, len(series)) * ~np.isnan(known)[:, None]
        regressors = tuple(names[i] for i in independent_columns(values))
        yearly = len(series) >= YEARLY_FROM_DAYS
        model = self._fitted_model(series, known, {name: values[:, names.index(name)] for name in regressors}, yearly)
        curve = _curve(model, self.mode, yearly, regressors)
        numbers = np.concatenate([[curve.unit, curve.rate, curve.offset], curve.bends, curve.weights])
        if not np.isfinite(numbers).all():
            raise CandidateFailed(f"{self.name} gave parameters that are no finite numbers.")
        self._curve = curve

    def _fitted_model(
        self, series: DailySeries, known: FloatArray, regressors: dict[str, FloatArray], yearly: bool
    ) -> Any:
        import pandas as pd

        library = _library()
        frame = pd.DataFrame({"ds": series.dates.astype("datetime64[ns]"), "y": known, **regressors})
        # The optimiser is a process of its own, which may be killed. Prophet would take that for a failed search and go
        # on with another algorithm, to other numbers: so the first try has none, and the second is as Prophet does it.
        for other_algorithm in (False, True):
            try:
                # A folder of its own: the optimiser's files would otherwise stay until the process ends.
                with quiet(), TemporaryDirectory() as folder:
                    model = library.Prophet(
                        yearly_seasonality=YEARLY_ORDER if yearly else False,
                        weekly_seasonality=WEEKLY_ORDER,
                        daily_seasonality=False,
                        seasonality_mode=self.mode,
                        uncertainty_samples=0,
                    )
                    model.stan_backend.set_options(newton_fallback=other_algorithm)
                    model.stan_backend.model = _WrittenAtOnce(model.stan_backend.model, Path(folder))
                    for name in regressors:
                        model.add_regressor(name, standardize=False)
                    return model.fit(frame, seed=SEED, output_dir=folder)
            except (RuntimeError, ValueError, OSError) as error:
                failure = error
        raise CandidateFailed(f"{self.name} could not be fitted ({type(failure).__name__}).") from failure

    def anchor(self, series: DailySeries, calendar: Calendar) -> None:
        """Lift the trend by the median residual of the last 28 days."""
        super().anchor(series, calendar)
        recent = series.tail(ANCHOR_DAYS)
        trend, factor, added = self._components(recent.start, len(recent), calendar)
        residuals = telling_sales(series, calendar, knows_holidays=True)[-len(recent) :] - trend * factor - added
        telling = ~np.isnan(residuals) & (factor > LEAST_FACTOR)
        self._shift = float(np.median(residuals[telling] / factor[telling])) if telling.any() else 0.0

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:  # noqa: ARG002 - all at once
        trend, factor, added = self._components(series.start, len(series), calendar)
        return trend * factor + added

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        trend, factor, added = self._components(series.end + timedelta(days=1), horizon, calendar)
        return (trend + self._shift) * factor + added

    def _components(self, start: date, n_days: int, calendar: Calendar) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Trend, factor and addend of each day: sales are trend * factor + addend."""
        if self._curve is None:
            raise CandidateFailed(f"{self.name} has no parameters before `fit`.")
        trend, seasonal = self._curve.parts(start, n_days, calendar)
        if self.mode == "additive":
            return trend, np.ones(n_days), seasonal
        return trend, 1.0 + seasonal, np.zeros(n_days)

    def _parameters(self) -> State:
        if self._curve is None:
            raise CandidateFailed(f"{self.name} has no parameters before `fit`.")
        state: State = dict(vars(self._curve))
        return {**state, "start": self._curve.start.isoformat(), "regressors": list(self._curve.regressors)}

    def restore(self, state: State) -> None:
        """Take the parameters back; ValueError when they are of another mode or shape."""
        if state["mode"] != self.mode:
            raise ValueError("the stored mode is not that of the settings")
        scalars = {key: _number(state[key]) for key in ("span", "unit", "rate", "offset")}
        bend_times, regressors = float_vector(state, "bend_times"), name_list(state, "regressors")
        yearly = bool(state["yearly"])
        n_weights = 2 * (WEEKLY_ORDER + YEARLY_ORDER * yearly) + len(regressors)
        self._curve = Curve(
            mode=self.mode,
            start=date.fromisoformat(str(state["start"])),
            bend_times=bend_times,
            bends=float_vector(state, "bends", bend_times.size),
            yearly=yearly,
            regressors=regressors,
            weights=float_vector(state, "weights", n_weights),
            **scalars,
        )


class _WrittenAtOnce:
    """The compiled model, given its data as files: cmdstanpy would write them number by number, in half of the time
    that a fit takes. The text, and so the fit, is the same.
    """

    def __init__(self, model: Any, folder: Path) -> None:
        self._model = model
        self._folder = folder

    def optimize(self, data: dict[str, Any], inits: dict[str, Any], **options: Any) -> Any:
        """As `cmdstanpy.CmdStanModel.optimize`."""
        return self._model.optimize(data=self._written("data", data), inits=self._written("inits", inits), **options)

    def _written(self, name: str, values: dict[str, Any]) -> str:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(values, default=_plain), encoding="ascii")
        return str(path)


def _plain(value: Any) -> Any:
    """Arrays and frames as lists, numpy's numbers as Python's."""
    return np.asarray(value).tolist()


def _curve(model: Any, mode: Literal["additive", "multiplicative"], yearly: bool, regressors: tuple[str, ...]) -> Curve:
    """What a fitted Prophet holds, its trend written as rate, offset and bends."""
    return Curve(
        mode=mode,
        start=model.start.date(),
        span=model.t_scale.total_seconds() / timedelta(days=1).total_seconds(),
        unit=float(model.y_scale),
        rate=float(np.ravel(model.params["k"])[0]),
        offset=float(np.ravel(model.params["m"])[0]),
        bend_times=np.asarray(model.changepoints_t, dtype=np.float64),
        bends=np.ravel(model.params["delta"]).astype(np.float64),
        yearly=yearly,
        regressors=regressors,
        weights=np.ravel(model.params["beta"]).astype(np.float64),
    )


def _fourier(start: date, n_days: int, *, yearly: bool) -> FloatArray:
    """Prophet's seasonal columns, the year's first, shape (n_days, 2 * orders): sine and cosine by turns."""
    days = (start - date(1970, 1, 1)).days + np.arange(n_days)
    frequencies = np.arange(1, WEEKLY_ORDER + 1) / SEASON
    if yearly:
        frequencies = np.concatenate([np.arange(1, YEARLY_ORDER + 1) / YEAR, frequencies])
    angles = 2 * np.pi * days[:, None] * frequencies
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(n_days, -1)


def _number(value: object) -> float:
    if not isinstance(value, float) or not np.isfinite(value):
        raise ValueError("a parameter is no finite number")
    return value


def _library() -> Any:
    try:
        import prophet
    except ImportError as error:
        raise CandidateUnavailable(
            "prophet is left out: its library is not installed.", next_step="pip install prophet"
        ) from error
    for name in ("cmdstanpy", "prophet"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # cmdstanpy gives a logger without handlers one that prints
        logger.setLevel(logging.CRITICAL)
    return prophet
