"""A tenant's business trends in numbers: level, trend, weekday profile, year on year, best and worst days.

Everything is computed from the series of daily sales and from what is known of its days; nothing is modelled ahead.
Days that are known to be closed (closed weekdays, announced closures) count nowhere as days of poor sales.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist
from typing import Literal, TypedDict, cast

import numpy as np

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import Row, TenantStore
from app.errors import NoSales, UnknownTenant
from app.services.cache import bump_tenant
from app.services.ml.calendar import Calendar
from app.services.ml.intake import TenantInput
from app.services.ml.series import BoolArray, DailySeries, FloatArray
from app.tenancy import TenantId

FEATURE_TYPE = "trends"
WEEK = 7  # days
MONTH = 28  # days: four whole weeks, so that every weekday counts alike
YEAR = 364  # days: 52 whole weeks, so that Mondays are compared with Mondays
PROFILE_WEEKS = 26
FEWEST_PROFILE_WEEKS = 4
TREND_WEEKS = 52
FEWEST_WEEKS = 8  # for a trend: fewer say nothing that a few odd weeks could not turn round
NOTABLE_DAYS = 5
CONFIDENCE = 0.95
MAX_AUTOCORRELATION = 0.9
NOTHING = 1e-6  # currency, or a share: less than that is zero, and nothing is divided by it


class Level(TypedDict):
    """Average sales per open day, in currency; None where there was no open day. ``change`` is a share, 0.1 = +10 %."""

    last_28_days: float | None
    previous_28_days: float | None
    change: float | None
    total_28_days: float


class Trend(TypedDict):
    """By how much sales per day change per week, in currency, with its confidence interval; None: too short a history.

    ``per_year`` is the same as a share of the level over a year. ``direction`` is up or down only where the interval
    leaves out zero.
    """

    direction: Literal["up", "down", "flat", "unknown"]
    per_week: float | None
    low: float | None
    high: float | None
    per_year: float | None
    confidence: float
    weeks: int


class Weekday(TypedDict):
    """``weekday``: Monday is 0. ``index``: 1 is the average of the seven; 0 for a closed weekday."""

    weekday: int
    index: float
    average: float | None
    closed: bool


class YearOnYear(TypedDict):
    """The last ``days`` days beside the same weekdays 52 weeks before; None where the history does not reach back."""

    days: int
    total: float
    total_before: float | None
    change: float | None


class NotableDay(TypedDict):
    """``usual``: the average of that weekday. ``name``: of the public holiday or of the tenant's own known day."""

    day: str
    sales: float
    usual: float | None
    name: str


class Trends(TypedDict):
    """What `describe` gives; JSON-safe, amounts in the tenant's currency."""

    as_of: str
    days: int
    level: Level
    trend: Trend
    weekdays: list[Weekday]
    year_on_year: list[YearOnYear]
    best_days: list[NotableDay]
    worst_days: list[NotableDay]


class TrendReport(Trends):
    """`Trends` of one tenant, as stored."""

    tenant_id: str
    currency: str


def analyze(
    gateway: Gateway,
    tenant_id: TenantId,
    *,
    ml_settings: MLSettings | None = None,
    settings: Settings | None = None,
) -> TrendReport:
    """Compute a tenant's trends and store them as its `ml_features` row of type ``trends`` for the last day of sales.

    Raises
    ------
    UnknownTenant, NoSales
    DatabaseUnavailable, WrongKey, NotInstalled
    """
    from app.services.ml.feature_engineer import FeatureEngineer

    engineer = FeatureEngineer(TenantStore(gateway, tenant_id), ml_settings or MLSettings())
    found = engineer.read_input()
    if found is None:
        raise UnknownTenant(
            f"There is no tenant {tenant_id}.",
            next_step="Import its sales, or look at the view tenantcast_source.tenant_source.",
            tenant_id=str(tenant_id),
        )
    report = report_of(found)
    if report is None:
        raise NoSales(
            f"Tenant {tenant_id} has no sales yet: there are no trends.",
            next_step="Import its sales first.",
            tenant_id=str(tenant_id),
        )
    engineer.store.write_features([feature_row(report)])
    bump_tenant(tenant_id, settings)
    return report


def report_of(found: TenantInput) -> TrendReport | None:
    """The trends of what was read of a tenant; None without any sale."""
    if found.series is None:
        return None
    trends = describe(found.series, found.calendar)
    return TrendReport(**trends, tenant_id=str(found.tenant.tenant_id), currency=found.tenant.currency)


def feature_row(report: TrendReport) -> Row:
    """The row of `ml_features` that holds a report."""
    return {"feature_date": report["as_of"], "feature_type": FEATURE_TYPE, "feature_values": cast("Row", report)}


def describe(series: DailySeries, calendar: Calendar) -> Trends:
    """The trends of a series of any length; what it is too short for is None.

    Parameters
    ----------
    series : currency per business day
    calendar : its closed weekdays, closures and holidays
    """
    known = _Known.of(series, calendar)
    return Trends(
        as_of=series.end.isoformat(),
        days=len(series),
        level=_level(known),
        trend=_trend(known),
        weekdays=_weekdays(known),
        year_on_year=[_year_on_year(series, days) for days in (MONTH, YEAR)],
        best_days=_notable(known, lambda y: -y),
        worst_days=_notable(known, lambda y: y),
    )


@dataclass(frozen=True, eq=False)
class _Known:
    """A series, which of its days are open, and the weekday profile: shape (7,), mean 1, 0 on closed weekdays."""

    series: DailySeries
    calendar: Calendar
    is_open: BoolArray
    profile: FloatArray

    @classmethod
    def of(cls, series: DailySeries, calendar: Calendar) -> "_Known":
        is_open = ~calendar.closed(series.start, len(series))
        return cls(series, calendar, is_open, _profile(series, calendar))


def theil_sen(y: FloatArray, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Median of the slopes between all pairs of values, with its confidence interval: (slope, low, high).

    A quarter of the values may be arbitrary before the slope is. Errors that follow each other widen the interval:
    the variance of Kendall's S grows by (1 + r) / (1 - r), with r the lag-1 autocorrelation of the residuals, if
    positive.

    Parameters
    ----------
    y : shape (n,), n >= 2, at equal distances
    confidence : in 0..1

    References
    ----------
    Sen (1968), JASA 63, 1379-1389, section 6; Yue & Wang (2004), Water Resources Management 18, 201-218.
    """
    first, second = np.triu_indices(y.size, k=1)
    slopes = np.sort((y[second] - y[first]) / (second - first))
    slope = float(np.median(slopes))
    n = y.size
    variance = n * (n - 1) * (2 * n + 5) / 18 * _inflation(y - slope * np.arange(n))
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * variance**0.5
    lower = round((slopes.size - spread) / 2)
    upper = round((slopes.size + spread) / 2)
    return slope, float(slopes[max(lower - 1, 0)]), float(slopes[min(upper, slopes.size - 1)])


def _inflation(residuals: FloatArray) -> float:
    centred = residuals - residuals.mean()
    power = float(centred @ centred)
    scale = float(np.abs(residuals).max(initial=0.0))
    if power <= (1e-9 * scale) ** 2:  # nothing but rounding is left
        return 1.0
    r = min(max(float(centred[1:] @ centred[:-1]) / power, 0.0), MAX_AUTOCORRELATION)
    return (1 + r) / (1 - r)


def _profile(series: DailySeries, calendar: Calendar) -> FloatArray:
    """Share of each weekday in its week, from ordinary weeks if there are enough of them; mean 1, closed weekdays 0.

    Weeks with an announced closure, a promotion, an event or a holiday say little about ordinary ones. The median of
    the weeks bears odd ones; where it would say that a weekday on which there are sales has none, the mean speaks.
    """
    recent = series.tail(PROFILE_WEEKS * WEEK)
    recent = recent.tail(len(recent) // WEEK * WEEK) if len(recent) >= WEEK else recent
    trades = np.ones(WEEK)
    trades[sorted(calendar.closed_weekdays)] = 0.0
    weeks = _ordinary_weeks(recent, calendar)
    if not len(weeks):
        return _to_mean_one(trades)
    shares = weeks / weeks.mean(axis=1, keepdims=True)
    by_weekday = np.zeros(WEEK)
    by_weekday[recent.weekdays[:WEEK]] = np.median(shares, axis=0)
    if (by_weekday[trades > 0] <= 0).any():
        by_weekday[recent.weekdays[:WEEK]] = shares.mean(axis=0)
    profile = np.maximum(by_weekday, 0.0) * trades
    return _to_mean_one(profile if profile.mean() > NOTHING else trades)


def _to_mean_one(values: FloatArray) -> FloatArray:
    scaled: FloatArray = values / values.mean()
    return scaled


def _ordinary_weeks(recent: DailySeries, calendar: Calendar) -> FloatArray:
    """Whole weeks with sales, shape (n_weeks, 7), without special days unless that would leave fewer than four."""
    n_days = len(recent) // WEEK * WEEK
    weeks = recent.y[:n_days].reshape(-1, WEEK)
    special = (
        calendar.closures(recent.start, n_days)
        | calendar.promotions(recent.start, n_days)
        | calendar.events(recent.start, n_days)
        | calendar.holidays(recent.start, n_days)
    )
    usable = weeks.sum(axis=1) > NOTHING
    ordinary = usable & ~special.reshape(-1, WEEK).any(axis=1)
    chosen: FloatArray = weeks[ordinary if ordinary.sum() >= FEWEST_PROFILE_WEEKS else usable]
    return chosen


def _level(known: _Known) -> Level:
    last = _open_mean(known, 0)
    previous = _open_mean(known, MONTH)
    return Level(
        last_28_days=last,
        previous_28_days=previous,
        change=_change(last, previous),
        total_28_days=float(known.series.y[-MONTH:].sum()),
    )


def _open_mean(known: _Known, days_ago: int) -> float | None:
    """Mean of the open days among the 28 that end ``days_ago`` before the last day."""
    stop = len(known.series) - days_ago
    if stop < MONTH and days_ago:
        return None
    window = slice(max(stop - MONTH, 0), stop)
    values = known.series.y[window][known.is_open[window]]
    return float(values.mean()) if values.size else None


def _trend(known: _Known) -> Trend:
    levels = _weekly_levels(known)
    unknown = Trend(
        direction="unknown", per_week=None, low=None, high=None, per_year=None, confidence=CONFIDENCE, weeks=levels.size
    )
    if levels.size < FEWEST_WEEKS:
        return unknown
    slope, low, high = theil_sen(levels)
    level = float(np.median(levels))
    rounding = 1e-9 * float(np.abs(levels).max())
    direction: Literal["up", "down", "flat"] = "up" if low > rounding else "down" if high < -rounding else "flat"
    return Trend(
        direction=direction,
        per_week=slope,
        low=low,
        high=high,
        per_year=slope * YEAR / WEEK / level if level > NOTHING else None,
        confidence=CONFIDENCE,
        weeks=levels.size,
    )


def _weekly_levels(known: _Known) -> FloatArray:
    """Sales per average day of each of the last weeks, oldest first, as if every week had been open throughout.

    The sales of a week's open days over the profile's share of these days; weeks without an open day are left out.
    """
    n_weeks = min(len(known.series) // WEEK, TREND_WEEKS)
    tail = slice(len(known.series) - n_weeks * WEEK, None)
    is_open = known.is_open[tail].reshape(-1, WEEK)
    sales = np.where(is_open, known.series.y[tail].reshape(-1, WEEK), 0.0).sum(axis=1)
    share = np.where(is_open, known.profile[known.series.weekdays[tail]].reshape(-1, WEEK), 0.0).sum(axis=1)
    levels: FloatArray = sales[share > NOTHING] / share[share > NOTHING]
    return levels


def _weekdays(known: _Known) -> list[Weekday]:
    return [
        Weekday(
            weekday=day,
            index=float(known.profile[day]),
            average=_usual(known, day),
            closed=day in known.calendar.closed_weekdays,
        )
        for day in range(WEEK)
    ]


def _usual(known: _Known, weekday: int) -> float | None:
    """Average of that weekday's open days in the last 26 weeks."""
    recent = slice(max(len(known.series) - PROFILE_WEEKS * WEEK, 0), None)
    chosen = (known.series.weekdays[recent] == weekday) & known.is_open[recent]
    return float(known.series.y[recent][chosen].mean()) if chosen.any() else None


def _year_on_year(series: DailySeries, days: int) -> YearOnYear:
    n = len(series)
    total = float(series.y[-days:].sum())
    before = float(series.y[n - YEAR - days : n - YEAR].sum()) if n >= YEAR + days else None
    return YearOnYear(days=days, total=total, total_before=before, change=_change(total, before))


def _change(now: float | None, before: float | None) -> float | None:
    """As a share; None where there is nothing positive to compare with."""
    return now / before - 1 if now is not None and before is not None and before > NOTHING else None


def _notable(known: _Known, rank: Callable[[FloatArray], FloatArray]) -> list[NotableDay]:
    """The first few open days of the last 52 weeks by ``rank`` of their sales; of equal ones the later day first."""
    first = max(len(known.series) - YEAR, 0)
    candidates = np.flatnonzero(known.is_open[first:]) + first
    order = np.lexsort((-candidates, rank(known.series.y[candidates])))
    return [_notable_day(known, int(i)) for i in candidates[order][:NOTABLE_DAYS]]


def _notable_day(known: _Known, index: int) -> NotableDay:
    day = known.series.start + timedelta(days=index)
    own = [known_day.name for known_day in known.calendar.known_days if known_day.day == day and known_day.name]
    return NotableDay(
        day=day.isoformat(),
        sales=float(known.series.y[index]),
        usual=_usual(known, day.weekday()),
        name=", ".join(own) or known.calendar.holiday_names(day, 1)[0],
    )
