"""What is known ahead: public holidays, closures, promotions and events, as a table of days and as regressors."""

import difflib
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from app.errors import UnknownCountry
from app.services.ml.series import SEASON, BoolArray, FloatArray, weekdays_from

DayKind = Literal["closure", "promotion", "event"]
IntArray = npt.NDArray[np.int64]
NEAR = 7  # days: farther from a public holiday no day is different from others
MID_MONTH = 15  # with the last of the month the usual paydays
LONGEST_TO_PAYDAY = 20  # days, more than lie between two of them
MONDAY, FRIDAY = 0, 4


@dataclass(frozen=True)
class KnownDay:
    """One row of `tenant_calendar`."""

    day: date
    kind: DayKind
    name: str = ""


@dataclass(frozen=True)
class Calendar:
    """The days that a tenant's forecast may know ahead.

    ``country`` is an ISO 3166 code, with a subdivision behind a dash ("DE", "DE-BY"); empty means no public holidays.
    An unknown country, or a year that the `holidays` library does not know, has none either: `validate_country` says
    so beforehand. ``closed_weekdays`` (Monday is 0) are the weekdays on which the tenant does not trade.
    """

    country: str = ""
    known_days: tuple[KnownDay, ...] = ()
    closed_weekdays: frozenset[int] = field(default_factory=frozenset)

    def closures(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on days that the tenant announced as closed."""
        return _flags(self._ordinals["closure"], start, n_days)

    def promotions(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on announced promotion days."""
        return _flags(self._ordinals["promotion"], start, n_days)

    def events(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on announced event days."""
        return _flags(self._ordinals["event"], start, n_days)

    def closed(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): closed weekdays and announced closures together; their forecast is exactly zero."""
        weekdays = weekdays_from(start, n_days)
        return np.isin(weekdays, sorted(self.closed_weekdays)) | self.closures(start, n_days)

    def holiday_names(self, start: date, n_days: int) -> list[str]:
        """Name of the public holiday of each day, in the country's language, "" on other days; length n_days."""
        names = [""] * n_days
        first = start.toordinal()
        for table in _tables(self.country, first, n_days):
            for ordinal, name in zip(table.ordinals.tolist(), table.names, strict=True):
                if 0 <= ordinal - first < n_days:
                    names[ordinal - first] = name
        return names

    def holidays(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on public holidays."""
        return self._holidays_from(start.toordinal(), n_days)

    def regional_holidays(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true where a part of the country has a holiday and the country as a whole has not.

        Always false when ``country`` names its subdivision: then the right days are holidays already.
        """
        first = start.toordinal()
        flags = np.zeros(n_days, dtype=bool)
        for year in _years(self.country, first, n_days):
            flags |= _flags_at(_regional_holidays_of(self.country.strip(), year), first, n_days)
        return flags & ~self._holidays_from(first, n_days)

    def days_to_holiday(self, start: date, n_days: int) -> IntArray:
        """Days to the next public holiday, 0 on one, at most 7, shape (n_days,)."""
        flags = self._holidays_from(start.toordinal(), n_days + NEAR)
        return _days_since(flags[::-1])[::-1][:n_days]

    def days_since_holiday(self, start: date, n_days: int) -> IntArray:
        """Days since the last public holiday, 0 on one, at most 7, shape (n_days,)."""
        return _days_since(self._holidays_from(start.toordinal() - NEAR, n_days + NEAR))[NEAR:]

    def bridges(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on a Monday before a public holiday and a Friday after one, no holidays themselves."""
        holiday = self._holidays_from(start.toordinal() - 1, n_days + 2)
        weekdays = weekdays_from(start, n_days)
        beside = ((weekdays == MONDAY) & holiday[2:]) | ((weekdays == FRIDAY) & holiday[:-2])
        return np.asarray(beside & ~holiday[1:-1])

    def regressors(self, start: date, n_days: int) -> tuple[tuple[str, ...], FloatArray]:
        """Names and values, shape (n_days, k), of what is known ahead: holiday, its eve, its morrow, closure, …"""
        holiday = self._holidays_from(start.toordinal() - 1, n_days + 2)
        columns = {
            "holiday": holiday[1:-1],
            "holiday_eve": holiday[2:],
            "holiday_morrow": holiday[:-2],
            "closure": self.closures(start, n_days),
            "promotion": self.promotions(start, n_days),
            "event": self.events(start, n_days),
        }
        return tuple(columns), np.column_stack(list(columns.values())).astype(np.float64)

    def holiday_groups(self, start: date, n_days: int) -> list[str]:
        """Which holiday each day belongs to, its eve and its morrow apart: "-1 Christmas Day"; "" on other days.

        The holiday itself goes before an eve, an eve before a morrow. Length n_days.
        """
        padded = self.holiday_names(start - timedelta(days=1), n_days + 2) if start > date.min else []
        padded = padded or ["", *self.holiday_names(start, n_days + 1)]
        groups = [""] * n_days
        for offset, label in ((-1, "+1"), (1, "-1"), (0, "0")):
            for i in range(n_days):
                if padded[i + 1 + offset]:
                    groups[i] = f"{label} {padded[i + 1 + offset]}"
        return groups

    def _holidays_from(self, first: int, n_days: int) -> BoolArray:
        flags = np.zeros(n_days, dtype=bool)
        for table in _tables(self.country, first, n_days):
            flags |= _flags_at(table.ordinals, first, n_days)
        return flags

    @cached_property
    def _ordinals(self) -> dict[str, IntArray]:
        kinds: dict[str, list[int]] = {"closure": [], "promotion": [], "event": []}
        for known in self.known_days:
            kinds[known.kind].append(known.day.toordinal())
        return {kind: np.array(days, dtype=np.int64) for kind, days in kinds.items()}


def days_since_payday(start: date, n_days: int) -> IntArray:
    """Days since wages are usually paid, 0 on the day, shape (n_days,).

    The 15th and the last of the month, on the Friday before when they fall on a weekend.
    """
    ahead = 3  # the Sunday of the last payday, and the day after
    days = np.datetime64(start) - LONGEST_TO_PAYDAY + np.arange(LONGEST_TO_PAYDAY + n_days + ahead)
    day_of_month = (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    nominal = np.flatnonzero((day_of_month == MID_MONTH) | np.append(day_of_month[1:] == 1, False))
    weekdays = (start.weekday() - LONGEST_TO_PAYDAY + np.arange(days.size)) % SEASON
    paid = np.zeros(days.size, dtype=bool)
    paid[np.maximum(nominal - np.maximum(weekdays[nominal] - FRIDAY, 0), 0)] = True
    return _days_since(paid, LONGEST_TO_PAYDAY)[LONGEST_TO_PAYDAY : LONGEST_TO_PAYDAY + n_days]


def validate_country(code: str) -> str:
    """The code as the `holidays` library spells it: "de-by" becomes "DE-BY"; "" stays "".

    Raises
    ------
    UnknownCountry : the library knows no such country or subdivision; the message gives near matches
    """
    wanted = code.strip()
    if not wanted:
        return ""
    supported = _supported()
    country, _, subdivision = wanted.partition("-")
    country = country.upper()
    if country not in supported:
        raise UnknownCountry(
            f"{wanted!r} is no country whose public holidays are known.", next_step=_suggest(_near_countries(wanted))
        )
    if not subdivision:
        return country
    spelled = _spelled(subdivision, supported[country])
    if spelled is None:
        near = [f"{country}-{part}" for part in _near(subdivision.upper(), supported[country])]
        raise UnknownCountry(f"{country} has no subdivision {subdivision!r}.", next_step=_suggest([*near, country]))
    return f"{country}-{spelled}"


class _HolidayTable(NamedTuple):
    """The public holidays of one country and year: proleptic ordinals, sorted, and names."""

    ordinals: IntArray
    names: tuple[str, ...]


_NO_DAYS = np.zeros(0, np.int64)


def _tables(country: str, first: int, n_days: int) -> list[_HolidayTable]:
    """Holiday tables of all years that the ``n_days`` days from ordinal ``first`` on touch."""
    return [_holidays_of(country.strip(), year) for year in _years(country, first, n_days)]


def _years(country: str, first: int, n_days: int) -> range:
    """The years that the ``n_days`` days from ordinal ``first`` on touch; none without a country."""
    if not country or n_days < 1:
        return range(0)
    lowest, highest = date.min.toordinal(), date.max.toordinal()
    first_year = date.fromordinal(min(max(first, lowest), highest)).year
    last_year = date.fromordinal(min(max(first + n_days - 1, lowest), highest)).year
    return range(first_year, last_year + 1)


@lru_cache(maxsize=4096)
def _holidays_of(country: str, year: int) -> _HolidayTable:
    import holidays  # heavy at import, and many tenants have no country

    code, _, wanted = country.partition("-")
    code, parts = code.upper(), _supported().get(code.upper())
    subdivision = _spelled(wanted, parts) if parts and wanted else None
    if parts is None or (wanted and subdivision is None):
        return _HolidayTable(_NO_DAYS, ())
    # The library would take the language from the environment: the same tenant, other names elsewhere.
    language = holidays.country_holidays(code).default_language
    found = holidays.country_holidays(code, subdivision, year, language=language)
    days = sorted(found)
    return _HolidayTable(np.array([day.toordinal() for day in days], dtype=np.int64), tuple(found[day] for day in days))


@lru_cache(maxsize=4096)
def _regional_holidays_of(country: str, year: int) -> IntArray:
    """Holidays of any subdivision, the country's own among them: proleptic ordinals; none where one is named."""
    import holidays

    code, _, wanted = country.upper().partition("-")
    if wanted or code not in _supported():
        return _NO_DAYS
    parts = holidays.country_holidays(code).subdivisions
    days = {day for part in parts for day in holidays.country_holidays(code, part, year)}
    return np.array(sorted(day.toordinal() for day in days), dtype=np.int64)


def _days_since(flags: BoolArray, most: int = NEAR) -> IntArray:
    """Days since the last true one, at most ``most``, shape unchanged."""
    days = np.arange(flags.size)
    last = np.maximum.accumulate(np.where(flags, days, -most))
    return np.minimum(days - last, most)


def _flags(ordinals: IntArray, start: date, n_days: int) -> BoolArray:
    return _flags_at(ordinals, start.toordinal(), n_days)


def _flags_at(ordinals: IntArray, first: int, n_days: int) -> BoolArray:
    flags = np.zeros(n_days, dtype=bool)
    offsets = ordinals - first
    flags[offsets[(offsets >= 0) & (offsets < n_days)]] = True
    return flags


@lru_cache(maxsize=1)
def _supported() -> dict[str, list[str]]:
    import holidays

    return {code: list(parts) for code, parts in holidays.list_supported_countries(include_aliases=True).items()}


def _spelled(subdivision: str, known: list[str]) -> str | None:
    """The library's spelling of a subdivision; None when it has no such one."""
    return {part.casefold(): part for part in known}.get(subdivision.casefold())


def _near(text: str, known: list[str]) -> list[str]:
    return difflib.get_close_matches(text, known, n=3, cutoff=0.5)


def _near_countries(text: str) -> list[str]:
    """Codes whose own spelling or whose country's English name comes near ``text``."""
    from holidays.registry import COUNTRIES

    codes = {module.replace("_", " "): names[1] for module, names in COUNTRIES.items()}
    by_name = [codes[name] for name in difflib.get_close_matches(text.lower(), list(codes), n=3, cutoff=0.75)]
    return by_name or _near(text.upper(), sorted(_supported()))


def _suggest(codes: list[str]) -> str:
    nearest = f"Did you mean {', '.join(codes)}? " if codes else ""
    return f"{nearest}Give an ISO 3166 code such as DE, or DE-BY for a part of a country; empty for no holidays."
