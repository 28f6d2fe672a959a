"""Hand-built runs for the tests of the report page: what the pipeline stores, without the pipeline."""

from datetime import date, timedelta
from typing import Any

from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.notes import note
from app.services.report.data import History, RunPage, TenantPart

AS_OF = date(2026, 11, 20)  # a Friday
HORIZON = 28
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> {{ 7*7 }} \"'&🎉"
REASON = note("chosen_blend", n=3, shares=[["xgboost", 0.6], ["prophet", 0.4]])
WEEK = (90.0, 100.0, 110.0, 120.0, 150.0, 200.0, 0.0)  # Monday first; closed on Sundays


def weekday_sales(start: date, n_days: int, scale: float = 1.0) -> list[float]:
    """Sales that depend on the weekday alone."""
    return [scale * WEEK[(start + timedelta(days=i)).weekday()] for i in range(n_days)]


def a_history(n_days: int = 200, scale: float = 1.0, known: tuple[KnownDay, ...] = ()) -> History:
    start = AS_OF - timedelta(days=n_days - 1)
    return History(start, tuple(weekday_sales(start, n_days, scale)), Calendar("ES", known, frozenset({6})))


def a_report(scale: float = 1.0, **changed: Any) -> dict[str, Any]:
    """A TrainingReport of a shop that sells by the weekday and is closed on Sundays."""
    first = AS_OF + timedelta(days=1)
    yhat = weekday_sales(first, HORIZON, scale)
    forecast = [
        {
            "date": (first + timedelta(days=i)).isoformat(),
            "yhat": y,
            "yhat_lower": 0.8 * y,
            "yhat_upper": 1.25 * y,
            "parts": a_days_parts(y, scale),
        }
        for i, y in enumerate(yhat)
    ]
    report: dict[str, Any] = {
        "tenant_id": "00000000-0000-4000-8000-000000000001", "tenant_name": "Shop", "run_id": None,
        "status": "published", "as_of": AS_OF.isoformat(), "stale": False, "currency": "EUR", "language": "en",
        "country": "ES", "time_zone": "Europe/Madrid", "horizon_days": HORIZON, "interval_level": 0.8,
        "forecast": forecast, "total_7": sum(yhat[:7]), "total_28": sum(yhat),
        "totals": {f"total_{n}": a_total(sum(yhat[:n])) for n in (7, 28)}, "explanation": a_summary(scale),
        "anomalies": [], "chosen": "blend",
        "reason": str(REASON), "reason_note": REASON.as_dict(), "level": "blend",
        "weights": {"xgboost": 0.6, "prophet": 0.4},
        "metrics": {"mae": 12.0}, "scores": [a_score("xgboost"), a_score("prophet"), a_score("snaive", mae=19.0)],
        "confidence_score": 0.74, "closed_weekdays": [6], "notes": [], "refused_settings": [], "quality": {},
        "changes": None, "input_hash": "a" * 64, "output_hash": "b" * 64, "model_version": "20261120.1",
        "seconds": {}, "error": None,
    }  # fmt: skip
    return report | changed


def a_days_parts(yhat: float, scale: float = 1.0) -> dict[str, float]:
    """An average day of 110; open days have 8 for the time of year and lose 3 lately."""
    level, season, recent = 110 * scale, 8 * scale if yhat else 0.0, -3 * scale if yhat else 0.0
    weekday = yhat - level - season - recent
    return {"level": level, "weekday": weekday, "season": season, "calendar": 0.0, "recent": recent}


def a_total(yhat: float) -> dict[str, Any]:
    return {
        "yhat": yhat,
        "yhat_lower": 0.9 * yhat,
        "yhat_upper": 1.1 * yhat,
        "bands": {"0.8": [0.9 * yhat, 1.1 * yhat]},
    }


def a_summary(scale: float = 1.0) -> dict[str, Any]:
    """The first week: six open days and a Sunday."""
    parts = {"level": 770 * scale, "weekday": -30 * scale, "season": 48 * scale, "calendar": 0.0, "recent": -18 * scale}
    return {"days": 7, "total": 770 * scale, "parts": parts, "en": "In English.", "es": "En español."}


def a_score(name: str, status: str = "scored", reason: str = "", mae: float = 12.0) -> dict[str, Any]:
    metrics = {"mae": mae, "wape": mae / 110, "mase": mae / 19, "bias": 1.5} if status == "scored" else {}
    return {"name": name, "status": status, "reason": reason, "metrics": metrics, "weight": 0.0, "seconds": 0.4}


def a_part(name: str = "Shop", state: str = "done", **changed: Any) -> TenantPart:
    values: dict[str, Any] = {
        "tenant_id": "00000000-0000-4000-8000-000000000001", "name": name, "state": state, "report": a_report(),
        "history": a_history(), "error": None, "reason": "", "tenant": {"country": "ES"},
    }  # fmt: skip
    return TenantPart(**(values | changed))


def an_empty_part(name: str, state: str, language: str = "en", error: dict[str, Any] | None = None) -> TenantPart:
    """A tenant without any forecast."""
    facts = {"language": language, "currency": "EUR", "country": "ES"}
    return a_part(name, state, report=None, history=None, error=error, tenant=facts)


def a_run(*parts: TenantPart, total: int | None = None, **counts: int) -> RunPage:
    run = {"run_id": "11111111-1111-4111-8111-111111111111", "created_at": "2026-11-21T02:00:07Z", "code_version": "1"}
    all_counts = {"done": len(parts), "failed": 0, "no_sales": 0, "skipped": 0, "pending": 0} | counts
    return RunPage(run, all_counts, list(parts), len(parts) if total is None else total)


def every_kind_of_tenant() -> list[TenantPart]:
    """One tenant for everything that a page can have to say."""
    promotion = [KnownDay(AS_OF + timedelta(days=i), "promotion", "Black Friday") for i in range(4, 8)]
    known = (*promotion, KnownDay(AS_OF + timedelta(days=12), "closure", "Inventory"))
    hostile_day = (KnownDay(AS_OF + timedelta(days=2), "event", HOSTILE),)
    odd_day = (AS_OF - timedelta(days=10)).isoformat()
    return [
        a_part("Bakery", history=a_history(known=known)),
        a_part("Panadería", report=a_report(language="es"), history=a_history(known=known)),
        a_part("Big numbers", report=a_report(90_000, currency="CLP", language="es"), history=a_history(scale=90_000),
               tenant={"country": "CL"}),
        a_part("Unusual", report=a_report(anomalies=[{"date": odd_day, "y": 900.0, "expected": 100.0, "score": 9.0}])),
        a_part("Young", history=a_history(3)),
        a_part("Past is gone", history=None),
        a_part("Stale", report=a_report(stale=True)),
        a_part("Kept", "failed", error={"message": "The database did not answer.", "next_step": "Try again later."}),
        a_part("Unchanged", "unchanged"),
        a_part(HOSTILE, report=a_report(
            reason=HOSTILE, level="single", reason_note=note("nothing_usable", method=HOSTILE).as_dict(),
            notes=[note("no_such_candidate", name=HOSTILE).as_dict(), {"code": "later", "values": {}, "text": HOSTILE}],
            currency=HOSTILE, time_zone=HOSTILE,
            scores=[a_score(HOSTILE, "failed", HOSTILE)], weights={HOSTILE: 0.5, "naive": 0.5},
            refused_settings=[{"field": HOSTILE, "value": HOSTILE, "reason": HOSTILE}],
        ), history=a_history(known=hostile_day)),
        an_empty_part("Nothing yet", "no_sales"),
        an_empty_part("Nada aún", "no_sales", language="es"),
        an_empty_part("Broken", "failed", error={"message": HOSTILE, "next_step": HOSTILE}),
        an_empty_part("Waiting", "pending"),
    ]  # fmt: skip
