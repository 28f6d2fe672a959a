"""What one run says about one tenant, put together from the input, the engine's result and the forecast before."""

import math
from dataclasses import asdict
from datetime import date
from typing import Any

from app.config.ml_settings import MLSettings
from app.config.overrides import Refusal
from app.errors import TenantcastError
from app.services.ml.explanation import sentence, sums
from app.services.ml.intake import TenantInput
from app.services.ml.results import (
    Anomaly,
    CandidateScore,
    EngineResult,
    ForecastDay,
    ForecastSummary,
    ForecastTotal,
    TrainingReport,
)
from app.services.ml.series import SEASON
from app.services.ml.totals import Total, total_of
from app.services.report.formats import LANGUAGES, locale_of
from app.services.report.words import say


def empty_report(tenant_id: str, run_id: str | None, settings: MLSettings) -> TrainingReport:
    """A report that knows only whom it is about; every part is filled in as it becomes known."""
    return TrainingReport(
        tenant_id=tenant_id,
        tenant_name="",
        run_id=run_id,
        status="failed",
        as_of=None,
        stale=False,
        currency="",
        language="",
        country="",
        time_zone="",
        horizon_days=settings.horizon_days,
        interval_level=settings.interval_level,
        forecast=[],
        total_7=0.0,
        total_28=0.0,
        totals={},
        explanation=None,
        anomalies=[],
        chosen="",
        reason="",
        reason_note=None,
        level="",
        weights={},
        metrics={},
        scores=[],
        confidence_score=0.0,
        closed_weekdays=[],
        notes=[],
        refused_settings=[],
        quality={},
        changes=None,
        input_hash=None,
        output_hash=None,
        model_version=None,
        reanchored=False,
        refit_reason="",
        seconds={},
        error=None,
    )


def add_input(report: TrainingReport, known: TenantInput, settings: MLSettings, refused: list[Refusal]) -> None:
    """Who the tenant is, what its sales look like, which of its settings were refused."""
    tenant = known.tenant
    report["tenant_name"] = tenant.name
    report["currency"] = tenant.currency
    report["language"] = tenant.language
    report["country"] = known.calendar.country
    report["time_zone"] = tenant.time_zone
    report["as_of"] = known.as_of.isoformat() if known.series is not None else None
    report["stale"] = known.stale
    report["horizon_days"] = settings.horizon_days
    report["interval_level"] = settings.interval_level
    report["quality"] = dict(known.quality)
    report["refused_settings"] = [refusal.as_dict() for refusal in refused]
    report["notes"] = [note.as_dict() for note in known.notes]


def add_result(report: TrainingReport, result: EngineResult, settings: MLSettings) -> None:
    """The forecast with its band, totals, anomalies, and why it is what it is."""
    days = forecast_days(result, settings.interval_level)
    report["forecast"] = days
    report["total_7"] = total_of(result.means[:7])
    report["total_28"] = total_of(result.means[:28])
    report["totals"] = {f"total_{one.days}": _total(one, settings.interval_level) for one in result.totals}
    report["explanation"] = _explanation(report, result)
    report["anomalies"] = [_anomaly(anomaly) for anomaly in result.anomalies]
    report["chosen"] = result.chosen
    report["reason"] = str(result.reason)
    report["reason_note"] = result.reason.as_dict()
    report["level"] = result.level
    report["weights"] = dict(result.weights)
    report["metrics"] = finite(result.metrics)
    report["scores"] = [_score(score) for score in result.scores]
    report["confidence_score"] = result.confidence_score
    report["closed_weekdays"] = list(result.closed_weekdays)
    report["notes"] = [*report["notes"], *(note.as_dict() for note in result.notes)]
    report["seconds"] = {**report["seconds"], **result.seconds}


def forecast_days(result: EngineResult, level: float) -> list[ForecastDay]:
    """The forecast with the band of ``level``, one entry per day, oldest first."""
    lower, upper = result.forecast.bands[level]
    first = result.forecast.start.toordinal()
    return [
        ForecastDay(
            date=date.fromordinal(first + step).isoformat(),
            yhat=float(result.forecast.yhat[step]),
            yhat_lower=float(lower[step]),
            yhat_upper=float(upper[step]),
            parts=result.parts.of_day(step),
        )
        for step in range(result.forecast.yhat.size)
    ]


def add_error(report: TrainingReport, error: TenantcastError) -> None:
    """Why there is no new forecast. Whatever was published before stands."""
    report["status"] = "lost" if error.kind == "lost" else "failed"
    report["reason"] = error.message
    report["error"] = error.as_dict()


def changes_since(previous: dict[str, Any], days: list[ForecastDay]) -> dict[str, Any] | None:
    """How the sum of the days that both forecasts cover has changed; None without a forecast before.

    ``previous`` is what `ml_read_forecast` gives. Totals are in the tenant's currency.
    """
    current = previous.get("current")
    if not current:
        return None
    before = {
        row["prediction_date"]: float(row["predicted_values"]["yhat"])
        for row in previous["predictions"]
        if row["prediction_type"] == "sales_forecast"
    }
    shared = [day for day in days if day["date"] in before]
    return {
        "previous_as_of": current["as_of"],
        "previous_run_id": current["run_id"],
        "days": len(shared),
        "previous_total": round(math.fsum(before[day["date"]] for day in shared), 2),
        "total": total(shared),
        "chosen_before": (previous.get("report") or {}).get("chosen", ""),
    }


def total(days: list[ForecastDay]) -> float:
    """Sum of the point forecasts, to the cent."""
    return round(math.fsum(day["yhat"] for day in days), 2)


def _total(one: Total, level: float) -> ForecastTotal:
    lower, upper = one.bands[level]
    bands = {repr(each): list(band) for each, band in one.bands.items()}
    return ForecastTotal(yhat=one.yhat, yhat_lower=lower, yhat_upper=upper, bands=bands)


def _explanation(report: TrainingReport, result: EngineResult) -> ForecastSummary:
    """The parts of the first week and the sentence about them, with amounts as the tenant writes them."""
    n_days, week = min(SEASON, len(report["forecast"])), report["total_7"]
    parts = sums(result.parts, n_days, week)
    said = {}
    for language in LANGUAGES:
        locale = locale_of(report | {"language": language}, typical=week / n_days)
        said[language] = sentence(say(language, "next_n", n=n_days), week, parts, n_days, language, locale.money)
    return ForecastSummary(days=n_days, total=week, parts=parts, en=said["en"], es=said["es"])


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics that are defined for this series: NaN is not JSON."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _score(score: CandidateScore) -> dict[str, Any]:
    return {**asdict(score), "metrics": finite(score.metrics)}


def _anomaly(anomaly: Anomaly) -> dict[str, Any]:
    return {
        "date": anomaly.day.isoformat(),
        "y": anomaly.y,
        "expected": anomaly.expected,
        "score": anomaly.score,
    }
