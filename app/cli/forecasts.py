"""`run`, `retrain` and `predict`: make forecasts, and look at the published one."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from app.cli.output import JsonOption, emit, examples, money, plain, progress_bar, table, waiting
from app.cli.session import TenantArgument, open_database, session_of
from app.errors import Transient
from app.services.tenants import TenantDirectory

if TYPE_CHECKING:
    from app.services.ml.results import ForecastTotal, TrainingReport
    from app.services.retrain import RunSummary, TenantOutcome
    from app.services.serving import ServedForecast

AS_OF_FORMAT = ["%Y-%m-%d"]
AsOfOption = Annotated[
    datetime | None,
    typer.Option(formats=AS_OF_FORMAT, metavar="DATE", help="Use sales through this day only (a replay)."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Compute again although nothing changed.")]
FAILED = 1
RECENT_ANOMALIES = 5
SHOWN_DAYS = 14
SHOWN_TENANTS = 50
NEED_SOMEBODY = ("failed", "lost")
COUNTED: tuple[Literal["published", "unchanged", "no_sales_yet", "failed", "other"], ...] = (
    "published", "unchanged", "no_sales_yet", "failed", "other",
)  # fmt: skip
# A tenant without sales is no failure, and an older publish is refused for the better one that stands.
EXIT_CODE_OF_STATUS = {"failed": FAILED, "lost": Transient.exit_code}


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command("run", epilog=examples("tenantcast run bakery", "tenantcast run bakery --force --json"))(run)
    app.command(
        "retrain",
        epilog=examples("tenantcast retrain --jobs 2", "tenantcast retrain --tenant bakery --tenant bar --force"),
    )(retrain)
    app.command(
        "predict",
        epilog=examples(
            "tenantcast predict bakery",
            "tenantcast predict bakery --explain",
            "tenantcast predict bakery --days 28 --json",
        ),
    )(predict)


def run(
    ctx: typer.Context,
    tenant: TenantArgument,
    force: ForceOption = False,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast one tenant now and publish it; nothing is computed when nothing changed (see --force)."""
    from app.services.ml.pipeline import train_and_predict_sales
    from app.services.serving import current_forecast

    session = session_of(ctx)
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        with waiting(f"Forecasting {plain(found.name)} …"):
            report = train_and_predict_sales(
                found.tenant_id,
                gateway=gateway,
                settings=session.ml_settings,
                environment=session.settings,
                force=force,
                as_of=_day(as_of),
            )
        shown = current_forecast(gateway, found) if report["status"] in ("published", "unchanged") else None

    def show(console: Console) -> None:
        if shown is not None:
            print_forecast(console, shown, SHOWN_DAYS)
        console.print(plain(outcome_in_words(report)))

    emit(as_json, report, show)
    if report["status"] in EXIT_CODE_OF_STATUS:
        raise typer.Exit(EXIT_CODE_OF_STATUS[report["status"]])


def retrain(
    ctx: typer.Context,
    *,
    tenant: Annotated[list[str] | None, typer.Option(metavar="TENANT", help="Only this one. Repeat for more.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    force: ForceOption = False,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast all tenants (or the given ones) and publish; a tenant whose input is unchanged is left as it is.

    Ends with 1 when a tenant failed: every other one is forecast all the same. Killed in the middle? Run it again.
    """
    from app.services.retrain import retrain as retrain_all

    session = session_of(ctx)
    chosen = None
    if tenant:
        with open_database(ctx) as gateway:
            directory = TenantDirectory.read(gateway)
        chosen = [directory.find(text).tenant_id for text in tenant]
    with progress_bar("Forecasting") as advance:
        summary = retrain_all(
            session.settings,
            session.ml_settings,
            tenants=chosen,
            jobs=jobs,
            force=force,
            as_of=_day(as_of),
            progress=advance,
        )
    emit(as_json, summary, lambda console: print_summary(console, summary))
    if summary["failed"]:
        raise typer.Exit(FAILED)


def predict(
    ctx: typer.Context,
    tenant: TenantArgument,
    days: Annotated[int, typer.Option(min=1, max=365, help="How many days to show.")] = SHOWN_DAYS,
    explain: Annotated[bool, typer.Option("--explain", help="What each day's forecast consists of.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The published forecast of a tenant: day by day, totals, how sure it is, unusual days lately."""
    from app.services.serving import current_forecast

    with open_database(ctx) as gateway:
        forecast = current_forecast(gateway, TenantDirectory.read(gateway).find(tenant))

    def show(console: Console) -> None:
        print_forecast(console, forecast, days)
        if explain:
            print_parts(console, forecast, days)

    emit(as_json, forecast, show)


def print_forecast(console: Console, forecast: "ServedForecast", days: int) -> None:
    """One table and a few sentences that a shop owner understands."""
    level = forecast["interval_level"]
    band = f"likely range ({level:.0%})" if level else "likely range"
    rows = [
        (day["weekday"], day["date"], money(day["yhat"]), f"{money(day['yhat_lower'])} - {money(day['yhat_upper'])}")
        for day in forecast["days"][:days]
    ]
    currency = f" in {forecast['currency']}" if forecast["currency"] else ""
    title = f"{forecast['name'] or forecast['tenant_id']}: daily sales{currency}"
    console.print(table(title, ("", "date", "forecast", band), rows, right=("forecast", band), whole=("", "date")))
    for line in _sentences(forecast):
        console.print(plain(line))


def print_parts(console: Console, forecast: "ServedForecast", days: int) -> None:
    """What each day consists of, and the sentence about the first week."""
    from app.services.ml.explanation import PARTS

    explained = [(day, day["parts"]) for day in forecast["days"][:days] if day["parts"]]
    if not explained or forecast["explanation"] is None:
        console.print("This forecast was made by an earlier version, which did not say what it consists of.")
        return
    rows = [
        (day["weekday"], day["date"], *(money(parts[name]) for name in PARTS), money(day["yhat"]))
        for day, parts in explained
    ]
    columns = ("", "date", *PARTS, "forecast")
    console.print(table("What the forecast consists of", columns, rows, right=columns[2:], whole=("", "date")))
    console.print(plain(forecast["explanation"]["en"]))


def _sentences(forecast: "ServedForecast") -> list[str]:
    horizon = len(forecast["days"])
    totals = [
        f"next {n} days {money(total)}{_span(forecast['totals'].get(f'total_{n}'))}"
        for n, total in ((7, forecast["total_7"]), (28, forecast["total_28"]))
        if horizon >= n
    ]
    lines = [f"In all: {', '.join(totals)}."] if totals else []
    lines.append(
        f"How sure: {forecast['confidence']} ({round(100 * forecast['confidence_score'])} of 100). {forecast['reason']}"
    )
    unusual = forecast["anomalies"][-RECENT_ANOMALIES:]
    lines.append(
        "Unusual days lately: "
        + (", ".join(f"{one['date']} ({money(one['y'])})" for one in unusual) if unusual else "none")
        + "."
    )
    stopped = "The sales stopped then; bring newer ones in." if forecast["stale"] else ""
    return [*lines, *forecast["notes"], f"Made from sales through {forecast['as_of']}. {stopped}".rstrip()]


def _span(total: "ForecastTotal | None") -> str:
    return f" ({money(total['yhat_lower'])} - {money(total['yhat_upper'])})" if total else ""


def _day(as_of: datetime | None) -> date | None:
    return None if as_of is None else as_of.date()


def outcome_in_words(report: "TrainingReport") -> str:
    """What became of one tenant's run, and the next step where there is one."""
    error = report["error"] or {}
    sentences = {
        "published": f"Published; model {report['model_version']}.",
        "unchanged": "Nothing changed since the published forecast; --force computes it again.",
        "no_sales_yet": "No sales yet: there is nothing to forecast from. Import some, then run it again.",
        "older": "Not published: a forecast from newer sales stands.",
        "lost": "Not published: another worker has this tenant now. Look again with `tenantcast predict`.",
        "failed": f"Failed: {error.get('message', '')}",
    }
    next_step = f" Next: {error['next_step']}" if error.get("next_step") else ""
    return sentences[report["status"]] + next_step


def print_summary(console: Console, summary: "RunSummary") -> None:
    """Counts, then tenants: those that need somebody first, and no more than a person reads."""
    tenants = sorted(summary["tenants"], key=lambda one: (one["status"] not in NEED_SOMEBODY, one["name"]))
    rows = [
        (
            one["name"] or one["tenant_id"],
            one["status"].replace("_", " "),
            _amount(one["total_7"], one["currency"]),
            _amount(one["total_28"], one["currency"]),
            one["chosen"],
            _why(one),
        )
        for one in tenants[:SHOWN_TENANTS]
    ]
    columns = ("tenant", "status", "next 7 days", "next 28 days", "chosen", "why")
    console.print(table(f"Run {summary['run_id']}", columns, rows, right=("next 7 days", "next 28 days")))
    if len(tenants) > SHOWN_TENANTS:
        console.print(f"… and {len(tenants) - SHOWN_TENANTS} more: tenantcast runs show {summary['run_id']}")
    counts = [f"{summary[status]} {status.replace('_', ' ')}" for status in COUNTED if summary[status]]
    console.print(f"{summary['total']} tenants in {summary['seconds']:.0f} s: {', '.join(counts) or 'nothing to do'}.")
    console.print("Look at one with `tenantcast predict TENANT`, at all with `tenantcast report`.")


def _amount(total: float | None, currency: str) -> str:
    return "" if total is None else f"{money(total)} {currency}".rstrip()


def _why(one: "TenantOutcome") -> str:
    """The reason, with the next step where there is one; "unchanged" says all there is to say."""
    if one["next_step"]:
        return f"{one['reason']}\nNext: {one['next_step']}"
    return "" if one["status"] == "unchanged" else one["reason"]
