"""What is known ahead: public holidays, closures, promotions and events, as a table of days and as regressors."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

import numpy as np

from app.services.ml.series import BoolArray, FloatArray

DayKind = Literal["closure", "promotion", "event"]


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
    ``closed_weekdays`` (Monday is 0) are the weekdays on which the tenant does not trade.
    """

    country: str = ""
    known_days: tuple[KnownDay, ...] = ()
    closed_weekdays: frozenset[int] = field(default_factory=frozenset)

    def closures(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on days that the tenant announced as closed."""
        return self._flags("closure", start, n_days)

    def promotions(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on announced promotion days."""
        return self._flags("promotion", start, n_days)

    def events(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on announced event days."""
        return self._flags("event", start, n_days)

    def closed(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): closed weekdays and announced closures together; their forecast is exactly zero."""
        weekdays = (start.weekday() + np.arange(n_days)) % 7
        return np.isin(weekdays, sorted(self.closed_weekdays)) | self.closures(start, n_days)

    def holiday_names(self, start: date, n_days: int) -> list[str]:
        """Name of the public holiday of each day, "" on other days; length n_days."""
        names: dict[date, str] = {}
        for year in range(start.year, (start + timedelta(days=max(n_days - 1, 0))).year + 1):
            names.update(_holidays_of(self.country, year))
        return [names.get(start + timedelta(days=i), "") for i in range(n_days)]

    def holidays(self, start: date, n_days: int) -> BoolArray:
        """Shape (n_days,): true on public holidays."""
        return np.array([bool(name) for name in self.holiday_names(start, n_days)], dtype=bool)

    def regressors(self, start: date, n_days: int) -> tuple[tuple[str, ...], FloatArray]:
        """Names and values, shape (n_days, k), of what is known ahead: holiday, its eve, its morrow, closure, …"""
        holiday = self.holidays(start - timedelta(days=1), n_days + 2).astype(np.float64)
        columns = {
            "holiday": holiday[1:-1],
            "holiday_eve": holiday[2:],
            "holiday_morrow": holiday[:-2],
            "closure": self.closures(start, n_days).astype(np.float64),
            "promotion": self.promotions(start, n_days).astype(np.float64),
            "event": self.events(start, n_days).astype(np.float64),
        }
        return tuple(columns), np.column_stack(list(columns.values()))

    def _flags(self, kind: DayKind, start: date, n_days: int) -> BoolArray:
        flags = np.zeros(n_days, dtype=bool)
        for known in self.known_days:
            offset = (known.day - start).days
            if known.kind == kind and 0 <= offset < n_days:
                flags[offset] = True
        return flags


@lru_cache(maxsize=4096)
def _holidays_of(country: str, year: int) -> dict[date, str]:
    if not country:
        return {}
    import holidays  # heavy at import, and many tenants have no country

    code, _, subdivision = country.partition("-")
    found = holidays.country_holidays(code, subdiv=subdivision or None, years=year)
    return dict(found.items())
