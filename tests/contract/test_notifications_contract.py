"""The outbox over both gateways: said once, sent under a lease, held over the limit, due per local date."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.config.maintenance_settings import MaintenanceSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from app.db.store import SystemStore, TenantStore
from app.errors import QueryRefused
from app.services.maintenance import cleanup_old_notifications
from app.services.ml.pipeline import train_and_predict_sales
from app.services.notifications.check import check_rules, write_summaries
from app.tenancy import TenantId
from tests.contract.ledger_factory import STRANGER, TENANT, give_tenants, published, result, rows
from tests.integration.shops import CHEAP, add_shop, shop_id, yesterday

LEASE = 60
LIMIT = 20


def store_of(gateway: Gateway, tenant: UUID = TENANT) -> TenantStore:
    return TenantStore(gateway, TenantId(tenant))


def notice(key: str = "k1", kind: str = "anomaly") -> dict[str, Any]:
    return {"dedupe_key": key, "kind": kind, "title": f"Title of {key}", "body": "Body", "payload": {"n": 1}}


def wants_email(store: TenantStore, rule: str = "*") -> None:
    store.write_notification_address("email", "shop@example.com")
    store.write_notification_config(rule, "email", enabled=True, settings={})


def delivered(store: TenantStore) -> list[tuple[str, str, str]]:
    """Title, channel and state of every delivery."""
    return [
        (message["title"], one["channel"], one["state"])
        for message in store.list_notifications(1000)
        for one in message["deliveries"]
    ]


def due_id(gateway: Gateway) -> UUID:
    (item,) = SystemStore(gateway).due_deliveries(10)
    assert (item["tenant_id"], item["channel"]) == (str(TENANT), "email")
    return UUID(item["notification_id"])


def in_the_past(url: str, column: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(f"update notification_deliveries set {column} = now() - interval '1 s'")


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_key_is_said_once_however_often_it_is_written(gateway: Gateway) -> None:
    store = store_of(gateway)
    wants_email(store)

    answers = [store.write_notifications([notice("k1"), notice("k2")]) for _ in range(3)]

    assert answers == [{"written": 2}, {"written": 0}, {"written": 0}]
    assert sorted(delivered(store)) == [("Title of k1", "email", "pending"), ("Title of k2", "email", "pending")]


def test_of_eight_workers_that_say_one_thing_at_once_one_says_it(database_url: str) -> None:
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(8)]
    wants_email(store_of(gateways[0]))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: store_of(each).write_notifications([notice()])["written"], gateways))
    found = delivered(store_of(gateways[0]))
    for each in gateways:
        each.close()

    assert sorted(answers) == [0] * 7 + [1]
    assert found == [("Title of k1", "email", "pending")]


def test_a_message_goes_to_the_channels_that_have_an_address_and_the_rule(gateway: Gateway) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notification_config("sales_drop", "email", enabled=False, settings={})  # its own row wins over '*'
    store.write_notification_config("sales_drop", "webhook", enabled=True, settings={})
    store.write_notification_address("webhook", "https://example.com/hook")
    store.write_notification_config("anomaly", "chat", enabled=True, settings={})  # but it has no address

    store.write_notifications([notice("a", "anomaly"), notice("b", "sales_drop")])

    assert sorted(delivered(store)) == [("Title of a", "email", "pending"), ("Title of b", "webhook", "pending")]


def test_a_rule_that_is_off_in_the_app_is_not_written_at_all(gateway: Gateway) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notification_config("anomaly", "in_app", enabled=False, settings={"x": 1})

    assert store.write_notifications([notice("a", "anomaly"), notice("b", "low_stock")]) == {"written": 1}
    assert [message["kind"] for message in store.list_notifications(10)] == ["low_stock"]


def test_a_publish_writes_messages_and_deliveries_in_its_own_transaction(gateway: Gateway, database_url: str) -> None:
    store = store_of(gateway)
    wants_email(store, "anomaly")

    published(gateway, result())
    bent = result(as_of=date(2026, 11, 21))
    bent["notifications"] = [notice("k2"), {**notice("k3"), "title": None}]
    with pytest.raises(QueryRefused):
        published(gateway, bent)

    assert delivered(store) == [("An unusual day", "email", "pending")]
    assert rows(database_url, "select count(*) from ml_forecast_ledger") == [(1,)]


def test_a_forecast_that_is_published_says_so_once_per_day_of_sales(database_url: str) -> None:
    gateway = PostgresGateway(database_url)
    store = add_shop(gateway, "bakery", days=90)
    wants_email(store, "forecast_ready")

    for _ in range(2):
        train_and_predict_sales(shop_id("bakery"), gateway=gateway, settings=CHEAP, environment=Settings(), force=True)
    messages = store.list_notifications(10)
    gateway.close()

    ready = [message for message in messages if message["kind"] == "forecast_ready"]
    assert [message["payload"]["as_of"] for message in ready] == [str(yesterday())]
    assert [one["channel"] for one in ready[0]["deliveries"]] == ["email"]
    assert rows(database_url, "select count(*) from ml_forecast_ledger") == [(2,)]


def test_configuration_and_addresses_are_replaced_and_removed(gateway: Gateway) -> None:
    store = store_of(gateway)
    for percent in (40, 50):
        store.write_notification_config("sales_drop", "in_app", enabled=True, settings={"drop_percent": percent})
    store.write_notification_address("chat", "slack://a/b/c")
    store.write_notification_address("email", "old@example.com")
    store.write_notification_address("email", "new@example.com")
    store.write_notification_address("chat", None)

    assert store.read_notification_config() == {
        "rules": [{"rule": "sales_drop", "channel": "in_app", "enabled": True, "settings": {"drop_percent": 50}}],
        "channels": [{"channel": "email", "address": "new@example.com"}],
    }
    with pytest.raises(QueryRefused):
        store.write_notification_address("pigeon", "x@example.com")


# --- sending ---------------------------------------------------------------------------------------------------------


def test_a_claim_hands_out_message_and_address_to_one_sender_alone(gateway: Gateway) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notifications([notice()])
    message = due_id(gateway)

    first, second = (store.claim_delivery(message, "email", LEASE, LIMIT) for _ in range(2))

    assert {key: first[key] for key in ("outcome", "fence", "tries", "address")} == {
        "outcome": "claimed", "fence": 1, "tries": 0, "address": "shop@example.com",
    }  # fmt: skip
    assert first["message"]["title"] == "Title of k1"
    assert first["message"]["payload"] == {"n": 1}
    assert second == {"outcome": "busy"}
    assert SystemStore(gateway).due_deliveries(10) == []
    assert store_of(gateway, STRANGER).claim_delivery(message, "email", LEASE, LIMIT) == {"outcome": "unknown"}


def test_what_was_sent_is_never_claimed_again_and_a_repeated_answer_is_the_same(gateway: Gateway) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notifications([notice()])
    message = due_id(gateway)
    fence = store.claim_delivery(message, "email", LEASE, LIMIT)["fence"]

    ends = [store.end_delivery(message, "email", fence, "sent") for _ in range(2)]

    assert ends == [{"outcome": "sent"}] * 2
    assert store.claim_delivery(message, "email", LEASE, LIMIT) == {"outcome": "finished", "state": "sent"}
    assert [one["state"] for one in store.list_notifications(1)] == ["sent"]
    assert SystemStore(gateway).due_deliveries(10) == []


def test_a_sender_that_was_lost_is_replaced_once_and_told_so(gateway: Gateway, database_url: str) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notifications([notice()])
    message = due_id(gateway)

    first = store.claim_delivery(message, "email", LEASE, LIMIT)
    in_the_past(database_url, "lease_until")
    again = due_id(gateway)
    second = store.claim_delivery(again, "email", LEASE, LIMIT)
    late = store.end_delivery(message, "email", first["fence"], "sent")
    in_the_past(database_url, "lease_until")
    third = store.claim_delivery(message, "email", LEASE, LIMIT)

    assert (again, first["fence"], second["fence"]) == (message, 1, 2)
    assert late == {"outcome": "lost"}
    assert third == {"outcome": "finished", "state": "failed"}  # twice perhaps, never three times
    assert store.list_notifications(1)[0]["deliveries"][0]["error"] == "worker_lost"
    assert store.list_notifications(1)[0]["state"] == "failed"


def test_a_failed_try_comes_back_when_its_pause_is_over(gateway: Gateway, database_url: str) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notifications([notice()])
    message = due_id(gateway)
    fence = store.claim_delivery(message, "email", LEASE, LIMIT)["fence"]

    store.end_delivery(message, "email", fence, "pending", error="It is away.", retry_in_seconds=600)
    waiting = (SystemStore(gateway).due_deliveries(10), store.claim_delivery(message, "email", LEASE, LIMIT))
    in_the_past(database_url, "not_before")
    second = store.claim_delivery(due_id(gateway), "email", LEASE, LIMIT)
    store.end_delivery(message, "email", second["fence"], "pending", retry_in_seconds=0, counts=False)
    third = store.claim_delivery(message, "email", LEASE, LIMIT)

    assert waiting == ([], {"outcome": "later"})
    assert (second["tries"], second["fence"]) == (1, 2)
    assert (third["tries"], third["fence"]) == (1, 3)


def test_over_the_days_limit_messages_are_held_and_one_digest_takes_their_place(gateway: Gateway) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notifications([notice(f"k{n}", "low_stock") for n in range(10)])

    outcomes = [
        store.claim_delivery(UUID(item["notification_id"]), "email", LEASE, 3)["outcome"]
        for item in SystemStore(gateway).due_deliveries(100)
    ]
    facts = store.read_notification_facts(42)
    digests = [store.write_digest(notice(f"digest:{n}", "digest"), facts["read_at"]) for n in (1, 1, 2)]
    digest = due_id(gateway)
    claimed = store.claim_delivery(digest, "email", LEASE, 3)

    assert outcomes == ["claimed"] * 3 + ["held"] * 7
    assert facts["held"] == [{"kind": "low_stock", "n": 7}]
    assert digests == [{"written": 1}, {"written": 0}, {"written": 1}]
    assert claimed["outcome"] == "claimed"  # it is not held back itself
    assert store.read_notification_facts(42)["held"] == []
    assert sorted(state for _, _, state in delivered(store)) == ["digested"] * 7 + ["sending"] * 4
    assert len(store.list_notifications(100)) == 12  # in the app is everything


def test_a_limit_holds_against_senders_that_come_at_once(database_url: str) -> None:
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(8)]
    wants_email(store_of(gateways[0]))
    store_of(gateways[0]).write_notifications([notice(f"k{n}") for n in range(8)])
    due = [UUID(item["notification_id"]) for item in SystemStore(gateways[0]).due_deliveries(100)]

    def claim(pair: tuple[PostgresGateway, UUID]) -> str:
        return str(store_of(pair[0]).claim_delivery(pair[1], "email", LEASE, 3)["outcome"])

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(claim, zip(gateways, due, strict=True)))
    for each in gateways:
        each.close()

    assert sorted(outcomes) == ["claimed"] * 3 + ["held"] * 5


def test_a_tenant_with_a_storm_does_not_keep_the_others_waiting(gateway: Gateway) -> None:
    for tenant, n in ((TENANT, 30), (STRANGER, 2)):
        wants_email(store_of(gateway, tenant))
        store_of(gateway, tenant).write_notifications([notice(f"k{i}") for i in range(n)])

    first = [item["tenant_id"] for item in SystemStore(gateway).due_deliveries(4)]

    assert sorted(first) == sorted([str(TENANT), str(STRANGER)] * 2)


def test_a_message_that_is_cleaned_up_takes_its_deliveries_along(gateway: Gateway, database_url: str) -> None:
    store = store_of(gateway)
    wants_email(store)
    store.write_notifications([notice(f"k{n}") for n in range(10)])
    with psycopg.connect(database_url) as connection:
        connection.execute("update notifications set created_at = now() - interval '31 days' where dedupe_key = 'k7'")

    (report,) = cleanup_old_notifications(gateway, MaintenanceSettings())

    assert report["deleted"] == 1
    assert len(delivered(store)) == 9
    assert rows(database_url, "select count(*) from notification_deliveries") == [(9,)]


# --- who is due ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "zone", "day"),
    [
        ("2026-11-21 06:59:59Z", "Europe/Madrid", None),  # 07:59:59
        ("2026-11-21 07:00:00Z", "Europe/Madrid", "2026-11-21"),
        ("2026-11-21 12:59:59Z", "Europe/Madrid", "2026-11-21"),
        ("2026-11-21 13:00:00Z", "Europe/Madrid", None),  # six hours late is too late
        ("2026-03-29 05:59:59Z", "Europe/Madrid", None),  # the day that has no 02:30: 07:59:59 in summer time
        ("2026-03-29 06:00:00Z", "Europe/Madrid", "2026-03-29"),
        ("2026-10-25 06:59:59Z", "Europe/Madrid", None),  # the day that has 02:30 twice
        ("2026-10-25 07:00:00Z", "Europe/Madrid", "2026-10-25"),
        ("2026-11-20 18:15:00Z", "Pacific/Kiritimati", "2026-11-21"),  # 14 hours ahead: tomorrow already
        ("2026-11-21 18:59:00Z", "Pacific/Pago_Pago", None),
        ("2026-11-21 19:00:00Z", "Pacific/Pago_Pago", "2026-11-21"),
        ("2026-11-21 08:00:00Z", "Not/AZone", "2026-11-21"),  # as UTC
        ("2026-11-21 08:00:00Z", None, "2026-11-21"),
    ],
)
def test_a_summary_is_due_from_eight_oclock_local_time_on(
    database_url: str, at: str, zone: str | None, day: str | None
) -> None:
    found = rows(database_url, "select tenantcast_internal.summary_day(%s, %s, 8, 6)::text", at, zone)

    assert found == [(day,)]


def test_over_a_year_of_quarter_hours_each_local_date_is_due_in_one_stretch(database_url: str) -> None:
    for zone in ("Europe/Madrid", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca"):
        found = rows(
            database_url,
            "with tick as (select at, tenantcast_internal.summary_day(at, %s, 8, 6) as day from generate_series("
            "  timestamptz '2026-01-01 00:00Z', '2026-12-31 23:45Z', '15 minutes') as at)"
            " select min(n), max(n), count(*) from (select day, count(*) as n from tick where day is not null"
            "  and day between '2026-01-02' and '2026-12-30' group by day) as per_day",
            zone,
        )
        assert found == [(24, 24, 363)], zone  # six hours are 24 ticks, on days of 23 and 25 hours too


class Silent:
    """A courier that nobody hears: the messages stay due."""

    def carry(self, tenant_id: TenantId, notification_id: UUID, channel: str) -> None:
        """Nothing is sent."""


def take(gateway: Gateway, limit: int = 10) -> list[str]:
    """Tenants whose rules are due; one period lasts for the whole test."""
    due = SystemStore(gateway).due_notification_ticks("rules", limit, 60, period_seconds=10**9, hour=8, hours_late=6)
    return [row["tenant_id"] for row in due]


def test_ticks_at_once_share_the_tenants_among_them(database_url: str) -> None:
    give_tenants(database_url, {UUID(int=n): f"T{n}" for n in range(1, 121)}, inactive=[UUID(int=7)])
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(lambda each: [take(each, 10) for _ in range(12)], gateways))
    for each in gateways:
        each.close()

    taken = [tenant for share in pages for page in share for tenant in page]
    assert sorted(taken) == sorted(str(UUID(int=n)) for n in range(1, 121) if n != 7)


def test_what_one_tick_did_the_next_one_leaves(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {UUID(int=n): f"T{n}" for n in range(1, 8)})
    settings = Settings(database_url=database_url, notification_summary_hour=_hour_in_madrid(database_url))

    first, second = (write_summaries(gateway, settings, Silent()) for _ in range(2))

    assert first == {"tenants": 7, "failed": 0, "written": 0, "rung": 0}
    assert second == {"tenants": 0, "failed": 0, "written": 0, "rung": 0}


def test_how_late_a_summary_may_be_is_the_callers_number(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {TENANT: "A"})
    hour = _hour_in_madrid(database_url)
    late = {
        hours: SystemStore(gateway).due_notification_ticks(
            "summary", 10, 60, period_seconds=300, hour=hour, hours_late=hours
        )
        for hours in (0, 1)
    }

    assert late[0] == []
    assert [row["tenant_id"] for row in late[1]] == [str(TENANT)]


def test_a_tenant_whose_worker_died_is_due_again_when_the_lease_ends(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {TENANT: "A", STRANGER: "B"})
    system = SystemStore(gateway)

    first, second = take(gateway), take(gateway)
    system.end_notification_tick(TenantId(TENANT), "rules", "1")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "update notification_ticks set lease_until = now() - interval '1 s' where lease_until > now()"
        )
    third = take(gateway)

    assert (first, second, third) == ([str(TENANT), str(STRANGER)], [], [str(STRANGER)])


def test_tenants_that_have_waited_longest_come_first(gateway: Gateway, database_url: str) -> None:
    ids = [UUID(int=n) for n in range(1, 5)]
    give_tenants(database_url, dict.fromkeys(ids, "T"))
    for each, slot in zip(ids, ("1003", "1001", "1002", "1004"), strict=True):
        SystemStore(gateway).end_notification_tick(TenantId(each), "rules", slot)

    first, second = take(gateway, 1), take(gateway, 2)

    assert first == [str(UUID(int=2))]
    assert second == sorted([str(UUID(int=3)), str(UUID(int=1))])


def test_a_simulated_day_of_a_storm_is_said_once_and_sent_no_more_often_than_the_limit(database_url: str) -> None:
    shop(database_url, products=100, stock=1)
    gateway = PostgresGateway(database_url)
    store, settings = store_of(gateway), Settings(database_url=database_url)
    wants_email(store)
    outcomes: list[str] = []
    for _ in range(288):  # a tick every 300 s
        with psycopg.connect(database_url) as connection:
            connection.execute("update notification_ticks set done_slot = null, lease_until = null")
        check_rules(gateway, settings, Silent())
        due = [UUID(item["notification_id"]) for item in SystemStore(gateway).due_deliveries(100)]
        outcomes += [store.claim_delivery(message, "email", 3600, 5)["outcome"] for message in due]
    gateway.close()

    assert sorted(outcomes) == ["claimed"] * 5 + ["held"] * 15  # twenty products at most, each once


def test_the_summary_is_written_once_per_local_date_and_takes_what_was_held(database_url: str) -> None:
    shop(database_url, products=10, stock=1)
    gateway = PostgresGateway(database_url)
    store, settings = (
        store_of(gateway),
        Settings(database_url=database_url, notification_summary_hour=_hour_in_madrid(database_url)),
    )
    wants_email(store)
    check_rules(gateway, settings, Silent())
    for item in SystemStore(gateway).due_deliveries(100):
        store.claim_delivery(UUID(item["notification_id"]), "email", LEASE, 4)

    ticks = [write_summaries(gateway, settings, Silent()) for _ in range(2)]
    gateway_view = [message["kind"] for message in store.list_notifications(100)]
    gateway.close()

    assert [tick["written"] for tick in ticks] == [2, 0]
    assert sorted(kind for kind in gateway_view if kind != "low_stock") == ["daily_summary", "digest"]
    assert gateway_view.count("low_stock") == 10


def _hour_in_madrid(url: str) -> int:
    (found,) = rows(url, "select extract(hour from now() at time zone 'Europe/Madrid')::int")
    return int(found[0])


def shop(url: str, *, products: int, stock: int) -> None:
    """A shop in Madrid that has sold 10 units of each product on each of 60 days."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into negocios (id, nombre, zona_horaria, pais, idioma, moneda)"
            " values (%s, 'Pan', 'Europe/Madrid', 'ES', 'es', 'EUR')",
            (TENANT,),
        )
        connection.execute(
            "insert into productos select %s, n::text, 'Pan ' || n, %s from generate_series(1, %s) as n",
            (TENANT, stock, products),
        )
        connection.execute(
            "insert into ventas (negocio_id, id, fecha, total, cantidad, producto_id)"
            " select %s, d || '/' || n, now() - d * interval '1 day', 5, 10, n::text"
            " from generate_series(1, 60) as d, generate_series(1, %s) as n",
            (TENANT, products),
        )
