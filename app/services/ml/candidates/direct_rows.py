"""Features of direct forecasts: one row per origin and step, so that one matrix holds all horizons.

Sales are signed roots of their share of the mean of the year before the origin: shops of any size look alike, a huge
day weighs little, and a shop that has grown is compared with itself. Origins lie a week apart, in step with the end of
the series; every feature of a row uses days before its origin, or what the calendar knows ahead.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from app.services.ml.calendar import Calendar, IntArray
from app.services.ml.candidates import lags
from app.services.ml.candidates.common import over_long_gaps, telling_sales
from app.services.ml.roots import from_roots, to_roots
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray

STEPS = 28  # days ahead that are learned; a longer horizon is forecast like the days of the same weekday and phase
YEAR = 52 * SEASON
WEEKS = 8  # same weekdays that make the base
LAGS = 6  # of them that are features by themselves
FORTNIGHTS = 3  # days of the same two-weekly phase
MONTH = 4 * SEASON
SPANS = (7, 14, 56, 91, YEAR)  # days whose mean is compared with that of the last month
YEAR_AGO = (YEAR - SEASON, YEAR, YEAR + SEASON)
YEAR_AGO_SPANS = (3, 14)  # days to either side of the day a year ago
HOLIDAY_WEEKS = 4  # same weekdays whose holidays are counted
FIRST_ORIGIN = MONTH
PADDING = YEAR + 9 * SEASON  # deeper than any look back
LEAST_SPREAD = 1e-3  # of the level; a series that repeats itself has none


@dataclass(frozen=True, eq=False)
class Rows:
    """One row per origin and step: ``values`` of shape (n_rows, k), all else of shape (n_rows,).

    The unit of ``base``, ``target`` and ``spread`` is the root of the origin's level, ``size`` in roots of sales.
    """

    names: tuple[str, ...]  # of the features, length k
    values: FloatArray  # features; nan where the history does not reach
    base: FloatArray  # mean of the last 8 same weekdays
    target: FloatArray  # signed root of sales; nan where they are unknown or say nothing
    spread: FloatArray  # mean absolute difference to the week before, over the last year; > 0
    size: FloatArray
    days: IntArray  # index of the day that is forecast
    steps: IntArray  # days ahead, from 0

    def sales(self, forecast: FloatArray) -> FloatArray:
        """A forecast in the unit of ``target`` as sales, shape (n_rows,)."""
        roots = forecast * self.size
        return from_roots(roots)

    def column(self, name: str) -> FloatArray:
        """The feature of that name, shape (n_rows,)."""
        return self.values[:, self.names.index(name)]

    def where(self, kept: BoolArray) -> "Rows":
        """The rows where ``kept`` is true."""
        arrays = {name: values[kept] for name, values in vars(self).items() if name != "names"}
        return replace(self, **arrays)


class RunningMean:
    """Means over any span of days, missing days left out, from cumulative sums."""

    def __init__(self, values: FloatArray) -> None:
        known = ~np.isnan(values)
        self._totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
        self._counts = np.concatenate([[0], np.cumsum(known)])

    def between(self, start: IntArray, stop: IntArray) -> FloatArray:
        """Mean of the known days in [start, stop), shape as the indices; nan where there is none."""
        count = self._counts[stop] - self._counts[start]
        total = self._totals[stop] - self._totals[start]
        return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


class Table:
    """The rows of one series; ``horizon`` days beyond its end are known to the calendar."""

    def __init__(self, series: DailySeries, calendar: Calendar, horizon: int = 0) -> None:
        self._n_days = len(series)
        n_ahead = self._n_ahead = max(horizon, STEPS)
        telling = telling_sales(series, calendar, knows_holidays=True)
        self._roots = np.concatenate([np.full(PADDING, np.nan), to_roots(telling), np.full(n_ahead, np.nan)])
        self._means = RunningMean(self._roots)
        # What looks back from an origin looks over a long closure; what looks at single days of the past does not.
        self._seen = over_long_gaps(self._roots)
        self._seen_means = self._means if self._seen is self._roots else RunningMean(self._seen)
        self._squares = RunningMean(self._seen**2)
        self._changes = RunningMean(
            np.concatenate([np.full(SEASON, np.nan), np.abs(self._roots[SEASON:] - self._roots[:-SEASON])])
        )
        self._zeros = RunningMean(np.where(np.isnan(self._roots), np.nan, self._roots == 0))
        n_all = self._n_days + n_ahead
        self._calendar = lags.calendar_ahead(series, calendar, n_ahead)
        self._groups = calendar.holiday_groups(series.start, n_all)
        holidays = calendar.holidays(series.start, n_all).astype(np.float64)
        self._holidays = np.concatenate([np.zeros(PADDING), holidays])
        self._in_sample: dict[int, Rows] = {}

    @classmethod
    def of(cls, series: DailySeries, calendar: Calendar, horizon: int = 0) -> "Table":
        """The table of a series, made once for all candidates that ask for it."""
        n_ahead = max(horizon, STEPS)
        return series.once((cls, calendar, n_ahead), lambda: cls(series, calendar, n_ahead))

    def training(self) -> Rows:
        """Rows of all weekly origins with four weeks or more before them, as far as their days are known."""
        return self._training

    @cached_property
    def _training(self) -> Rows:
        first = FIRST_ORIGIN + (self._n_days - FIRST_ORIGIN) % SEASON
        rows = self._rows(np.arange(first, self._n_days, SEASON), STEPS)
        return rows.where(~np.isnan(rows.target))

    def ahead(self, horizon: int) -> Rows:
        """Rows of the ``horizon`` days after the series, with its end as origin; at most as many as were prepared."""
        rows = self._ahead
        return rows if horizon == rows.days.size else rows.where(rows.steps < horizon)

    @cached_property
    def _ahead(self) -> Rows:
        return self._rows(np.array([self._n_days]), self._n_ahead)

    def in_sample(self, since: int) -> Rows:
        """Rows of every day from index ``since`` on, from the weekly origin before it: a fit of the past."""
        if since not in self._in_sample:
            weeks = min(-((since - self._n_days) // SEASON), self._n_days // SEASON - 1)  # the first has none before it
            self._in_sample[since] = self._rows(self._n_days - SEASON * np.arange(weeks, 0, -1), SEASON)
        return self._in_sample[since]

    def _rows(self, origins: IntArray, n_steps: int) -> Rows:
        steps = np.arange(n_steps)
        days = origins[:, None] + steps
        at, origin = days + PADDING, np.broadcast_to(origins[:, None], days.shape) + PADDING
        size = np.sqrt(np.nan_to_num(self._squares.between(origin - YEAR, origin)))
        size = np.where(size > 0, size, 1.0)
        spread = np.fmax(self._changes.between(origin - YEAR, origin) / size, LEAST_SPREAD)
        month = np.nan_to_num(self._seen_means.between(origin - MONTH, origin)) / size
        recent = self._same_weekdays(origins, steps) / size[..., None]
        base = np.where(np.isnan(recent).all(axis=-1), month, _mean(recent))
        columns = {
            **self._recent_features(recent, steps),
            **self._level_features(origin, size, spread, month),
            **self._year_ago_features(at, origin, size, spread, base),
            **self._calendar_features(days, at),
            "holiday_effect": self._holiday_effects(origins, n_steps) / size / spread,
            "base": base,
            "spread": spread,
            "base_over_month": base - month,
            "step": np.broadcast_to(np.minimum(steps, STEPS - 1), days.shape),
            "origin": origin,
        }
        values = np.stack(list(columns.values()), axis=-1, dtype=np.float64)
        return Rows(
            names=tuple(columns),
            values=values.reshape(-1, values.shape[-1]),
            base=base.ravel(),
            target=(self._roots[at] / size).ravel(),
            spread=spread.ravel(),
            size=size.ravel(),
            days=days.ravel(),
            steps=np.broadcast_to(steps, days.shape).ravel(),
        )

    def _same_weekdays(self, origins: IntArray, steps: IntArray) -> FloatArray:
        """Roots of the last 8 same weekdays before the origin, newest first, shape (n_origins, n_steps, 8)."""
        week = origins[:, None] + np.arange(SEASON) + PADDING
        return np.asarray(self._seen[week[..., None] - SEASON * np.arange(1, WEEKS + 1)][:, steps % SEASON])

    def _recent_features(self, recent: FloatArray, steps: IntArray) -> dict[str, FloatArray]:
        """Single same weekdays, newest first, those of the two-weekly phase, their middle and their spread."""
        weeks_ahead, every = steps // SEASON, np.arange(steps.size)
        phase = (weeks_ahead + 1) % 2
        fortnights = [recent[:, every, phase + 2 * k] for k in range(FORTNIGHTS)]
        mean = _mean(recent)[..., None]
        return {
            **{f"week_{k + 1}": recent[..., k] for k in range(LAGS)},
            **{f"fortnight_{k + 1}": values for k, values in enumerate(fortnights)},
            "fortnight": _mean(np.stack(fortnights, axis=-1)),
            "month_ago": recent[:, every, (3 - weeks_ahead) % 4],
            "median": _median(recent),
            "deviation": np.sqrt(_mean((recent - mean) ** 2)),
        }

    def _level_features(
        self, origin: IntArray, size: FloatArray, spread: FloatArray, month: FloatArray
    ) -> dict[str, FloatArray]:
        """How the mean of other spans differs from that of the last month, and the shares of days without sales."""
        means = {f"level_{span}": self._seen_means.between(origin - span, origin) / size for span in SPANS}
        differences = {name: (mean - month) / spread for name, mean in means.items()}
        return differences | {f"zeros_{span}": self._zeros.between(origin - span, origin) for span in (MONTH, YEAR)}

    def _year_ago_features(
        self, at: IntArray, origin: IntArray, size: FloatArray, spread: FloatArray, base: FloatArray
    ) -> dict[str, FloatArray]:
        """The same days a year ago, and what the season did then between the origin and the day."""
        days = {f"year_{back}": np.where(at - back < origin, self._roots[at - back], np.nan) for back in YEAR_AGO}
        spans = {
            f"year_mean_{span}": self._means.between(
                np.minimum(at - YEAR - span, origin), np.minimum(at - YEAR + span + 1, origin)
            )
            for span in YEAR_AGO_SPANS
        }
        season = spans["year_mean_3"] - self._means.between(origin - YEAR - MONTH, origin - YEAR)
        against_base = {name: (values / size - base) / spread for name, values in (days | spans).items()}
        return against_base | {"season": season / size / spread}

    def _calendar_features(self, days: IntArray, at: IntArray) -> dict[str, FloatArray]:
        """What is known ahead of each day, and how many of the last 4 same weekdays were holidays."""
        last = at - (np.arange(days.shape[1]) // SEASON + 1) * SEASON
        holidays = np.sum([self._holidays[last - SEASON * k] for k in range(HOLIDAY_WEEKS)], axis=0)
        known = dict(zip(lags.CALENDAR_NAMES, np.moveaxis(self._calendar[days], -1, 0), strict=True))
        return known | {"recent_holidays": holidays}

    def _holiday_effects(self, origins: IntArray, n_steps: int) -> FloatArray:
        """Mean of the last two effects of the day's holiday that the origin knows, shape (n_origins, n_steps).

        In roots of sales; 0 on days without a holiday, nan on a holiday's first time. An effect is the root minus the
        mean of the 4 same weekdays before.
        """
        effects = np.zeros((origins.size, n_steps))
        to_come = self._holidays_to_come
        days = np.array([day for _, _, day in to_come], dtype=np.int64)
        first, stop = np.searchsorted(origins, days - n_steps, "right"), np.searchsorted(origins, days, "right")
        for holiday in np.flatnonzero(first < stop):
            known_days, known, day = to_come[holiday]
            for i in range(first[holiday], stop[holiday]):
                before = known[: np.searchsorted(known_days, origins[i])][-lags.EFFECTS :]
                effects[i, day - origins[i]] = before.mean() if before.size else np.nan
        return effects

    @cached_property
    def _holidays_to_come(self) -> list[tuple[IntArray, FloatArray, int]]:
        """For every holiday (its eve and morrow apart): the days and effects known of its kind, and its day."""
        days_of: dict[str, list[int]] = defaultdict(list)
        for day, group in enumerate(self._groups):
            if group:
                days_of[group].append(day)
        found = []
        for days in days_of.values():
            at = np.array(days) + PADDING
            usual = self._roots[at[:, None] - SEASON * np.arange(1, lags.EFFECT_WEEKS + 1)]
            effect = self._roots[at] - _mean(usual)
            telling = ~np.isnan(effect)
            found += [(at[telling] - PADDING, effect[telling], day) for day in days]
        return found


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the last axis, missing values left out; nan where all are missing."""
    count = (~np.isnan(values)).sum(axis=-1)
    mean = np.divide(np.nansum(values, axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return np.asarray(mean)


def _median(values: FloatArray) -> FloatArray:
    """Median over the last axis, missing values left out; nan where all are missing."""
    ordered = np.sort(values, axis=-1)  # nan last
    count = (~np.isnan(values)).sum(axis=-1, keepdims=True)
    middle = [np.take_along_axis(ordered, np.maximum((count - shift) // 2, 0), axis=-1) for shift in (1, 0)]
    return np.asarray((middle[0] + middle[1])[..., 0] / 2)
