"""Days known ahead, from a CSV: what is read, and that a wrong line stops all of it."""

from pathlib import Path

import pytest

from app.errors import InvalidFile
from app.services.calendar_import import read_calendar
from app.services.tenants import Tenant, TenantDirectory
from app.tenancy import parse_tenant_id

BAKERY = Tenant(parse_tenant_id("bakery"), "Bakery", "EUR", "Europe/Madrid")
KNOWN = TenantDirectory([BAKERY])


def file_of(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "days.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_days_are_read_in_any_column_order_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = file_of(tmp_path, "\ufeffkind,name,tenant_id,day,colour\n Closure ,Épiphanie,bakery,2027-01-06,red\n")

    assert read_calendar(file, KNOWN) == {
        BAKERY.tenant_id: [{"day": "2027-01-06", "kind": "closure", "name": "Épiphanie"}]
    }


def test_a_day_that_is_named_twice_for_one_kind_counts_once(tmp_path: Path) -> None:
    text = "tenant_id,day,kind,name\nbakery,2027-01-06,event,a\nBAKERY,2027-01-06,event,b\nbakery,2027-01-06,closure,\n"

    days = read_calendar(file_of(tmp_path, text), KNOWN)[BAKERY.tenant_id]

    assert [(day["kind"], day["name"]) for day in days] == [("event", "b"), ("closure", "")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("bakery,2027-02-30,closure,", "day '2027-02-30' is no date"),
        ("bakery,9999-01-01,closure,", "day 9999-01-01 is not between 1900 and 2200"),
        ("bakery,2027-01-01,party,", "kind 'party' is none of closure, promotion, event"),
        ("bakery,2027-01-01,event," + "x" * 201, "longer than 200 characters"),
        ("bakery,2027-01-01,event,a\x07b", "control characters"),
        ("nobody,2027-01-01,event,", "No tenant has the id or the name 'nobody'"),
        ("bakery", "kind '' is none of"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_given(tmp_path: Path, line: str, reason: str) -> None:
    file = file_of(tmp_path, f"tenant_id,day,kind,name\nbakery,2027-01-06,closure,fine\n{line}\n")

    with pytest.raises(InvalidFile) as refused:
        read_calendar(file, KNOWN)

    assert "1 wrong line: line 3: " in refused.value.message
    assert reason in refused.value.message
    assert "Nothing was written" in refused.value.next_step


def test_of_many_wrong_lines_the_first_five_are_named(tmp_path: Path) -> None:
    file = file_of(tmp_path, "tenant_id,day,kind\n" + "bakery,soon,event\n" * 8)

    with pytest.raises(InvalidFile, match=r"8 wrong lines: line 2: .*line 6: .*; and 3 more"):
        read_calendar(file, KNOWN)


def test_a_missing_column_or_file_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="lacks the column day, kind"):
        read_calendar(file_of(tmp_path, "tenant_id,date\nbakery,2027-01-01\n"), KNOWN)
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_calendar(tmp_path / "absent.csv", KNOWN)
    (tmp_path / "latin.csv").write_bytes(
        "tenant_id,day,kind,name\nbakery,2027-01-06,event,Épiphanie\n".encode("latin-1")
    )
    with pytest.raises(InvalidFile, match="UTF-8"):
        read_calendar(tmp_path / "latin.csv", KNOWN)
