"""The calendar: what is known ahead, day by day. Expected days are from printed calendars, not from the library."""

import os
import pickle
import subprocess
import sys
from datetime import date, timedelta

import numpy as np
import pytest

from app.errors import ConfigError, UnknownCountry
from app.services.ml.calendar import Calendar, KnownDay, days_since_payday, validate_country


def days_of(flags, start: date) -> list[str]:
    return [str(np.datetime64(start) + int(i)) for i in np.flatnonzero(flags)]


def test_moving_feasts_fall_where_the_printed_calendar_has_them():
    start = date(2024, 3, 1)

    holidays = Calendar("DE").holidays(start, 92)

    assert days_of(holidays, start) == [
        "2024-03-29",  # Good Friday
        "2024-04-01",  # Easter Monday
        "2024-05-01",
        "2024-05-09",  # Ascension
        "2024-05-20",  # Whit Monday
    ]


def test_a_subdivision_adds_its_own_holidays():
    epiphany = date(2024, 1, 6)

    assert Calendar("DE-BY").holidays(epiphany, 1).tolist() == [True]
    assert Calendar("DE-HB").holidays(epiphany, 1).tolist() == [False]
    assert Calendar("DE").holidays(epiphany, 1).tolist() == [False]


def test_a_holiday_of_a_part_of_the_country_is_regional_unless_the_part_is_named():
    epiphany = date(2024, 1, 6)

    assert Calendar("DE").regional_holidays(epiphany, 1).tolist() == [True]
    assert Calendar("DE-BY").regional_holidays(epiphany, 1).tolist() == [False]
    assert Calendar("DE").regional_holidays(date(2024, 12, 25), 1).tolist() == [False]


def test_names_stand_on_their_days_in_the_countrys_language():
    assert Calendar("DE").holiday_names(date(2024, 12, 24), 4) == [
        "",
        "Erster Weihnachtstag",
        "Zweiter Weihnachtstag",
        "",
    ]


def test_names_do_not_depend_on_the_language_of_the_machine():
    code = (
        "from datetime import date; from app.services.ml.calendar import Calendar; "
        "print(Calendar('DE').holiday_names(date(2024, 12, 25), 1))"
    )

    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "LANGUAGE": language, "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for language in ("en_US", "de")
    }

    assert printed == {b"['Erster Weihnachtstag']\n"}


def test_days_across_a_new_year_come_from_both_years():
    start = date(2023, 12, 24)

    assert days_of(Calendar("DE").holidays(start, 10), start) == ["2023-12-25", "2023-12-26", "2024-01-01"]


def test_no_country_has_no_holidays():
    assert not Calendar().holidays(date(2024, 1, 1), 366).any()
    assert Calendar().holiday_names(date(2024, 1, 1), 2) == ["", ""]


def test_an_unknown_country_has_none_either():
    assert not Calendar("XX").holidays(date(2024, 1, 1), 366).any()
    assert not Calendar("DE-XX").holidays(date(2024, 1, 1), 366).any()


def test_years_that_nobody_has_holidays_for_have_none():
    assert not Calendar("DE").holidays(date(1, 1, 1), 30).any()
    assert not Calendar("DE").holidays(date(9999, 12, 20), 30).any()
    assert Calendar("DE").regressors(date(1, 1, 1), 3)[1].shape == (3, 6)
    assert Calendar("DE").holiday_groups(date(1, 1, 1), 3) == ["", "", ""]


def test_a_code_may_be_written_small():
    assert Calendar("de-by").holidays(date(2024, 1, 6), 1).tolist() == [True]


def test_eve_and_morrow_are_the_days_beside_the_holiday_also_at_the_edges():
    names, values = Calendar("DE").regressors(date(2024, 10, 2), 3)
    column = dict(zip(names, values.T.tolist(), strict=True))

    assert column["holiday"] == [0, 1, 0]
    assert column["holiday_eve"] == [1, 0, 0]
    assert column["holiday_morrow"] == [0, 0, 1]

    _, only_eve = Calendar("DE").regressors(date(2024, 10, 2), 1)
    assert only_eve[0].tolist() == [0, 1, 0, 0, 0, 0]


def test_distances_to_holidays_are_counted_up_to_a_week():
    """The Day of German Unity, 3 October 2024, with All Saints' Day, no holiday in all of Germany, after it."""
    start = date(2024, 9, 25)

    assert Calendar("DE").days_to_holiday(start, 12).tolist() == [7, 7, 6, 5, 4, 3, 2, 1, 0, 7, 7, 7]
    assert Calendar("DE").days_since_holiday(start, 17).tolist() == [7] * 8 + [0, 1, 2, 3, 4, 5, 6, 7, 7]
    assert Calendar().days_to_holiday(start, 3).tolist() == [7, 7, 7]
    assert Calendar("DE").days_to_holiday(date(1, 1, 1), 2).tolist() == [7, 7]
    assert Calendar("DE").days_since_holiday(date(1, 1, 1), 2).tolist() == [7, 7]


def test_a_bridge_lies_between_a_holiday_and_a_weekend():
    spring, new_year = date(2024, 4, 29), date(2025, 12, 29)

    bridges = Calendar("DE").bridges(spring, 14)  # Ascension on Thursday the 9th, the first of May on a Wednesday
    assert days_of(bridges, spring) == ["2024-05-10"]
    assert days_of(Calendar("DE").bridges(new_year, 7), new_year) == ["2026-01-02"]
    assert days_of(Calendar("FR").bridges(date(2023, 8, 7), 14), date(2023, 8, 7)) == ["2023-08-14"]  # a Monday
    assert not Calendar("DE").bridges(date(2024, 3, 29), 1).any()  # Good Friday itself


def test_wages_come_on_the_15th_and_the_last_of_the_month_or_the_friday_before():
    start = date(2024, 6, 1)

    days = days_since_payday(start, 61)

    assert days_of(days == 0, start) == ["2024-06-14", "2024-06-28", "2024-07-15", "2024-07-31"]
    assert days[:3].tolist() == [1, 2, 3]  # since Friday, the last of May
    assert days.max() == 16  # from 28 June to 14 July


def test_paydays_do_not_depend_on_where_one_begins_to_look():
    whole = days_since_payday(date(2023, 12, 1), 400)

    for later in range(1, 60):
        part = days_since_payday(date(2023, 12, 1) + timedelta(days=later), 100)
        assert part.tolist() == whole[later : later + 100].tolist()


def test_known_days_stand_in_the_column_of_their_kind():
    calendar = Calendar(
        known_days=(
            KnownDay(date(2024, 5, 2), "closure", "stocktaking"),
            KnownDay(date(2024, 5, 3), "promotion"),
            KnownDay(date(2024, 5, 3), "event", "fair"),
            KnownDay(date(2030, 5, 3), "event"),
        )
    )

    names, values = calendar.regressors(date(2024, 5, 1), 3)

    assert names == ("holiday", "holiday_eve", "holiday_morrow", "closure", "promotion", "event")
    assert values[:, 3:].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_closed_days_are_closed_weekdays_and_closures_together():
    calendar = Calendar(known_days=(KnownDay(date(2024, 5, 1), "closure"),), closed_weekdays=frozenset({6}))

    closed = calendar.closed(date(2024, 4, 29), 7)  # Monday to Sunday

    assert closed.tolist() == [False, False, True, False, False, False, True]


def test_a_day_between_two_holidays_belongs_to_the_one_after_it():
    # 2022-04-15 Good Friday, 04-18 Easter Monday; 2022-12-25 Sunday and 12-26 Monday follow one another.
    assert Calendar("DE").holiday_groups(date(2022, 12, 24), 4) == [
        "-1 Erster Weihnachtstag",
        "0 Erster Weihnachtstag",
        "0 Zweiter Weihnachtstag",
        "+1 Zweiter Weihnachtstag",
    ]
    between = Calendar("ES").holiday_groups(date(2022, 12, 5), 5)  # the 6th and the 8th are holidays
    assert [group[:2] for group in between] == ["-1", "0 ", "-1", "0 ", "+1"]


def test_calendars_with_the_same_days_are_equal_and_hash_equal_also_after_pickling():
    one, other = (Calendar("DE", (KnownDay(date(2024, 5, 2), "closure"),), frozenset({6})) for _ in range(2))
    one.closures(date(2024, 5, 1), 3)  # fills its cache

    assert one == other == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)).closures(date(2024, 5, 1), 3).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("", ""), (" ", ""), ("DE", "DE"), ("de", "DE"), ("de-by", "DE-BY"), ("it-forli", "IT-Forli"), ("ESP", "ESP")],
)
def test_a_known_country_is_spelled_as_the_library_spells_it(written, meant):
    assert validate_country(written) == meant


@pytest.mark.parametrize(
    ("wrong", "near"), [("germany", "DE"), ("Spain", "ES"), ("DE-BX", "DE-BY"), ("DE-XX", "DE"), ("XX", "MX")]
)
def test_an_unknown_country_is_refused_with_near_matches(wrong, near):
    with pytest.raises(UnknownCountry) as refusal:
        validate_country(wrong)

    assert isinstance(refusal.value, ConfigError)
    assert wrong.partition("-")[2] in refusal.value.message
    assert wrong.partition("-")[0] in refusal.value.message
    assert near in refusal.value.next_step


@pytest.mark.parametrize("nonsense", ["\0", "🎉", "-", "--", "x" * 1000, "'; drop table ml_run; --", "DE-"])
def test_nonsense_is_refused_or_read_as_its_country(nonsense):
    if nonsense == "DE-":
        assert validate_country(nonsense) == "DE"
        return
    with pytest.raises(UnknownCountry):
        validate_country(nonsense)
