"""Closed weekdays, gaps, suspected outages, and what is said about them."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.quality import DataQuality, LeftOut, RowCounts, assess, reason_text, sentences, suspected_outages
from app.services.ml.quality_words import REASONS, WORDS
from app.services.ml.series import DailySeries, closed_weekdays

MONDAY = date(2026, 1, 5)
SUNDAY = 6
WITHOUT_HOLIDAYS = Calendar()
OUTAGE_IN_MARCH = (
    "No sales from 3 Mar 2026 to 5 Mar 2026, though 3 of these days are normally open. Closed, or data missing?"
)


def shop(n_days: int = 140, closed: tuple[int, ...] = (), start: date = MONDAY) -> np.ndarray:
    """A shop that sells 10 a day and nothing on its closed weekdays."""
    weekdays = (start.weekday() + np.arange(n_days)) % 7
    return np.where(np.isin(weekdays, closed), 0.0, 10.0)


def quality_of(y: np.ndarray, calendar: Calendar = WITHOUT_HOLIDAYS, **counts: Any) -> DataQuality:
    series = DailySeries(MONDAY, y)
    return assess(series, calendar, RowCounts(**counts), series.end, stale=False)


def zero(y: np.ndarray, first: date, last: date) -> np.ndarray:
    y = y.copy()
    y[(first - MONDAY).days : (last - MONDAY).days + 1] = 0
    return y


@pytest.mark.parametrize("closed", [(), (SUNDAY,), (0, SUNDAY), (0, 1, 2, 3, 4)])
def test_a_weekday_that_never_sells_is_closed(closed: tuple[int, ...]) -> None:
    assert closed_weekdays(DailySeries(MONDAY, shop(closed=closed))) == closed


@pytest.mark.parametrize("offset", range(7))
def test_the_last_day_may_be_any_weekday(offset: int) -> None:
    assert closed_weekdays(DailySeries(MONDAY, shop(140 + offset, closed=(2, SUNDAY)))) == (2, SUNDAY)


def test_eleven_weeks_are_too_few_and_twelve_are_enough() -> None:
    assert closed_weekdays(DailySeries(MONDAY, shop(7 * 11, closed=(SUNDAY,)))) == ()
    assert closed_weekdays(DailySeries(MONDAY, shop(7 * 12, closed=(SUNDAY,)))) == (SUNDAY,)


def test_one_open_sunday_among_the_last_twelve_makes_sundays_open() -> None:
    y = shop(closed=(SUNDAY,))
    y[-7 * 12 + SUNDAY] = 3.0

    assert closed_weekdays(DailySeries(MONDAY, y)) == ()


def test_one_open_sunday_long_ago_does_not() -> None:
    y = shop(closed=(SUNDAY,))
    y[SUNDAY] = 3.0

    assert closed_weekdays(DailySeries(MONDAY, y)) == (SUNDAY,)


def test_weeks_without_any_sale_say_nothing_about_weekdays() -> None:
    holiday_closure = shop(7 * 30)
    holiday_closure[-7 * 13 :] = 0

    assert closed_weekdays(DailySeries(MONDAY, holiday_closure)) == ()
    assert closed_weekdays(DailySeries(MONDAY, np.zeros(200))) == ()


def test_a_day_of_refunds_is_a_trading_day() -> None:
    y = shop(closed=(SUNDAY,))
    y[SUNDAY::7] = -2.0

    assert closed_weekdays(DailySeries(MONDAY, y)) == ()


def test_a_tenant_that_sells_now_and_then_seldom_seems_closed_by_luck() -> None:
    rng = np.random.default_rng(7)

    found = [closed_weekdays(DailySeries(MONDAY, (rng.random(365) < 0.15).astype(float))) for _ in range(300)]

    assert sum(map(bool, found)) < 15


def test_three_silent_days_of_an_open_shop_are_a_suspected_outage_with_its_dates() -> None:
    y = zero(shop(closed=(SUNDAY,)), date(2026, 3, 3), date(2026, 3, 5))

    found = quality_of(y)

    assert found["suspected_outages"] == [{"start": "2026-03-03", "end": "2026-03-05", "days": 3}]
    assert (found["zero_days"], found["gap_runs"], found["closed_weekdays"]) == (3, 1, [SUNDAY])


def test_two_silent_days_are_a_gap_and_no_outage() -> None:
    found = quality_of(zero(shop(), date(2026, 3, 3), date(2026, 3, 4)))

    assert found["suspected_outages"] == []
    assert found["gaps"] == [{"start": "2026-03-03", "end": "2026-03-04", "days": 2}]


def test_a_closed_sunday_neither_counts_nor_ends_an_outage() -> None:
    # Friday and Saturday, the closed Sunday, and Monday.
    y = zero(shop(closed=(SUNDAY,)), date(2026, 3, 6), date(2026, 3, 9))

    assert suspected_outages(DailySeries(MONDAY, y), WITHOUT_HOLIDAYS) == [
        {"start": "2026-03-06", "end": "2026-03-09", "days": 3}
    ]


def test_announced_closures_are_neither_gaps_nor_outages() -> None:
    days = [date(2026, 3, 3) + timedelta(days=i) for i in range(5)]
    calendar = Calendar(known_days=tuple(KnownDay(day, "closure") for day in days))

    found = quality_of(zero(shop(), days[0], days[-1]), calendar)

    assert (found["suspected_outages"], found["gap_runs"], found["zero_days"]) == ([], 0, 0)


def test_public_holidays_are_no_outage() -> None:
    # Good Friday 3 April to Easter Monday 6 April 2026 in Germany: two holidays, two ordinary days.
    y = zero(shop(), date(2026, 4, 3), date(2026, 4, 6))

    assert suspected_outages(DailySeries(MONDAY, y), Calendar(country="DE")) == []
    assert len(suspected_outages(DailySeries(MONDAY, y), WITHOUT_HOLIDAYS)) == 1


def test_a_tenant_that_sells_now_and_then_has_no_outages() -> None:
    y = (np.random.default_rng(3).random(365) < 0.2).astype(float)

    assert suspected_outages(DailySeries(MONDAY, y), WITHOUT_HOLIDAYS) == []


def test_an_outage_that_lasts_until_today_is_seen_and_the_end_counted() -> None:
    y = shop(140)
    y[-6:] = 0

    found = quality_of(y)

    assert [span["days"] for span in found["suspected_outages"]] == [6]
    assert found["trailing_zeros"] == 6


def test_the_ten_longest_gaps_are_listed_in_order_and_all_are_counted() -> None:
    y = shop(300)
    y[5::20] = 0
    y[6::40] = 0

    found = quality_of(y)

    assert (found["gap_runs"], len(found["gaps"])) == (15, 10)
    assert [gap["start"] for gap in found["gaps"]] == sorted(gap["start"] for gap in found["gaps"])
    assert sum(gap["days"] == 2 for gap in found["gaps"]) == 8


def test_without_a_series_the_report_still_says_what_was_left_out() -> None:
    left_out: LeftOut = {"reason": "not_a_number", "rows": 2, "first_line": 5, "source": "sales.csv"}

    found = assess(None, WITHOUT_HOLIDAYS, RowCounts(left_out=(left_out,)), None, stale=False)

    assert (found["days"], found["left_out_rows"], found["start"]) == (0, 2, None)
    assert sentences(found) == [
        "No sales yet.",
        "2 rows were left out: the amount is not a number (sales.csv, first in line 5).",
    ]


def test_the_sentences_say_everything_in_english() -> None:
    y = zero(shop(closed=(0, SUNDAY)), date(2026, 3, 3), date(2026, 3, 5))
    left_out = ({"reason": "no_date", "rows": 1, "first_line": 9, "source": "sales.csv"},)

    said = sentences(
        quality_of(y, rows=500, duplicates=2, refunds=1, negative_days=1, future_rows=3, left_out=left_out)
    )

    assert said == [
        "140 days of sales, from 5 Jan 2026 to 24 May 2026, from 500 rows.",
        OUTAGE_IN_MARCH,
        "Closed on Mondays and Sundays.",
        "One row was left out: the date is missing (sales.csv, line 9).",
        "3 rows lie in the future and were left out.",
        "2 rows repeat others exactly; they are counted as sales.",
        "One refund was taken off.",
        "On one day refunds exceed sales.",
    ]


def test_the_sentences_say_it_in_spanish_too() -> None:
    said = sentences(quality_of(shop(closed=(0, 1, SUNDAY)), rows=900, notes=("invalid_time_zone",)), "es-MX")

    assert said == [
        "140 días de ventas, del 5 ene 2026 al 24 may 2026, de 900 filas.",
        "Cierra los lunes, los martes y los domingos.",
        "No se conoce la zona horaria del negocio; sus días se han cortado en UTC.",
    ]


def test_a_stopped_feed_is_said_second() -> None:
    series = DailySeries(MONDAY, shop())

    found = assess(series, WITHOUT_HOLIDAYS, RowCounts(rows=9), date(2026, 11, 20), stale=True)

    assert sentences(found)[1].startswith("The sales stop on 24 May 2026")


def test_both_languages_have_every_sentence_and_every_reason() -> None:
    assert WORDS["en"].keys() == WORDS["es"].keys()
    assert all(english and spanish for english, spanish in REASONS.values())
    assert reason_text("of tomorrow", "es") == "of tomorrow"
