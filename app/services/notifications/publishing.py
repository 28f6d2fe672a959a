"""What a publish is worth saying: written in the transaction that publishes, so neither is there without the other."""

from datetime import date, timedelta
from typing import Any

from app.config.ml_settings import MLSettings
from app.services.ml.results import TrainingReport
from app.services.notifications.digest import amounts, difference
from app.services.notifications.facts import Expected
from app.services.notifications.notice import Notice, iso_week
from app.services.notifications.texts import say
from app.services.report.formats import Locale, locale_of

NEWS_DAYS = 3  # an unusual day that is longer ago was told of before, or is no news


def publish_notices(report: TrainingReport, config: MLSettings) -> list[dict[str, Any]]:
    """Outbox rows of a report that is about to be published: forecast ready, unusual days, forecast too far off.

    Rules that the tenant has switched off are left out where the rows are written. ``config`` is what is in force for
    the tenant; its ``error_alert_mape`` is in percent, as the report's ``mape``.
    """
    if report["as_of"] is None or not report["forecast"]:
        return []
    as_of = date.fromisoformat(report["as_of"])
    typical = sum(day["yhat"] for day in report["forecast"]) / len(report["forecast"])
    locale = locale_of(report, typical=typical)
    notices = [*_unusual_days(report, locale, as_of), *_too_far_off(report, locale, as_of, config.error_alert_mape)]
    if not report["stale"]:  # a forecast that starts after the last sale, long ago, is no good news
        notices.insert(0, _ready(report, locale, as_of))
    return [notice.as_row() for notice in notices]


def _ready(report: TrainingReport, locale: Locale, as_of: date) -> Notice:
    first = report["forecast"][0]
    expected = Expected(date.fromisoformat(first["date"]), first["yhat"], first["yhat_lower"], first["yhat_upper"])
    lines = [say(locale.language, "forecast_ready.body", day=locale.day(expected.day), **amounts(locale, expected))]
    changes = report["changes"]
    words = difference(locale, changes["total"], changes["previous_total"]) if changes and changes["days"] else None
    if words:
        lines.append(say(locale.language, "forecast_ready.change", **words))
    days = min(len(report["forecast"]), 28)
    return Notice(
        "forecast_ready",
        "",
        as_of.isoformat(),
        say(locale.language, "forecast_ready.title", total=locale.money(report["total_28"]), n=str(days)),
        "\n".join(lines),
        {"as_of": as_of.isoformat(), "days": days, "total": report["total_28"], "chosen": report["chosen"]},
    )


def _unusual_days(report: TrainingReport, locale: Locale, as_of: date) -> list[Notice]:
    recent = [
        found for found in report["anomalies"] if date.fromisoformat(found["date"]) > as_of - timedelta(days=NEWS_DAYS)
    ]
    return [
        Notice(
            "anomaly",
            found["date"],
            "",
            say(locale.language, "anomaly.title", day=locale.day(date.fromisoformat(found["date"]))),
            say(
                locale.language,
                "anomaly.body",
                y=locale.money(found["y"]),
                expected=locale.money(max(found["expected"], 0.0)),
            ),
            dict(found),
        )
        for found in recent
    ]


def _too_far_off(report: TrainingReport, locale: Locale, as_of: date, limit: float) -> list[Notice]:
    error = report["metrics"].get("mape")
    if error is None or error <= limit:
        return []
    words = {"error": locale.percent(error / 100), "limit": locale.percent(limit / 100)}
    return [
        Notice(
            "high_error",
            "",
            iso_week(as_of),
            say(locale.language, "high_error.title", error=words["error"]),
            say(locale.language, "high_error.body", limit=words["limit"]),
            {"mape": error, "limit": limit, "as_of": as_of.isoformat()},
        )
    ]
