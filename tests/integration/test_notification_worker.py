"""Messages through real workers, a real broker and a real receiver: once each, and at most twice when a worker dies."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from celery import Celery
from pydantic import SecretStr

from app.celery_app import make_celery
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.postgres import PostgresGateway
from app.db.store import TenantStore
from app.tenancy import parse_tenant_id
from tests.contract.ledger_factory import rows
from tests.integration.celery_processes import CELERY, CeleryProcess, running, wait_until
from tests.servers.receiver import Webhook, webhook_server

TENANT = parse_tenant_id("aaaaaaaa-0000-4000-8000-000000000001")
CHECK = "app.workers.notification_worker.check_notification_rules"
SUMMARY = "app.workers.notification_worker.send_daily_notifications"
SEND = "app.workers.notification_worker.send_notification"
DEATH = "exited with 'signal 9 (SIGKILL)'"  # how a pool's parent tells of a child that was killed, once


@pytest.fixture
def shop(database_url: str) -> str:
    """A shop with twelve products that run out, and a sale of each on every one of the last 60 days."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into negocios (id, nombre, idioma, moneda) values (%s, 'Pan', 'es', 'EUR')", (TENANT,)
        )
        connection.execute(
            "insert into productos select %s, n::text, 'Pan ' || n, 1 from generate_series(1, 12) as n", (TENANT,)
        )
        connection.execute(
            "insert into ventas (negocio_id, id, fecha, total, cantidad, producto_id)"
            " select %s, d || '/' || n, now() - d * interval '1 day', 5, 10, n::text"
            " from generate_series(1, 60) as d, generate_series(1, 12) as n",
            (TENANT,),
        )
    return database_url


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    with webhook_server() as server:
        yield server


def send_to(url: str, address: str) -> None:
    """Every message of the tenant goes to the webhook too."""
    gateway = PostgresGateway(url)
    store = TenantStore(gateway, TENANT)
    store.write_notification_address("webhook", address)
    store.write_notification_config("*", "webhook", enabled=True, settings={})
    gateway.close()


def one_message(url: str) -> UUID:
    """A message of its own, written as a rule would; its id."""
    gateway = PostgresGateway(url)
    store = TenantStore(gateway, TENANT)
    store.write_notifications([{"dedupe_key": "k", "kind": "anomaly", "title": "Día inusual"}])
    (message,) = store.list_notifications(10)
    gateway.close()
    return UUID(message["notification_id"])


def client(redis_url: str) -> Celery:
    """What any program that can reach the broker has."""
    return make_celery(Settings(redis_url=SecretStr(redis_url)), MLSettings())


@contextmanager
def notification_worker(
    url: str, redis_url: str, directory: Path, name: str, **environment: str
) -> Iterator[CeleryProcess]:
    """A worker of the notifications queue alone."""
    command = (
        *CELERY, "worker", "--queues", "notifications", "--concurrency", "1", "--hostname", f"{name}@%h",
        "--loglevel", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat",
    )  # fmt: skip
    settings = {
        "DATABASE_URL": url, "REDIS_URL": redis_url, "NOTIFICATION_ALLOW_PRIVATE": "true", **environment,
    }  # fmt: skip
    with running(command, settings, directory / f"{name}.log") as started:
        wait_until(lambda: " ready." in started.words() or not started.is_running(), "a ready worker", started)
        assert started.is_running(), started.words()[-4000:]
        yield started


def states(url: str) -> Counter[str]:
    return Counter(row[0] for row in rows(url, "select state from notification_deliveries"))


def received(receiver: Webhook) -> Counter[str]:
    """How often each message came in, by id."""
    return Counter(json.loads(request.body)["notification_id"] for request in receiver.received)


def leases_are_over(url: str) -> bool:
    (found,) = rows(url, "select count(*) from notification_deliveries where state = 'sending' and lease_until > now()")
    return int(found[0]) == 0


def test_two_workers_send_what_a_check_found_once_each_however_often_it_is_rung_for(
    shop: str, redis_url: str, receiver: Webhook, tmp_path: Path
) -> None:
    send_to(shop, f"{receiver.url}/hook")

    with (
        notification_worker(shop, redis_url, tmp_path, "one") as one,
        notification_worker(shop, redis_url, tmp_path, "two") as two,
    ):
        for _ in range(6):
            client(redis_url).send_task(CHECK)
        wait_until(lambda: states(shop) == Counter(sent=12), "twelve messages", one, two)
        client(redis_url).send_task(CHECK)
        wait_until(lambda: (one.words() + two.words()).count(f"Task {CHECK}") >= 14, "all checks", one, two)

    assert set(received(receiver).values()) == {1}
    assert len(received(receiver)) == 12
    assert {json.loads(request.body)["kind"] for request in receiver.received} == {"low_stock"}
    secret = receiver.url.removeprefix("http://") + "/hook"
    assert secret not in one.words() + two.words()  # an address is a secret


def test_a_storm_over_the_limit_becomes_one_digest(
    shop: str, redis_url: str, receiver: Webhook, tmp_path: Path
) -> None:
    send_to(shop, f"{receiver.url}/hook")
    (hour,) = rows(shop, "select extract(hour from now() at time zone 'UTC')::int")

    with notification_worker(
        shop, redis_url, tmp_path, "one", NOTIFICATION_DAILY_LIMIT="3", NOTIFICATION_SUMMARY_HOUR=str(hour[0])
    ) as one:
        client(redis_url).send_task(CHECK)
        wait_until(lambda: states(shop) == Counter(sent=3, held=9), "three messages", one)
        for _ in range(3):
            client(redis_url).send_task(SUMMARY)
        wait_until(lambda: states(shop) == Counter(sent=5, digested=9), "digest and summary", one)

    kinds = Counter(json.loads(request.body)["kind"] for request in receiver.received)
    assert kinds == Counter(low_stock=3, digest=1, daily_summary=1)


@pytest.mark.parametrize(("stage", "expected"), [("notification_claimed", 1), ("notification_sent", 2)])
def test_a_worker_killed_around_sending_loses_nothing_and_doubles_one_at_most(
    shop: str, redis_url: str, receiver: Webhook, tmp_path: Path, stage: str, expected: int
) -> None:
    send_to(shop, f"{receiver.url}/hook")
    message = one_message(shop)
    lease = {"NOTIFICATION_LEASE_SECONDS": "2"}

    with notification_worker(shop, redis_url, tmp_path, "dies", TENANTCAST_FAILPOINT=stage, **lease) as dies:
        client(redis_url).send_task(SEND, (str(TENANT), str(message), "webhook"))
        wait_until(lambda: DEATH in dies.words(), "its death", dies)
    wait_until(lambda: leases_are_over(shop), "the end of the lease")
    with notification_worker(shop, redis_url, tmp_path, "lives") as lives:
        client(redis_url).send_task(CHECK)  # rings for what is due
        wait_until(lambda: states(shop)["sent"] >= 1 and states(shop)["sending"] == 0, "the message", lives)

    assert received(receiver)[str(message)] == expected


def test_a_message_that_kills_every_sender_is_given_up_after_two(
    shop: str, redis_url: str, receiver: Webhook, tmp_path: Path
) -> None:
    send_to(shop, f"{receiver.url}/hook")
    message = one_message(shop)
    environment = {"NOTIFICATION_LEASE_SECONDS": "2", "TENANTCAST_FAILPOINT": "notification_sent"}

    with notification_worker(shop, redis_url, tmp_path, "dies", **environment) as dies:
        for deaths in (1, 2):
            client(redis_url).send_task(SEND, (str(TENANT), str(message), "webhook"))
            wait_until(lambda n=deaths: dies.words().count(DEATH) >= n, "its death", dies)  # type: ignore[misc]
            wait_until(lambda: leases_are_over(shop), "the end of the lease", dies)
        client(redis_url).send_task(SEND, (str(TENANT), str(message), "webhook"))
        wait_until(lambda: states(shop) == Counter(failed=1), "giving up", dies)

    assert received(receiver) == Counter({str(message): 2})
    assert rows(shop, "select error from notification_deliveries") == [("worker_lost",)]


def test_hostile_arguments_are_refused_and_the_worker_goes_on(
    shop: str, redis_url: str, receiver: Webhook, tmp_path: Path
) -> None:
    send_to(shop, f"{receiver.url}/hook")
    message = one_message(shop)

    with notification_worker(shop, redis_url, tmp_path, "one") as one:
        for arguments in (
            ("x", "y"), (str(TENANT), "'; drop table notifications; --"), (str(TENANT), str(message), "in_app"),
            ([1], {"a": 2}), (str(TENANT),), (None, None, None),
        ):  # fmt: skip
            client(redis_url).send_task(SEND, arguments)
        client(redis_url).send_task(SEND, (str(TENANT), str(message)))
        wait_until(lambda: states(shop) == Counter(sent=1), "the message", one)

    assert received(receiver) == Counter({str(message): 1})


def test_what_the_command_shows_of_configuration_and_messages_holds_no_secret(shop: str, tmp_path: Path) -> None:
    def tenantcast(*arguments: str, stdin: str = "") -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "tenantcast", "notifications", *arguments, "--json"], input=stdin, text=True,
            capture_output=True, cwd=tmp_path, check=False, timeout=120,
            env={"DATABASE_URL": shop, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert ended.returncode in (0, 3), ended.stderr
        return ended.stdout

    tenantcast("config", "Pan", "--channel", "webhook", "--address", "-", stdin="https://example.com/t0ken\n")
    tenantcast("config", "Pan", "--rule", "*", "--channel", "webhook", "--on")
    tenantcast("config", "Pan", "--rule", "anomaly", "--channel", "webhook", "--off")
    shown = json.loads(tenantcast("config", "Pan", "--rule", "sales_drop", "--set", "drop_percent=45"))
    refused = [
        json.loads(tenantcast("config", "Pan", *arguments))["error"]["code"]
        for arguments in (
            ("--channel", "webhook", "--address", "http://example.com/"),
            ("--rule", "sales_drop", "--set", "drop_percent=0"),
            ("--rule", "nonsense", "--off"),
        )
    ]
    one_message(shop)
    listed = json.loads(tenantcast("list", "Pan", "--limit", "1"))

    assert shown["addresses"] == {"webhook": "https://example.com/…"}
    assert shown["rules"]["sales_drop"] == {
        "on": True, "settings": {"drop_percent": 45.0}, "channels": ["in_app", "webhook"],
    }  # fmt: skip
    assert shown["rules"]["anomaly"]["channels"] == ["in_app"]
    assert refused == ["address_refused", "invalid_override", "invalid_override"]
    assert [message["title"] for message in listed["notifications"]] == ["Día inusual"]
