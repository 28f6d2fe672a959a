"""`models` (versions, roll-back) and `runs` (the ledger)."""

from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from app.cli.output import JsonOption, emit, examples, plain, table, waiting
from app.cli.session import TenantArgument, open_database, session_of
from app.db.store import Row, SystemStore, TenantStore
from app.errors import UnknownModel, UnknownRun
from app.services.tenants import TenantDirectory

MODEL_TYPE = "sales_forecast"
FAILED = 1
COUNTED_STATES = ("done", "failed", "skipped", "pending", "running")

models = typer.Typer(
    no_args_is_help=True, help="Model versions: list them, go back to an earlier one, train the global one."
)
runs = typer.Typer(no_args_is_help=True, help="What was run, for which tenants, and what became of it.")


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.add_typer(models, name="models")
    app.add_typer(runs, name="runs")


@models.command("list", epilog=examples("tenantcast models list bakery", "tenantcast models list bakery --json"))
def list_models(ctx: typer.Context, tenant: TenantArgument, as_json: JsonOption = False) -> None:
    """All model versions of a tenant, newest first; the production one is in use."""
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        versions = TenantStore(gateway, found.tenant_id).list_models()

    def show(console: Console) -> None:
        rows = [
            (
                row["model_version"],
                row["stage"],
                str(row["last_trained"] or "")[:16].replace("T", " "),
                _share(row["accuracy"]),
                f"{(row['bytes'] or 0) / 1000:,.0f} kB",
            )
            for row in versions
        ]
        if not rows:
            console.print(plain(f"{found.name or found.tenant_id} has no model yet: `tenantcast run` makes one."))
            return
        columns = ("version", "stage", "trained (UTC)", "accuracy", "size")
        console.print(
            table(f"Models of {found.name or found.tenant_id}", columns, rows, right=columns[3:], whole=columns[:3])
        )

    emit(as_json, {"tenant_id": str(found.tenant_id), "name": found.name, "models": versions}, show)


@models.command("activate", epilog=examples("tenantcast models activate bakery 20261120.17"))
def activate(
    ctx: typer.Context,
    tenant: TenantArgument,
    version: Annotated[str, typer.Argument(help="As `tenantcast models list` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """Make an earlier version the production one again. The published forecast stays; the next run makes a new one."""
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        answer = TenantStore(gateway, found.tenant_id).activate_model(MODEL_TYPE, version)
    if answer["outcome"] != "active":
        raise UnknownModel(
            f"{found.name or found.tenant_id} has no model version {version!r}.",
            next_step=f"`tenantcast models list {found.tenant_id}` lists them.",
            tenant_id=str(found.tenant_id),
        )
    document = {"tenant_id": str(found.tenant_id), "model_version": version, "previous": answer["previous"]}
    emit(as_json, document, lambda console: console.print(f"{version} is in production (was {answer['previous']})."))


@models.command(
    "train-global", epilog=examples("tenantcast models train-global", "tenantcast models train-global --json")
)
def train_global(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Train the global model now, over the tenants that agreed (see ML_GLOBAL_MODEL); workers do so every week.

    The next run of a tenant that agreed uses it. Ends with 1 when it failed.
    """
    from app.services.global_training import train_now
    from app.services.ml.artifact import load_keys

    session = session_of(ctx)
    with open_database(ctx) as gateway, waiting("Training …"):
        report = train_now(gateway, session.settings, session.ml_settings, load_keys(session.settings))

    def show(console: Console) -> None:
        version = f" Version {report['model_version']}, through {report['as_of']}." if report["model_version"] else ""
        console.print(plain(f"{report['status'].capitalize()}: {report['reason']}{version}"))

    emit(as_json, report, show)
    if report["status"] in ("failed", "lost"):
        raise typer.Exit(FAILED)


@runs.command("list", epilog=examples("tenantcast runs list", "tenantcast runs list --limit 5 --json"))
def list_runs(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """The newest runs, with how many tenants are done, failed, left out or still open."""
    with open_database(ctx) as gateway:
        found = SystemStore(gateway).list_runs(limit)

    def show(console: Console) -> None:
        rows = [
            (
                run["run_id"],
                run["kind"],
                _minute(run["created_at"]),
                _minute(run["finished_at"])[-5:] or "open",
                _counts(run),
            )
            for run in found
        ]
        columns = ("run", "kind", "started (UTC)", "until", "tenants")
        console.print(table("Runs", columns, rows, whole=columns[:4]))

    emit(as_json, {"runs": found}, show)


@runs.command("show", epilog=examples("tenantcast runs show", "tenantcast runs show 5e1c… --json"))
def show_run(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="[ID]", help="A run's id; without one, the newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """One run, tenant by tenant: state, attempts, what was chosen, how long it took, and the next step on failures."""
    run_id = parse_run_id(run)
    with open_database(ctx) as gateway:
        shown = SystemStore(gateway).show_run(run_id)
    if not shown:
        raise UnknownRun(
            f"There is no run {run}." if run else "Nothing was run yet.",
            next_step="`tenantcast runs list` shows what there is; `tenantcast retrain` starts one.",
        )
    emit(as_json, shown, lambda console: _print_run(console, shown))


def parse_run_id(text: str | None) -> UUID | None:
    """The id of a run; None stays None. Raises UnknownRun for what is no UUID."""
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise UnknownRun(f"{text[:40]!r} is no run's id.", next_step="`tenantcast runs list` shows the ids.") from None


def _print_run(console: Console, shown: Row) -> None:
    run = shown["run"]
    rows = [
        (
            item["name"] or item["tenant_id"],
            item["state"],
            item["attempt"],
            (item["report"] or {}).get("chosen", ""),
            "" if item["seconds"] is None else f"{item['seconds']:.1f}",
            _why(item),
        )
        for item in shown["items"]
    ]
    title = f"Run {run['run_id']} ({run['kind']}), started {_minute(run['created_at'])} UTC"
    columns = ("tenant", "state", "attempt", "chosen", "seconds", "reason and next step")
    console.print(table(title, columns, rows, right=("attempt", "seconds")))


def _why(item: Row) -> str:
    """The error with its next step where there is one, else the reason that was noted."""
    error: dict[str, Any] = item["error"] or {}
    if not error:
        return str(item["reason"] or "")
    lost_in = ", ".join(f"{lost['candidate']} ({lost['seconds']} s)" for lost in error.get("lost_in") or [])
    next_step = error.get("next_step")
    return (
        f"{error.get('message', '')}"
        + (f"\nLost while computing {lost_in}." if lost_in else "")
        + (f"\nNext: {next_step}" if next_step else "")
    )


def _counts(run: Row) -> str:
    counts = run["counts"] or {}
    return ", ".join(f"{counts[state]} {state}" for state in COUNTED_STATES if counts.get(state))


def _minute(instant: str | None) -> str:
    return (instant or "")[:16].replace("T", " ")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
