"""The chart of one tenant as plain geometry: bars for what was sold; a stroke in a pale box for what is forecast.

Across, everything is in percent of the width, so that one drawing fits a desktop and a phone without a script; up and
down it is in pixels of a fixed height. Colour is never the only sign: forecast days have a stroke and a box, unusual
days a triangle, announced days a mark under the axis.
"""

import math
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from app.services.ml.calendar import Calendar
from app.services.report.formats import Locale

HEIGHT = 300  # pixels, all of it
TOP, BASE = 26.0, 262.0  # pixels: the plot lies between
MARK_Y = 268.0  # pixels: the strip of announced days, below the axis
N_TICKS = 4
N_LABELS = 6  # day labels that fit on a phone
MONTHLY_FROM = 75  # days shown: from here on the axis names months instead of weeks
WEEKLY_FROM = 21  # days shown: from here on it names weeks instead of days
LAST_LABEL = 95  # percent: a label further right would be cut off


@dataclass(frozen=True)
class ChartDay:
    """One day as the chart needs it. ``sold`` is None ahead of time; ``band`` is (lower, upper) of a forecast."""

    day: date
    sold: float | None = None
    yhat: float | None = None
    band: tuple[float, float] | None = None
    expected: float | None = None  # only on an unusual day
    closed: bool = False
    marks: tuple[str, ...] = ()  # closure, promotion, event, holiday
    names: tuple[str, ...] = ()  # what the marks are called


@dataclass(frozen=True)
class Bar:
    """A rectangle: ``x`` and ``width`` in percent, ``y`` and ``height`` in pixels."""

    kind: str
    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True)
class Tick:
    """A label on an axis: ``at`` in percent (days) or pixels (money). ``minor`` ones go first when it gets narrow."""

    at: float
    label: str
    minor: bool = False


@dataclass(frozen=True)
class Mark:
    """A triangle over an unusual day: ``x`` in percent, ``y`` in pixels."""

    x: float
    y: float
    up: bool


@dataclass(frozen=True)
class Chart:
    """All that the template draws."""

    bars: tuple[Bar, ...]
    ranges: tuple[Bar, ...]
    points: tuple[Bar, ...]
    strips: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    money_ticks: tuple[Tick, ...]
    day_ticks: tuple[Tick, ...]
    divide: float | None  # percent: where history ends and the forecast begins
    zero: float  # pixels
    clipped: tuple[Bar, ...]  # a cut across bars that are higher than the chart
    kinds: frozenset[str]  # what the legend must name
    long: bool  # so many days that a phone shows the newer half alone
    height: int = HEIGHT
    top: float = TOP
    base: float = BASE


@dataclass(frozen=True)
class Scale:
    """Money to pixels."""

    low: float
    high: float

    def y(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return round(BASE - (inside - self.low) / (self.high - self.low) * (BASE - TOP), 1)


def draw_chart(days: list[ChartDay], locale: Locale) -> Chart:
    """Geometry of ``days``, which follow each other without gaps, the forecast last."""
    scale = _scale(days)
    step = 100 / len(days)
    first_ahead = next((i for i, day in enumerate(days) if day.sold is None), None)
    strips = tuple(_strip(i, step, mark) for i, day in enumerate(days) for mark in day.marks)
    return Chart(
        bars=tuple(bar for i, day in enumerate(days) for bar in _bars(i, step, day, scale)),
        ranges=tuple(_range(i, step, day.band, scale) for i, day in enumerate(days) if day.band and not day.closed),
        points=tuple(_point(i, step, day.yhat, scale) for i, day in enumerate(days) if day.yhat and not day.closed),
        strips=strips,
        marks=tuple(_mark(i, step, day, scale) for i, day in enumerate(days) if day.expected is not None),
        money_ticks=tuple(Tick(scale.y(value), locale.money(value)) for value in nice_steps(scale) if value),
        day_ticks=tuple(day_ticks(days, locale)),
        divide=None if first_ahead is None else round(first_ahead * step, 3),
        zero=scale.y(0.0),
        clipped=tuple(_cut(i, step) for i, day in enumerate(days) if (day.sold or 0.0) > scale.high),
        kinds=_kinds(days),
        long=len(days) >= MONTHLY_FROM,
    )


def _scale(days: list[ChartDay]) -> Scale:
    """From the lowest to the highest value; one freak day is cut off, so that it does not flatten all others."""
    sold = sorted(day.sold for day in days if day.sold is not None)
    bands = [day.band for day in days if day.band]
    low = min([0.0, *sold[:1], *(band[0] for band in bands)])
    usual = max([1e-9, *(band[1] for band in bands), *sold[: math.ceil(len(sold) * 0.98)]])
    freak = sold[-1] if sold else 0.0
    high = usual * 1.3 if freak > 2.5 * usual else max(usual, freak)
    return Scale(low, high + 0.04 * (high - low))


def nice_steps(scale: Scale) -> list[float]:
    """Round values inside the scale, about four of them: steps of 1, 2 or 5 times a power of ten."""
    rough = (scale.high - scale.low) / N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough)
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [i * step for i in range(first, last + 1)]


def day_ticks(days: list[ChartDay], locale: Locale) -> list[Tick]:
    """Names of days, weeks or months under the axis, as many as can be read."""
    step = 100 / len(days)
    if len(days) >= MONTHLY_FROM:
        starts = [(i, locale.month(day.day)[:3]) for i, day in enumerate(days) if day.day.day == 1]
    elif len(days) >= WEEKLY_FROM:
        starts = [(i, f"{d.day.day} {locale.month(d.day)[:3]}") for i, d in enumerate(days) if d.day.weekday() == 0]
    else:
        starts = [(i, str(day.day.day)) for i, day in enumerate(days)]
    shown = [(i * step, label) for i, label in starts if i * step < LAST_LABEL]
    return [Tick(round(at, 3), label, bool(n % 2) and len(shown) > N_LABELS) for n, (at, label) in enumerate(shown)]


def _bars(i: int, step: float, day: ChartDay, scale: Scale) -> list[Bar]:
    if day.closed and not (day.sold or day.yhat):
        return [Bar("closed", round(i * step, 3), round(step, 3), TOP, BASE - TOP)]
    value = _sure_part(day.band) if day.sold is None else day.sold
    if value == 0:
        return []
    y, zero = scale.y(value), scale.y(0.0)
    kind = ("forecast" if day.sold is None else "sold") + (" odd" if day.expected is not None else "")
    return [Bar(kind, round((i + 0.12) * step, 3), round(0.76 * step, 3), min(y, zero), round(abs(y - zero), 1))]


def _sure_part(band: tuple[float, float] | None) -> float:
    """What a forecast day reaches most likely in any case: from zero to the nearer end of its range."""
    if band is None or band[0] <= 0 <= band[1]:
        return 0.0
    return min(band, key=abs)


def _range(i: int, step: float, band: tuple[float, float], scale: Scale) -> Bar:
    top, bottom = scale.y(band[1]), scale.y(band[0])
    return Bar("range", round((i + 0.12) * step, 3), round(0.76 * step, 3), top, max(round(bottom - top, 1), 1.0))


def _point(i: int, step: float, yhat: float, scale: Scale) -> Bar:
    return Bar("point", round((i + 0.02) * step, 3), round(0.96 * step, 3), round(scale.y(yhat) - 1, 1), 2.5)


def _strip(i: int, step: float, mark: str) -> Bar:
    row = {"closure": 0, "promotion": 0, "event": 0, "holiday": 1}[mark]
    return Bar(mark, round(i * step, 3), round(step, 3), MARK_Y + 5 * row, 4)


def _mark(i: int, step: float, day: ChartDay, scale: Scale) -> Mark:
    sold, expected = day.sold or 0.0, day.expected or 0.0
    return Mark(round((i + 0.5) * step, 3), max(scale.y(max(sold, 0.0)) - 5, 12.0), sold >= expected)


def _cut(i: int, step: float) -> Bar:
    return Bar("cut", round(i * step, 3), round(step, 3), TOP + 10, 5)


def _kinds(days: list[ChartDay]) -> frozenset[str]:
    kinds = {mark for day in days for mark in day.marks}
    kinds |= {"closed"} if any(day.closed and not (day.sold or day.yhat) for day in days) else set()
    kinds |= {"unusual"} if any(day.expected is not None for day in days) else set()
    kinds |= {"sales"} if any(day.sold for day in days) else set()
    return frozenset(kinds | {"forecast", "range"})


def known_marks(calendar: Calendar, start: date, n_days: int) -> list[list[tuple[str, str]]]:
    """(kind, name) of what is known about each of ``n_days`` days from ``start`` on; a list per day."""
    found: list[list[tuple[str, str]]] = [[] for _ in range(n_days)]
    for known in calendar.known_days:
        offset = (known.day - start).days
        if 0 <= offset < n_days:
            found[offset].append((known.kind, known.name))
    for offset, name in enumerate(calendar.holiday_names(start, n_days)):
        if name:
            found[offset].append(("holiday", name))
    return found


def stretches(days: list[tuple[date, str, str]]) -> list[tuple[date, date, str, str]]:
    """Days in a row with the same kind and name as one (first, last, kind, name), in order of the first day."""
    grouped: dict[tuple[str, str], list[date]] = {}
    for day, kind, name in days:
        grouped.setdefault((kind, name), []).append(day)
    runs = [(a, b, kind, name) for (kind, name), found in grouped.items() for a, b in _consecutive(sorted(set(found)))]
    return sorted(runs)


def _consecutive(days: list[date]) -> list[tuple[date, date]]:
    breaks = [i + 1 for i, (a, b) in enumerate(pairwise(days)) if b - a > timedelta(days=1)]
    edges = [0, *breaks, len(days)]
    return [(days[a], days[b - 1]) for a, b in pairwise(edges)]
