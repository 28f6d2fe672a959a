"""Cron expressions: what they mean, checked against Celery's own crontab, and what is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from celery.schedules import crontab
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.config.cron import Cron
from app.config.ml_settings import MLSettings
from app.errors import ConfigError

NOW = datetime(2026, 11, 21, 16, 8, 30, tzinfo=UTC)  # a Saturday


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        ("0 2 * * 1", datetime(2026, 11, 16, 2, tzinfo=UTC)),  # the Monday before
        ("*/15 * * * *", datetime(2026, 11, 21, 16, 0, tzinfo=UTC)),
        ("8 16 * * *", datetime(2026, 11, 21, 16, 8, tzinfo=UTC)),  # the minute that runs
        ("9 16 * * *", datetime(2026, 11, 20, 16, 9, tzinfo=UTC)),  # not yet today
        ("0 0 * * 0", datetime(2026, 11, 15, tzinfo=UTC)),
        ("0 0 * * 7", datetime(2026, 11, 15, tzinfo=UTC)),  # Sunday's other name
        ("30 23 31 * *", datetime(2026, 10, 31, 23, 30, tzinfo=UTC)),  # the last month that has a 31st
        ("0 0 29 2 *", datetime(2024, 2, 29, tzinfo=UTC)),
        ("59 1-3,7 * * 5/1", datetime(2026, 11, 21, 7, 59, tzinfo=UTC)),
        ("0 12 13 * 5", datetime(2026, 11, 13, 12, tzinfo=UTC)),  # a Friday the 13th: both must fit
    ],
)
def test_the_last_slot_is_the_newest_that_is_not_in_the_future(text: str, slot: datetime) -> None:
    assert Cron.parse(text).last_due(NOW) == slot


def test_slots_are_those_of_utc_whatever_zone_the_clock_has() -> None:
    madrid = NOW.astimezone(timezone(timedelta(hours=1)))

    assert Cron.parse("0 16 * * *").last_due(madrid) == datetime(2026, 11, 21, 16, tzinfo=UTC)


def fields(lowest: int, highest: int) -> st.SearchStrategy[str]:
    number = st.integers(lowest, highest)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    stepped = st.tuples(st.one_of(st.just("*"), span), st.integers(1, 9)).map(lambda part: f"{part[0]}/{part[1]}")
    part = st.one_of(st.just("*"), number.map(str), span, stepped)
    return st.lists(part, min_size=1, max_size=3).map(",".join)


@pytest.mark.parametrize("text", ["0 0 1 2 6", *(f"0 0 29 2 {weekday}" for weekday in range(7))])
def test_a_date_that_falls_on_one_weekday_comes_though_years_lie_between(text: str) -> None:
    ours = Cron.parse(text)

    last = ours.last_due(datetime(2140, 1, 1, tzinfo=UTC))  # 2100 has no 29 February

    assert last is not None
    assert (last.day, last.month, last.isoweekday() % 7) == (min(ours.days), 2, min(ours.weekdays))


@settings(max_examples=300, deadline=None)
@given(fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 6))
@example("*", "*", "1", "2", "6")  # the first of February is a Saturday every 5 to 12 years
def test_every_expression_means_what_it_means_to_celery(
    minute: str, hour: str, day: str, month: str, weekday: str
) -> None:
    ours = Cron.parse(f"{minute} {hour} {day} {month} {weekday}")
    theirs = crontab(minute, hour, weekday, day, month)

    assert (ours.minutes, ours.hours, ours.days, ours.months, ours.weekdays) == (
        theirs.minute, theirs.hour, theirs.day_of_month, theirs.month_of_year, theirs.day_of_week,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "0 2 * *", "0 2 * * 1 2026", "60 2 * * 1", "0 24 * * 1", "0 2 0 * 1", "0 2 * 13 *", "0 2 * * 8", "0 2 * * mon",
     "5-1 * * * *", "*/0 * * * *", "1,,2 * * * *", "- * * * *", "*/ * * * *", "0 0 30 2 *", "0 0 31 4,6 *",
     "a b c d e"],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fields|is no|no day"):
        Cron.parse(text)


def test_a_bad_schedule_in_the_environment_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_RETRAIN_CRON", "0 25 * * 1")

    with pytest.raises(ConfigError, match="ML_RETRAIN_CRON cannot be '0 25") as caught:
        MLSettings()
    assert "'25' is no hour" in caught.value.message
