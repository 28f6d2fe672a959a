"""From the database's answer to what a forecast is made from, however hostile the answer."""

import copy
import json
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.ml_settings import MLSettings
from app.errors import InvalidSeries, InvalidTenantInput
from app.services.ml.intake import TenantInput, read_tenant_input

TENANT_ID = "11111111-1111-4111-8111-111111111111"


def answer(**changes: Any) -> dict[str, Any]:
    """What `ml_read_input` gives for a small shop, with some keys changed."""
    row: dict[str, Any] = {
        "tenant": {
            "tenant_id": TENANT_ID, "name": "Corner shop", "time_zone": "Europe/Madrid", "cutoff_hour": 4,
            "country": "ES", "language": "es", "currency": "EUR", "active": True,
        },
        "as_of": "2026-11-20", "last_finished_day": "2026-11-20", "stale": False, "start": "2026-11-16",
        "sales": [10, 20.5, 0, -3.25, 8], "rows": [1, 2, 0, 1, 1],
        "calendar": [{"day": "2026-12-24", "kind": "closure", "name": "Nochebuena"}],
        "settings": {"horizon_days": 14},
        "current": {
            "input_hash": "aa", "output_hash": "bb", "as_of": "2026-11-13", "run_id": "r", "model_version": "1",
        },
        "quality": {
            "rows": 5, "duplicates": 1, "negative_days": 1, "refunds": 1, "refunds_total": -3.25, "future_rows": 2,
            "first_sale": "2026-11-16T09:00:00Z", "last_sale": "2026-11-20T09:00:00Z", "days_before_window": 0,
            "quarantined": [{"reason": "not_a_number", "rows": 3, "first_line": 7, "source": "sales.csv"}], "notes": [],
        },
    }  # fmt: skip
    return {**row, **changes}


def read(row: Any, **overrides: Any) -> TenantInput:
    found = read_tenant_input(row, MLSettings(**overrides))
    assert found is not None
    return found


def test_an_answer_becomes_series_calendar_and_quality() -> None:
    found = read(answer())

    assert found.series is not None
    assert (found.series.start, found.series.end) == (date(2026, 11, 16), date(2026, 11, 20))
    np.testing.assert_array_equal(found.series.y, [10, 20.5, 0, -3.25, 8])
    assert (found.tenant.name, found.tenant.cutoff_hour, str(found.tenant.tenant_id)) == ("Corner shop", 4, TENANT_ID)
    assert [known.day for known in found.calendar.known_days] == [date(2026, 12, 24)]
    assert found.quality["left_out_rows"] == 3
    assert found.quality["refunds_total"] == -3.25
    assert found.current is not None
    assert found.current.as_of == date(2026, 11, 13)
    assert found.settings == {"horizon_days": 14}
    json.dumps(found.quality, allow_nan=False)


def test_an_unknown_tenant_is_none_and_one_without_sales_has_no_series() -> None:
    assert read_tenant_input({"tenant": None, "as_of": None}, MLSettings()) is None

    found = read(answer(start=None, sales=[], rows=[]))

    assert found.series is None
    assert found.quality["days"] == 0


def test_the_window_cuts_the_series_at_its_beginning() -> None:
    start = date(2026, 11, 20) - timedelta(days=99)

    found = read(answer(start=start.isoformat(), sales=list(range(100))), max_train_window_days=14)

    assert found.series is not None
    np.testing.assert_array_equal(found.series.y, np.arange(86, 100))


def test_closed_weekdays_reach_the_calendar() -> None:
    start = date(2026, 11, 20) - timedelta(days=139)
    sales = [0.0 if (start + timedelta(days=i)).weekday() == 6 else 5.0 for i in range(140)]

    found = read(answer(start=start.isoformat(), sales=sales))

    assert found.calendar.closed_weekdays == frozenset({6})
    assert found.quality["closed_weekdays"] == [6]


@pytest.mark.parametrize(
    ("own", "override", "configured", "expected"),
    [
        ("ES", None, "DE", "ES"),
        ("", None, "DE", "DE"),
        ("ES", {"holidays_country": "FR"}, "FR", "FR"),
        ("ES", {"ML_HOLIDAYS_COUNTRY": "FR"}, "FR", "FR"),
        ("ES", {"holidays_country": ""}, "", "ES"),
    ],
)
def test_the_override_of_the_country_beats_the_tenants_own_and_that_the_settings(
    own: str, override: dict[str, str] | None, configured: str, expected: str
) -> None:
    row = answer(settings=override)
    row["tenant"]["country"] = own

    assert read(row, holidays_country=configured).calendar.country == expected


def test_days_of_the_calendar_that_cannot_be_read_are_left_out_and_noted() -> None:
    days = [
        {"day": "2026-12-24", "kind": "closure", "name": None},
        {"day": "2026-12-24", "kind": "party"},
        {"day": "9999-12-24", "kind": "closure"},
        {"kind": "closure"},
        "2026-12-24",
    ]

    found = read(answer(calendar=days))

    assert len(found.calendar.known_days) == 1
    assert [str(one) for one in found.notes] == ["4 rows of the calendar cannot be read and were left out."]


@pytest.mark.parametrize(
    "sales",
    [
        [10, "NaN", 0, 0, 0], [10, None, 0, 0, 0], [10, float("nan"), 0, 0, 0], [10, float("inf"), 0, 0, 0],
        [10, 10**400, 0, 0, 0], [10, 1e300, 0, 0, 0], [10, True, 0, 0, 0], [10, [1], 0, 0, 0],
        [10, 20], [10] * 6, [],
    ],
)  # fmt: skip
def test_sales_that_are_no_series_are_refused_with_the_tenants_name(sales: list[Any]) -> None:
    with pytest.raises(InvalidSeries, match="Corner shop") as caught:
        read_tenant_input(answer(sales=sales), MLSettings())

    assert caught.value.next_step


@pytest.mark.parametrize(
    "changes",
    [
        {"as_of": None}, {"as_of": "20-11-2026"}, {"as_of": 20261120}, {"as_of": "0001-01-01"}, {"start": "soon"},
        {"stale": "no"}, {"sales": {"0": 1}}, {"calendar": "none"}, {"current": []}, {"current": {}},
        {"quality": None}, {"last_finished_day": "x"},
    ],
)  # fmt: skip
def test_a_part_of_another_type_is_refused_with_the_tenants_name(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidTenantInput, match="Corner shop"):
        read_tenant_input(answer(**changes), MLSettings())


@pytest.mark.parametrize("row", [None, [], "x", 5, {"tenant": []}, {"tenant": {}}, {"tenant": {"tenant_id": "x"}}])
def test_an_answer_without_a_tenant_is_refused(row: Any) -> None:
    with pytest.raises(InvalidTenantInput):
        read_tenant_input(row, MLSettings())


HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "\x00", "9999-12-31", "2026-11-20", 10**400, -(10**400), "💶", ""]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [(key,) for key in answer()]
    + [(part, key) for part in ("tenant", "quality", "current") for key in answer()[part]]
    + [("sales", 0), ("calendar", 0), ("calendar", 0, "day"), ("quality", "quarantined", 0, "rows")]
)


@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=PATHS, value=HOSTILE)
def test_a_hostile_answer_gives_an_input_or_an_error_of_ours(path: tuple[Any, ...], value: Any) -> None:
    row = copy.deepcopy(answer())
    part: Any = row
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value

    def outcome() -> str:
        try:
            found = read_tenant_input(row, MLSettings())
        except (InvalidSeries, InvalidTenantInput) as error:
            return "refused" if error.next_step else "refused without a next step"
        if found is None:
            return "no tenant"
        json.dumps(found.quality, allow_nan=False)
        return "read"

    assert outcome() in {"read", "refused", "no tenant"}
