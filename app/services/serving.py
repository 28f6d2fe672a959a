"""What is forecast for a tenant now, as a person or a dashboard asks for it."""

from datetime import date
from typing import Any, TypedDict

from app.db.gateway import Gateway
from app.db.store import Row, TenantStore
from app.errors import NoSales
from app.services.ml.results import ForecastSummary, ForecastTotal
from app.services.report.view import sure_key
from app.services.report.words import say
from app.services.tenants import Tenant

WEEK, FOUR_WEEKS = 7, 28  # days that totals are given for


class ServedDay(TypedDict):
    """One forecast day, in the tenant's currency per business day."""

    date: str
    weekday: str
    yhat: float
    yhat_lower: float
    yhat_upper: float
    parts: dict[str, float] | None  # see `explanation.Parts`; None in a forecast of an earlier version


class ServedForecast(TypedDict):
    """The published forecast of one tenant, JSON-safe."""

    tenant_id: str
    name: str
    currency: str
    as_of: str
    stale: bool
    days: list[ServedDay]
    total_7: float
    total_28: float
    totals: dict[str, ForecastTotal]  # "total_7" and "total_28" with their bands, those that the horizon holds
    explanation: ForecastSummary | None
    interval_level: float | None
    confidence_score: float
    confidence: str  # the score in the report's words
    anomalies: list[dict[str, Any]]  # {date, y, score}, oldest first
    chosen: str
    reason: str
    notes: list[str]
    run_id: str
    model_version: str


def current_forecast(gateway: Gateway, tenant: Tenant) -> ServedForecast:
    """The forecast that is published now, from the day after the last finished day that it knows.

    Raises
    ------
    NoSales : nothing is published for the tenant yet
    """
    read = TenantStore(gateway, tenant.tenant_id).read_forecast()
    current = read["current"]
    if not current:
        raise NoSales(
            f"Nothing is forecast for {tenant.name or tenant.tenant_id} yet.",
            next_step=f"`tenantcast run {tenant.tenant_id}` forecasts it now.",
            tenant_id=str(tenant.tenant_id),
        )
    rows = [row for row in read["predictions"] if row["prediction_type"] == "sales_forecast"]
    days = [_served(row) for row in rows if row["prediction_date"] > current["as_of"]]
    report = read["report"] or {}
    score = float(rows[-1]["confidence_score"] or 0.0) if rows else 0.0
    return ServedForecast(
        tenant_id=str(tenant.tenant_id),
        name=tenant.name,
        currency=tenant.currency,
        as_of=current["as_of"],
        stale=bool(report.get("stale", False)),
        days=days,
        total_7=report.get("total_7", _sum(days, WEEK)),
        total_28=report.get("total_28", _sum(days, FOUR_WEEKS)),
        totals=report.get("totals") or {},
        explanation=report.get("explanation"),
        interval_level=report.get("interval_level"),
        confidence_score=score,
        confidence=say("en", sure_key(score)),
        anomalies=_anomalies(read["predictions"]),
        chosen=str(report.get("chosen", "")),
        reason=str(report.get("reason", "")),
        notes=[str(one["text"]) for one in report.get("notes", [])],
        run_id=str(current["run_id"]),
        model_version=str(current["model_version"]),
    )


def _served(row: Row) -> ServedDay:
    day, values = row["prediction_date"], row["predicted_values"]
    return ServedDay(
        date=day,
        weekday=f"{date.fromisoformat(day):%A}",
        yhat=values["yhat"],
        yhat_lower=values["yhat_lower"],
        yhat_upper=values["yhat_upper"],
        parts=values.get("parts"),
    )


def _sum(days: list[ServedDay], n: int) -> float:
    return round(sum(day["yhat"] for day in days[:n]), 2)


def _anomalies(predictions: list[Row]) -> list[dict[str, Any]]:
    flagged = [row for row in predictions if row["prediction_type"] == "sales_anomaly"]
    return [
        {"date": row["prediction_date"], "y": row["predicted_values"]["y"], "score": row["predicted_values"]["score"]}
        for row in flagged
        if row["predicted_values"]["is_anomaly"]
    ]
