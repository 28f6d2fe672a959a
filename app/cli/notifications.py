"""`notifications`: what a tenant was told, which rules it has on, and where its messages go."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from app.cli.output import JsonOption, emit, examples, plain, table
from app.cli.session import TenantArgument, open_database, session_of
from app.db.store import Row, TenantStore
from app.errors import InvalidOverride
from app.services.tenants import Tenant, TenantDirectory

if TYPE_CHECKING:
    from app.config.settings import Settings

FROM_STDIN = "-"

notifications = typer.Typer(no_args_is_help=True, help="Messages to a tenant: what was said, by which rules, where to.")


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.add_typer(notifications, name="notifications")


@notifications.command(
    "list",
    epilog=examples("tenantcast notifications list bakery", "tenantcast notifications list bakery --limit 5 --json"),
)
def list_notifications(
    ctx: typer.Context,
    tenant: TenantArgument,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """The newest messages of a tenant, and what became of each outside the app."""
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        messages = TenantStore(gateway, found.tenant_id).list_notifications(limit)

    def show(console: Console) -> None:
        if not messages:
            console.print(plain(f"{found.name or found.tenant_id} was told nothing yet."))
            return
        rows = [
            (message["created_at"][:16].replace("T", " "), message["kind"], message["title"], _fate(message))
            for message in messages
        ]
        columns = ("written (UTC)", "rule", "message", "outside the app")
        console.print(table(f"Messages of {found.name or found.tenant_id}", columns, rows, whole=columns[:2]))

    document = {"tenant_id": str(found.tenant_id), "name": found.name, "notifications": messages}
    emit(as_json, document, show)


@notifications.command(
    "config",
    epilog=examples(
        "tenantcast notifications config bakery",
        "tenantcast notifications config bakery --rule sales_drop --set drop_percent=40",
        "tenantcast notifications config bakery --rule forecast_ready --off",
        "tenantcast notifications config bakery --channel email --address shop@example.com",
        "tenantcast notifications config bakery --rule '*' --channel email --on",
        "echo https://example.com/hook | tenantcast notifications config bakery --channel webhook --address -",
    ),
)
def config(
    ctx: typer.Context,
    tenant: TenantArgument,
    rule: Annotated[str | None, typer.Option(help="A rule; '*' is every rule, on a channel outside the app.")] = None,
    channel: Annotated[str, typer.Option(help="in_app, email, webhook or chat.")] = "in_app",
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="The rule speaks on the channel, or not.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="What the rule is judged by.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Where the channel leads; '-' reads it from stdin; '' removes it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show, or with options change, which rules a tenant has on, their numbers, and where messages go."""
    settings = session_of(ctx).settings
    if rule is None and (enabled is not None or values):
        raise typer.BadParameter("--on, --off and --set need --rule.", ctx=ctx)
    wanted = dict(_number(text) for text in values or [])
    target = sys.stdin.readline().strip() if address == FROM_STDIN else address
    with open_database(ctx) as gateway:
        found = TenantDirectory.read(gateway).find(tenant)
        store = TenantStore(gateway, found.tenant_id)
        if target is not None:
            _write_address(store, channel, target, settings)
        if rule is not None:
            _write_rule(store, rule, channel, enabled, wanted)
        stored = store.read_notification_config()
    _emit(found, stored, as_json=as_json)


def _write_address(store: TenantStore, channel: str, address: str, settings: "Settings") -> None:
    from app.services.notifications.addresses import check_address
    from app.services.notifications.config import OUTSIDE

    if channel not in OUTSIDE:
        raise InvalidOverride(
            f"Channel {channel[:40]!r} has no address.", next_step=f"--channel is one of {', '.join(OUTSIDE)}."
        )
    if address:
        check_address(channel, address, allow_private=settings.notification_allow_private)
    store.write_notification_address(channel, address or None)


def _write_rule(store: TenantStore, rule: str, channel: str, enabled: bool | None, wanted: dict[str, Any]) -> None:
    from app.services.notifications.config import require_rule

    before: Row = next(
        (row for row in store.read_notification_config()["rules"] if row["rule"] == rule and row["channel"] == channel),
        {"enabled": True, "settings": {}},
    )
    require_rule(rule, channel, wanted)
    store.write_notification_config(
        rule,
        channel,
        enabled=bool(before["enabled"]) if enabled is None else enabled,
        settings={**before["settings"], **wanted},
    )


def _number(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        problem = "is no NAME=NUMBER" if not equals else "holds no number"
        raise InvalidOverride(f"{text[:40]!r} {problem}.", next_step="For instance drop_percent=40.") from None


def _emit(tenant: Tenant, stored: Row, *, as_json: bool) -> None:
    from app.services.notifications.addresses import redact
    from app.services.notifications.config import IN_APP, NUMBERS, RuleBook
    from app.services.notifications.notice import KINDS

    book = RuleBook.from_rows(stored["rules"])
    channels = {row["channel"]: redact(row["channel"], row["address"]) for row in stored["channels"]}
    outside = {kind: _outside(kind, stored["rules"], channels) for kind in KINDS}
    rules: dict[str, Row] = {
        kind: {
            "on": book.is_on(kind),
            "settings": {name: book.number(kind, name) for name in NUMBERS.get(kind, {})},
            "channels": [IN_APP, *outside[kind]] if book.is_on(kind) else [],
        }
        for kind in KINDS
    }

    def show(console: Console) -> None:
        rows = [
            (
                kind,
                "on" if one["on"] else "off",
                ", ".join(f"{name}={value:g}" for name, value in one["settings"].items()),
                ", ".join(one["channels"]),
            )
            for kind, one in rules.items()
        ]
        columns = ("rule", "", "judged by", "goes to")
        console.print(table(f"Rules of {tenant.name or tenant.tenant_id}", columns, rows, whole=columns[:2]))
        for channel, address in channels.items():
            console.print(plain(f"{channel}: {address}"))

    document = {"tenant_id": str(tenant.tenant_id), "name": tenant.name, "rules": rules, "addresses": channels}
    emit(as_json, document, show)


def _outside(kind: str, rows: list[Row], channels: dict[str, str]) -> list[str]:
    """The channels outside the app that a rule goes to, as the database decides it: its own row wins over '*'."""
    found = []
    for channel in channels:
        by_rule = {row["rule"]: bool(row["enabled"]) for row in rows if row["channel"] == channel}
        if by_rule.get(kind, by_rule.get("*", False)):
            found.append(channel)
    return found


def _fate(message: Row) -> str:
    """What became of a message per channel, with the reason; nothing for one that stays in the app."""
    return ", ".join(
        f"{one['channel']} {one['state']}" + (f": {one['error']}" if one["error"] and one["state"] != "sent" else "")
        for one in message["deliveries"]
    )
