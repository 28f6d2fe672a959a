"""`settings`: a tenant's own values for the settings that decide its forecast."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from app.cli.output import JsonOption, emit, examples, table
from app.cli.session import TenantArgument, open_database, session_of
from app.db.store import TenantStore
from app.errors import InvalidOverride
from app.services.tenants import Tenant, TenantDirectory

if TYPE_CHECKING:
    from app.config.overrides import Refusal
    from app.db.gateway import Gateway

LISTS = ("model_candidates", "sarimax_order", "sarimax_seasonal")
PREFIX = "ML_"

settings = typer.Typer(no_args_is_help=True, help="A tenant's own settings: defaults < environment < these.")


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.add_typer(settings, name="settings")


@settings.command("show", epilog=examples("tenantcast settings show bakery", "tenantcast settings show bakery --json"))
def show_settings(ctx: typer.Context, tenant: TenantArgument, as_json: JsonOption = False) -> None:
    """What is in force for a tenant, which of it is its own, and what was refused and why."""
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        own = _read_own(gateway, found)
    _emit(ctx, found, own, as_json=as_json)


@settings.command(
    "set",
    epilog=examples(
        "tenantcast settings set bakery horizon_days=14 holidays_country=DE-BY",
        "tenantcast settings set bakery model_candidates=snaive,sarimax select_best=true",
    ),
)
def set_settings(
    ctx: typer.Context,
    tenant: TenantArgument,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="Names as `settings show` lists them.")],
    as_json: JsonOption = False,
) -> None:
    """Set a tenant's own values. One that cannot be used is refused with the reason, and then none is written."""
    wanted = dict(parse_value(text) for text in values)
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        before = _read_own(gateway, found)
        own = {**before, **wanted}
        _refuse_new_trouble(ctx, found, before, own, set(wanted))
        TenantStore(gateway, found.tenant_id).write_settings(own)
    _emit(ctx, found, own, as_json=as_json)


@settings.command(
    "unset", epilog=examples("tenantcast settings unset bakery horizon_days", "tenantcast settings unset bakery --all")
)
def unset_settings(
    ctx: typer.Context,
    tenant: TenantArgument,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Which ones.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a tenant's own values away: the environment's and the defaults hold again."""
    if bool(names) == everything:
        raise typer.BadParameter("Give the names to unset, or --all.", ctx=ctx)
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        own = {} if everything else _read_own(gateway, found)
        absent = [name for name in names or [] if own.pop(field_name(name), None) is None]
        if absent:
            raise InvalidOverride(
                f"{found.name or found.tenant_id} has no {', '.join(absent)} of its own.",
                next_step=f"Nothing was written. `tenantcast settings show {found.tenant_id}` lists what it has.",
            )
        TenantStore(gateway, found.tenant_id).write_settings(own or None)
    _emit(ctx, found, own, as_json=as_json)


def parse_value(text: str) -> tuple[str, Any]:
    """``horizon_days=14`` as name and value: JSON where it is JSON, else text; lists also as ``a,b,c``."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidOverride(f"{text[:40]!r} is no NAME=VALUE.", next_step="For instance horizon_days=14.")
    name = field_name(name)
    if name in LISTS and not value.lstrip().startswith("["):
        return name, [_json_or_text(part.strip()) for part in value.split(",")]
    return name, _json_or_text(value.strip())


def field_name(name: str) -> str:
    """``ML_HORIZON_DAYS`` and ``horizon_days`` are the same setting."""
    return name.strip().removeprefix(PREFIX).lower()


def _refuse_new_trouble(
    ctx: typer.Context, tenant: Tenant, before: dict[str, Any], own: dict[str, Any], wanted: set[str]
) -> None:
    """Raise InvalidOverride when a wanted value is refused, or makes one refused that was in force before."""
    known = {refusal.field for refusal in _apply(ctx, before)[1]}
    refusals = [one for one in _apply(ctx, own)[1] if one.field in wanted or one.field not in known]
    if refusals:
        raise InvalidOverride(
            "; ".join(f"{one.field}={one.value}: {one.reason}" for one in refusals) + ".",
            next_step=f"Nothing was written. `tenantcast settings show {tenant.tenant_id}` lists what there is.",
            tenant_id=str(tenant.tenant_id),
        )


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_own(gateway: "Gateway", tenant: Tenant) -> dict[str, Any]:
    read = TenantStore(gateway, tenant.tenant_id).read_input(None, 1, 1)
    stored = read["settings"]
    return {field_name(name): value for name, value in stored.items()} if isinstance(stored, dict) else {}


def _apply(ctx: typer.Context, own: dict[str, Any]) -> tuple[dict[str, Any], list["Refusal"]]:
    from app.config.overrides import apply_overrides

    effective, refusals = apply_overrides(session_of(ctx).ml_settings, own)
    return effective.model_dump(mode="json"), refusals


def _emit(ctx: typer.Context, tenant: Tenant, own: dict[str, Any], *, as_json: bool) -> None:
    effective, refusals = _apply(ctx, own)
    refused = [{"field": one.field, "value": one.value, "reason": one.reason} for one in refusals]
    reasons = {one["field"]: one["reason"] for one in refused}

    def show(console: Console) -> None:
        operators = session_of(ctx).ml_settings.model_fields_set
        rows = [(name, json.dumps(value), _origin(name, own, reasons, operators)) for name, value in effective.items()]
        rows += [(name, "", f"refused: {reason}") for name, reason in reasons.items() if name not in effective]
        console.print(table(f"Settings of {tenant.name or tenant.tenant_id}", ("setting", "in force", "from"), rows))

    document = {"tenant_id": str(tenant.tenant_id), "own": own, "refused": refused, "effective": effective}
    emit(as_json, document, show)


def _origin(name: str, own: dict[str, Any], reasons: dict[str, str], operators: set[str]) -> str:
    if name in reasons:
        return f"its own {json.dumps(own.get(name))} was refused: {reasons[name]}"
    if name in own:
        return "its own"
    return "the environment" if name in operators else "the default"
