"""Finding a tenant, and the published forecast as it is shown."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from app.cli.forecasts import print_forecast, print_parts
from app.errors import InvalidTenantId, NoSales, UnknownTenant
from app.services.ml.explanation import PARTS
from app.services.serving import current_forecast
from app.services.tenants import Tenant, TenantDirectory
from app.tenancy import parse_tenant_id

BAKERY = Tenant(parse_tenant_id("bakery"), "bakery", "EUR", "Europe/Madrid")
SOL = Tenant(parse_tenant_id("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), "Panadería Sol", "EUR", "Europe/Madrid")
TWIN = Tenant(parse_tenant_id("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "PANADERÍA SOL", "EUR", "Europe/Madrid")


class OneAnswer:
    """A gateway that answers every call with one value."""

    name = "fake"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def call(self, function: str, params: Mapping[str, object]) -> Any:
        assert function == "ml_read_forecast"
        return self.answer

    def close(self) -> None:
        """Nothing to close."""


def answer(**changes: Any) -> dict[str, Any]:
    """Two forecast days after Friday the 20th, one from before, and two anomaly rows."""

    def row(day: str, kind: str, values: dict[str, Any]) -> dict[str, Any]:
        return {"prediction_date": day, "prediction_type": kind, "predicted_values": values, "confidence_score": 0.8}

    def forecast(day: str, yhat: float) -> dict[str, Any]:
        return row(day, "sales_forecast", {"yhat": yhat, "yhat_lower": yhat - 5, "yhat_upper": yhat + 5})

    return {
        "current": {"as_of": "2026-11-20", "run_id": "r", "model_version": "20261120.3"},
        "predictions": [
            row("2026-11-02", "sales_anomaly", {"y": 900.0, "score": 6.1, "is_anomaly": True}),
            row("2026-11-03", "sales_anomaly", {"y": 10.0, "score": 0.1, "is_anomaly": False}),
            forecast("2026-11-20", 77.0),
            forecast("2026-11-21", 1200.0),
            forecast("2026-11-22", 0.25),
        ],
        "report": {
            "interval_level": 0.8,
            "reason": "The blend was best.",
            "chosen": "blend",
            "notes": [{"code": "later", "values": {}, "text": "[b]young[/b]"}],
        },
        **changes,
    }


@pytest.mark.parametrize("text", ["bakery", " bakery ", "BAKERY", str(BAKERY.tenant_id)])
def test_a_tenant_is_found_by_id_and_by_name_in_any_case(text: str) -> None:
    assert TenantDirectory([BAKERY, SOL]).find(text) == BAKERY


def test_a_name_that_the_product_gave_a_uuid_is_found() -> None:
    assert TenantDirectory([BAKERY, SOL]).find("panadería sol") == SOL


def test_a_name_that_two_tenants_have_asks_for_the_id() -> None:
    with pytest.raises(UnknownTenant, match=str(SOL.tenant_id)):
        TenantDirectory([SOL, TWIN]).find("panadería sol")


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UnknownTenant, match="for instance: bakery"):
        TenantDirectory([SOL, BAKERY]).find("bakry")
    with pytest.raises(UnknownTenant, match="import"):
        TenantDirectory([]).find("bakery")
    with pytest.raises(InvalidTenantId):
        TenantDirectory([BAKERY]).find("\x00")


def test_the_current_forecast_begins_after_the_last_known_day() -> None:
    served = current_forecast(OneAnswer(answer()), BAKERY)

    assert [(day["weekday"], day["date"]) for day in served["days"]] == [
        ("Saturday", "2026-11-21"),
        ("Sunday", "2026-11-22"),
    ]
    assert served["total_7"] == served["total_28"] == 1200.25
    assert served["anomalies"] == [{"date": "2026-11-02", "y": 900.0, "score": 6.1}]
    assert served["confidence"] == "quite sure"


def explained() -> dict[str, Any]:
    """`answer` as this version publishes it."""
    full = answer()
    for row, parts in zip(full["predictions"][3:], ((1000.0, 200.0), (0.0, 0.25)), strict=True):
        row["predicted_values"]["parts"] = dict.fromkeys(PARTS, 0.0) | {"level": parts[0], "weekday": parts[1]}
    band = {"yhat": 1200.25, "yhat_lower": 1100.0, "yhat_upper": 1300.0, "bands": {"0.8": [1100.0, 1300.0]}}
    summary = {"days": 2, "total": 1200.25, "parts": {}, "en": "The sentence.", "es": "La frase."}
    return full | {"report": full["report"] | {"totals": {"total_7": band}, "explanation": summary}}


def parts_of(what: dict[str, Any]) -> str:
    written = StringIO()
    print_parts(Console(file=written, width=120, no_color=True), current_forecast(OneAnswer(what), BAKERY), 14)
    return written.getvalue()


def test_the_parts_of_each_day_and_the_bands_of_totals_are_served() -> None:
    served = current_forecast(OneAnswer(explained()), BAKERY)

    assert served["days"][0]["parts"] == {"level": 1000.0, "weekday": 200.0, "season": 0, "calendar": 0, "recent": 0}
    assert served["totals"]["total_7"]["yhat_upper"] == 1300.0
    assert served["explanation"] is not None
    assert served["explanation"]["en"] == "The sentence."


def test_totals_are_those_of_the_report_and_not_sums_of_the_days_again() -> None:
    full = explained()
    full["report"] |= {"total_7": 1250.5, "total_28": 1250.5}

    served = current_forecast(OneAnswer(full), BAKERY)

    assert (served["total_7"], served["total_28"]) == (1250.5, 1250.5)


def test_parts_are_shown_as_a_table_with_the_sentence_below() -> None:
    shown = parts_of(explained())

    assert "1,000" in shown
    assert "The sentence." in shown
    assert shown.count("2026-11-2") == 2


def test_a_forecast_of_an_earlier_version_says_that_it_has_no_parts() -> None:
    assert "earlier version" in parts_of(answer())


def test_without_a_forecast_the_next_step_is_to_run_it() -> None:
    with pytest.raises(NoSales, match=f"tenantcast run {BAKERY.tenant_id}"):
        current_forecast(OneAnswer(answer(current=None, predictions=[], report=None)), BAKERY)


def test_a_forecast_without_a_stored_report_is_still_served() -> None:
    served = current_forecast(OneAnswer(answer(report=None)), BAKERY)

    assert len(served["days"]) == 2
    assert served["interval_level"] is None


def test_a_person_sees_days_range_totals_and_unusual_days() -> None:
    buffer = StringIO()
    served = current_forecast(OneAnswer(answer()), BAKERY)

    print_forecast(Console(file=buffer, width=120, markup=False, highlight=False), served, days=1)

    shown = buffer.getvalue()
    assert "daily sales in EUR" in shown
    assert "likely range (80%)" in shown
    assert "1,195 - 1,205" in shown
    assert "2026-11-22" not in shown  # only the first day was asked for
    assert "Unusual days lately: 2026-11-02 (900.00)." in shown
    assert "[b]young[/b]" in shown
