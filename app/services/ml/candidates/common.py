"""What every candidate shares: the memory of its origin, and the checks on what goes in and comes out."""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateFailed
from app.services.ml.calendar import Calendar, days_since_payday
from app.services.ml.candidates.base import State
from app.services.ml.level_shift import NO_SHIFT, LevelShift, find_level_shift
from app.services.ml.promotions import Promotions, measure_promotions
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray, weekdays_from

ODD_WEEKS, ODD_MOST, ODD_KNOWN = 8, 2, 4  # same weekdays looked at, zeros allowed among them, days needed
LONG_GAP_WEEKS = 8  # after so many missing ones a weekday is taken to be what its last 8 known days were
HOLIDAY = "holiday: "  # what the regressor of one public holiday is called, before its name
# Days since the last payday, from and before: the day, the day after, the first five.
PAYDAY_SPANS = {"payday": (0, 1), "payday_morrow": (1, 2), "payday_week": (0, 5)}
ODD_SHARE = 0.06  # of the days; public holidays are 2 to 5 %, so more than this is how the shop sells


class Candidate(ABC):
    """Remembers the series and calendar of the forecast origin; a subclass adds the method.

    The subclass gives `_estimate`, `_fitted_values` and `_predict`, and, when it has parameters, `_parameters` and
    `restore`. `fit` and `observe` are written once, here, so that no method can forget the rules of the contract.

    Every method sees sales from which promotions are taken out, and its forecast gets them back on announced days (see
    `promotions`): so methods without regressors know them too, and no lag or mean holds a promotion.
    """

    name: ClassVar[str]
    min_history: ClassVar[int]
    expensive: ClassVar[bool] = False

    def __init__(self) -> None:
        self.trained_through: date | None = None
        self._series: DailySeries | None = None
        self._calendar = Calendar()
        self._promotions = Promotions()
        self._level_shift: LevelShift = NO_SHIFT

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:  # noqa: ARG003 - the contract's signature
        return cls()

    def fit(self, series: DailySeries, calendar: Calendar) -> Self:
        """Estimate parameters from all days of ``series``; the forecast origin is its end.

        Raises
        ------
        CandidateFailed : fewer than `min_history` days, or the method gives no finite numbers
        """
        return self._learn(None, series, calendar)

    def refit(self, state: State, series: DailySeries, calendar: Calendar) -> Self:
        """As `fit`, going on from the stored parameters of an earlier one; most methods gain nothing and fit anew.

        Raises
        ------
        CandidateFailed : as `fit`; KeyError, TypeError, ValueError : the state is of another shape
        """
        return self._learn(state, series, calendar)

    def _learn(self, state: State | None, series: DailySeries, calendar: Calendar) -> Self:
        if len(series) < self.min_history:
            raise CandidateFailed(f"{self.name} needs {self.min_history} days of history; there are {len(series)}.")
        usual = self.usual_sales(series, calendar)
        if state is None:
            self._estimate(usual, calendar)
        else:
            self._estimate_from(state, usual, calendar)
        self.anchor(usual, calendar)
        self.trained_through = series.end
        return self

    def observe(self, series: DailySeries, calendar: Calendar) -> Self:
        """A copy with the same parameters and its forecast origin at the end of ``series`` (the whole history)."""
        if self.trained_through is None:
            raise CandidateFailed(f"{self.name} observes only after `fit` or `from_state`.")
        newer = copy.copy(self)
        newer.anchor(newer.usual_sales(series, calendar), calendar)
        return newer

    def fitted_values(self, since: int = 0) -> FloatArray:
        """One-step fit of every day of the last series from ``since`` on, shape (n_days,); nan where there is none."""
        series = self._origin()
        fitted = self._fitted_values(series, self._calendar, since)
        fitted = fitted * self._promotions.factors(self._calendar, series.start, len(series))
        fitted = fitted / self._level_shift.factors(len(series))
        return np.where(np.isinf(fitted), np.nan, fitted)

    def predict(self, horizon: int) -> FloatArray:
        """Sales of the ``horizon`` days after the origin, shape (horizon,).

        Raises
        ------
        CandidateFailed : before `fit` or `observe`, or the method gives no finite numbers
        """
        if horizon < 1:
            raise CandidateFailed(f"{self.name} forecasts 1 day or more; asked for {horizon}.")
        series = self._origin()
        forecast = finite(self.name, self._predict(series, self._calendar, horizon), horizon)
        return forecast * self._promotions.factors(self._calendar, series.end + timedelta(days=1), horizon)

    def get_state(self) -> State:
        """Parameters as plain numbers and arrays; no series, no library objects."""
        if self.trained_through is None:
            raise CandidateFailed(f"{self.name} has no state before `fit`.")
        return {"name": self.name, "trained_through": self.trained_through.isoformat(), **self._parameters()}

    @classmethod
    def from_state(cls, state: State, settings: MLSettings) -> Self:
        """Back from `get_state`; call `observe` before `predict`.

        Raises
        ------
        ArtifactRefused : the state is of another candidate or of another shape
        """
        if state.get("name") != cls.name:
            raise ArtifactRefused(f"This is no state of {cls.name}.", next_step="The tenant is fitted again.")
        try:
            candidate = cls.from_settings(settings)
            candidate.restore(state)
            candidate.trained_through = date.fromisoformat(str(state["trained_through"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactRefused(
                f"The stored state of {cls.name} has another shape ({type(error).__name__}: {error}).",
                next_step="The tenant is fitted again.",
            ) from error
        return candidate

    def _origin(self) -> DailySeries:
        if self._series is None:
            raise CandidateFailed(f"{self.name} has no origin: call `fit` or `observe` first.")
        return self._series

    def usual_sales(self, series: DailySeries, calendar: Calendar) -> DailySeries:
        """The sales of usual days at the level of the last one; both are measured anew at every origin."""
        self._promotions = measure_promotions(series, calendar)
        usual = self._promotions.taken_from(series, calendar)
        self._level_shift = find_level_shift(usual, calendar)
        return self._level_shift.taken_from(usual)

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:  # noqa: B027 - a step that may be left out
        """Learn parameters; methods without any keep this."""

    def _estimate_from(self, state: State, series: DailySeries, calendar: Calendar) -> None:  # noqa: ARG002 - a step
        """Learn parameters where a start from earlier ones saves something."""
        self._estimate(series, calendar)

    def anchor(self, series: DailySeries, calendar: Calendar) -> None:
        """Take the end of ``series`` as origin; methods add what depends on the new days but is no parameter."""
        self._series, self._calendar = series, calendar

    @abstractmethod
    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray: ...

    @abstractmethod
    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray: ...

    def _parameters(self) -> State:
        return {}

    def restore(self, state: State) -> None:  # noqa: B027 - likewise
        """Take back what `_parameters` gave."""


def finite(name: str, values: FloatArray, length: int) -> FloatArray:
    """``values`` unchanged, shape (length,).

    Raises
    ------
    CandidateFailed : another shape, or a value that is no finite number
    """
    if values.shape != (length,):
        raise CandidateFailed(f"{name} gave an array of shape {values.shape} for {length} days.")
    if not np.isfinite(values).all():
        raise CandidateFailed(f"{name} gave {int((~np.isfinite(values)).sum())} values that are no finite numbers.")
    return values


def known_sales(series: DailySeries, calendar: Calendar) -> FloatArray:
    """Sales with nan on announced closures, shape (n_days,): such a day says nothing about an open one.

    When every day was an announced closure, the sales as they are.
    """
    closures = calendar.closures(series.start, len(series))
    if not closures.any() or closures.all():
        return series.y
    return np.where(closures, np.nan, series.y)


def odd_zeros(sales: FloatArray) -> BoolArray:
    """Shape (n_days,): true on a day without sales whose weekday usually has some, such as a holiday or an outage.

    At most 2 of the 8 same weekdays before it were zero, and at least 4 are known. None are odd where more than 6 %
    of the days would be: there, days without sales are how the shop sells, and leaving them out would forecast too
    much.
    """
    zeros = np.where(np.isnan(by_week(sales)), np.nan, by_week(sales) == 0)
    padded = np.vstack([np.full((ODD_WEEKS, SEASON), np.nan), zeros])
    before = np.lib.stride_tricks.sliding_window_view(padded, ODD_WEEKS, axis=0)[:-1]
    known = (~np.isnan(before)).sum(axis=-1)
    odd = (zeros == 1) & (np.nansum(before, axis=-1) <= ODD_MOST) & (known >= ODD_KNOWN)
    flags = np.asarray(odd.ravel()[-sales.size :])
    return flags if flags.mean() <= ODD_SHARE else np.zeros_like(flags)


def telling_sales(series: DailySeries, calendar: Calendar, *, knows_holidays: bool) -> FloatArray:
    """`known_sales` with nan also on odd zeros, shape (n_days,): they say nothing about the next such weekday.

    A method that ``knows_holidays`` keeps the zeros that a public holiday explains: it learns from them. When no day
    would be left, the sales as they are.
    """
    odd = unexplained_zeros(series, calendar) if knows_holidays else _odd_zeros_of(series)
    telling = np.where(odd, np.nan, known_sales(series, calendar))
    return series.y if np.isnan(telling).all() else telling


def unexplained_zeros(series: DailySeries, calendar: Calendar) -> BoolArray:
    """`odd_zeros` that no public holiday explains, shape (n_days,)."""
    return _odd_zeros_of(series) & ~calendar.holidays(series.start, len(series))


def _odd_zeros_of(series: DailySeries) -> BoolArray:
    return series.once("odd zeros", lambda: odd_zeros(series.y))


def without_closures(series: DailySeries, calendar: Calendar) -> FloatArray:
    """Sales in which an announced closure has the value of the same weekday before it, shape (n_days,)."""
    filled = carried_forward(by_week(known_sales(series, calendar))).ravel()[-len(series) :]
    return np.where(np.isnan(filled), series.y, filled)


def known_ahead(calendar: Calendar, start: date, n_days: int) -> tuple[tuple[str, ...], FloatArray]:
    """`Calendar.regressors` as a regression can use them, shape (n_days, k).

    Closures are left out: they are missing days, not a kind of trading day. On a closed weekday nothing counts: a
    holiday on a Sunday takes no sales from a shop that never opens on Sundays.
    """
    names, values = calendar.regressors(start, n_days)
    keep = [i for i, name in enumerate(names) if name != "closure"]
    trading = ~np.isin(weekdays_from(start, n_days), sorted(calendar.closed_weekdays))
    return tuple(names[i] for i in keep), values[:, keep] * trading[:, None]


def _kinds_ahead(calendar: Calendar, start: date, n_days: int) -> tuple[tuple[str, ...], FloatArray]:
    """`known_ahead` with bridge days and the days from a payday on, shape (n_days, k); on closed weekdays all are 0."""
    names, values = known_ahead(calendar, start, n_days)
    since = days_since_payday(start, n_days)
    more = {
        "bridge": calendar.bridges(start, n_days),
        **{name: (since >= first) & (since < stop) for name, (first, stop) in PAYDAY_SPANS.items()},
    }
    trading = ~np.isin(weekdays_from(start, n_days), sorted(calendar.closed_weekdays))
    return (*names, *more), np.column_stack([values, *(flags & trading for flags in more.values())])


def regressor_names(calendar: Calendar, start: date, n_days: int) -> tuple[str, ...]:
    """Names of what a regression may learn from these days: every public holiday by itself, the rest by its kind."""
    kinds, _ = _kinds_ahead(calendar, start, n_days)
    holidays = sorted({name for name in calendar.holiday_names(start, n_days) if name})
    return (*(kind for kind in kinds if kind != "holiday"), *(f"{HOLIDAY}{name}" for name in holidays))


def regressor_values(names: Sequence[str], calendar: Calendar, start: date, n_days: int) -> FloatArray:
    """Values of the named regressors on each day, shape (n_days, len(names)).

    A holiday that is not among the names counts as the mean of those that are: a first Christmas is taken to be like
    the other holidays.
    """
    kinds, flags = _kinds_ahead(calendar, start, n_days)
    holiday_columns = {name: i for i, name in enumerate(names) if name.startswith(HOLIDAY)}
    values = np.zeros((n_days, len(names)))
    for column, name in enumerate(names):
        if name in kinds:
            values[:, column] = flags[:, kinds.index(name)]
    if holiday_columns:
        day_names = calendar.holiday_names(start, n_days)
        others = list(holiday_columns.values())
        for day in np.flatnonzero(flags[:, kinds.index("holiday")]):
            own = holiday_columns.get(HOLIDAY + day_names[day])
            values[day, others if own is None else own] = 1 / len(others) if own is None else 1.0
    return values


def independent_columns(values: FloatArray) -> list[int]:
    """Columns that are no combination of those before them, in order; a column of zeros is none.

    Modified Gram-Schmidt (Golub & Van Loan, *Matrix Computations*, section 5.2.8).
    """
    kept: list[int] = []
    basis: list[FloatArray] = []
    for column in range(values.shape[1]):
        rest = values[:, column].astype(np.float64)
        length = float(np.linalg.norm(rest))
        for direction in basis:
            rest = rest - (direction @ rest) * direction
        if np.linalg.norm(rest) > 1e-6 * max(length, 1e-12):
            kept.append(column)
            basis.append(rest / np.linalg.norm(rest))
    return kept


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of a library are no news here: whatever they warn of is checked on the numbers that come out."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def float_vector(state: State, key: str, length: int | None = None) -> FloatArray:
    """A finite vector of a stored state; ValueError when it is something else."""
    values = np.asarray(state[key], dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (length is not None and values.size != length):
        raise ValueError(f"{key} is no finite vector of the right length")
    return values


def name_list(state: State, key: str) -> tuple[str, ...]:
    """A list of names of a stored state; ValueError when it is something else."""
    names = state[key]
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} is no list of names")
    return tuple(names)


def by_week(values: FloatArray) -> FloatArray:
    """Shape (n_days,) to (n_weeks, 7), the last day in the last cell; nan before the first day."""
    padding = -values.size % SEASON
    return np.concatenate([np.full(padding, np.nan), values]).reshape(-1, SEASON)


def carried_forward(rows: FloatArray) -> FloatArray:
    """Each nan replaced by the last number above it in its column, shape unchanged; nan where there is none."""
    last = np.where(np.isnan(rows), 0, np.arange(len(rows))[:, None])
    np.maximum.accumulate(last, axis=0, out=last)
    return np.asarray(np.take_along_axis(rows, last, axis=0))


def over_long_gaps(days: FloatArray) -> FloatArray:
    """Days with the mean of the last 8 known same weekdays from the 8th missing one in a row on, shape (n_days,).

    Otherwise a shop that reopens after two months has no past to be forecast from. Itself without such a gap.
    """
    weeks = by_week(days)
    known = ~np.isnan(weeks)
    count = np.cumsum(known, axis=0)
    before = np.vstack([np.zeros((LONG_GAP_WEEKS, SEASON), dtype=np.int64), count])[: len(count)]
    missed = (count > 0) & (count == before)
    if not missed.any():
        return days
    filled = weeks.copy()
    for weekday in np.flatnonzero(missed.any(axis=0)):
        totals = np.cumsum(np.append(0.0, weeks[known[:, weekday], weekday]))
        until = count[missed[:, weekday], weekday]
        since = np.maximum(until - LONG_GAP_WEEKS, 0)
        filled[missed[:, weekday], weekday] = (totals[until] - totals[since]) / (until - since)
    return np.asarray(filled.ravel()[-days.size :])


def repeated_week(week: FloatArray, horizon: int) -> FloatArray:
    """A week's values, shape (7,), repeated over ``horizon`` days, shape (horizon,)."""
    return np.resize(week, horizon)
