"""Cron expressions of five fields (minute hour day month weekday), in UTC: validated, and asked for their last slot.

Fields are ``*``, numbers, ranges ``1-5``, steps ``*/15`` and lists of these; names are not understood. Weekday 0 and 7
are Sunday. As in Celery's ``crontab``, which beat uses, a day must fit both its date and its weekday.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
LONGEST_GAP_DAYS = 40 * 366  # 29 February on one weekday, across a century that has no such day
DAYS_PER_WEEK = 7


@dataclass(frozen=True)
class Cron:
    """When something is due, to the minute, in UTC."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday, as in cron

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Read an expression.

        Raises
        ------
        ValueError : not five fields, a value out of range, or days that never come (30 February)
        """
        parts = text.split()
        if len(parts) != len(FIELDS):
            raise ValueError(f"a cron expression has five fields (minute hour day month weekday), not {len(parts)}")
        fields = [_field(part, *about) for part, about in zip(parts, FIELDS, strict=True)]
        weekdays = frozenset(day % DAYS_PER_WEEK for day in fields[4])
        cron = cls(" ".join(parts), fields[0], fields[1], fields[2], fields[3], weekdays)
        if cron.last_due(datetime(2097, 1, 1, tzinfo=UTC)) is None:  # reaches back over all weekdays of 29 February
            raise ValueError("no day has this date")
        return cron

    def last_due(self, now: datetime) -> datetime | None:
        """The newest slot that is not after ``now`` (aware); None when there was none in forty years."""
        now = now.astimezone(UTC)
        for back in range(LONGEST_GAP_DAYS):
            day = now.date() - timedelta(days=back)
            if self._fits(day):
                until = now.time() if back == 0 else time.max
                slot = self._last_minute(until)
                if slot is not None:
                    return datetime.combine(day, slot, tzinfo=UTC)
        return None

    def _fits(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % DAYS_PER_WEEK in self.weekdays

    def _last_minute(self, until: time) -> time | None:
        slots = (time(hour, minute) for hour in self.hours if hour <= until.hour for minute in self.minutes)
        return max((slot for slot in slots if slot <= until), default=None)


def _field(text: str, name: str, lowest: int, highest: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        values |= _part(part, name, lowest, highest)
    return frozenset(values)


def _part(text: str, name: str, lowest: int, highest: int) -> set[int]:
    span, slash, step = text.partition("/")
    first, dash, last = span.partition("-")
    try:
        start = lowest if span == "*" else int(first)
        # `5/15` is "from 5 on", `5` is 5 alone; 7 is only another name of Sunday.
        end = int(last) if dash else (highest if span == "*" or slash else start)
        stride = int(step) if slash else 1
    except ValueError:
        raise ValueError(f"{text!r} is no {name}: use *, numbers, ranges and steps such as 1-5 or */15") from None
    if not lowest <= start <= end <= highest or stride < 1:
        raise ValueError(f"{text!r} is no {name}: it must lie within {lowest}-{highest}, with a step of 1 or more")
    return set(range(start, end + 1, stride))
