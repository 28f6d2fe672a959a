"""Clean-ups on a real database: exactly what is old and not in use goes, and the role could do nothing else."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from app.config.maintenance_settings import MaintenanceSettings
from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from app.errors import QueryRefused
from app.services.maintenance import (
    Target,
    clean_up,
    cleanup_old_ml_predictions,
    cleanup_old_notifications,
    cleanup_old_runs,
)
from tests.contract.ledger_factory import AS_OF, STRANGER, TENANT, published, result, rows

ROLE = "tenantcast_maintenance"
TARGETS: tuple[Target, ...] = (
    "notifications", "predictions", "model_versions", "snapshots", "quarantine", "run_items", "runs",
)  # fmt: skip
KEYS = {
    "notifications": "notification_id",
    "ml_predictions": "tenant_id, prediction_date, prediction_type",
    "ml_models": "tenant_id, model_version",
    "ml_input_snapshot": "tenant_id, input_hash",
    "ml_quarantine": "tenant_id, line",
    "ml_run_item": "run_id, tenant_id",
    "ml_run": "run_id",
    "ml_forecast_ledger": "tenant_id, run_id",
    "ml_active_forecast": "tenant_id, run_id",
    "ml_features": "tenant_id, feature_date",
}
FORECAST = '{"yhat": 1, "yhat_lower": 1, "yhat_upper": 1}'
LARGE_SHARE = MaintenanceSettings(force_clean_up=True)


def test_what_is_old_goes_and_what_is_young_stays(gateway: Gateway, database_url: str) -> None:
    published(gateway, result())
    with psycopg.connect(database_url) as owner:
        for days in (29, 31):
            owner.execute(
                "insert into notifications (tenant_id, dedupe_key, kind, title, created_at)"
                " values (%s, %s, 'x', 'x', now() - make_interval(days => %s))",
                (TENANT, str(days), days),
            )
        for days in (88, 92):
            owner.execute(
                "insert into ml_predictions (tenant_id, prediction_date, prediction_type, predicted_values, fence,"
                " model_type) values (%s, current_date - %s, 'sales_forecast', %s, 0, 'sales_forecast')",
                (TENANT, days, FORECAST),
            )

    dry = cleanup_old_notifications(gateway, MaintenanceSettings(), dry_run=True)
    kept = rows(database_url, "select count(*) from notifications")
    notices = cleanup_old_notifications(gateway, MaintenanceSettings())
    predictions, models = cleanup_old_ml_predictions(gateway, MaintenanceSettings())

    assert (dry[0]["status"], dry[0]["due"], dry[0]["deleted"]) == ("dry_run", 1, 0)
    assert kept[0][0] >= 2
    assert (notices[0]["status"], notices[0]["deleted"]) == ("done", 1)
    assert rows(database_url, "select 1 from notifications where dedupe_key = '31'") == []
    assert len(rows(database_url, "select 1 from notifications where dedupe_key = '29'")) == 1
    assert (predictions["due"], predictions["deleted"]) == (1, 1)
    assert len(rows(database_url, "select 1 from ml_predictions where prediction_date = current_date - 88")) == 1
    assert models["due"] == 0
    assert len(rows(database_url, "select 1 from ml_forecast_ledger")) == 1


@pytest.mark.parametrize(
    ("what", "days", "limit"),
    [("notifications", 6, 10), ("notifications", None, 10), ("ml_models", 30, 10), ("", 30, 10), (None, 30, 10)],
)
def test_less_than_seven_days_and_unknown_things_are_refused(
    gateway: Gateway, what: str | None, days: int | None, limit: int
) -> None:
    plan = {"p_what": what, "p_keep_days": days, "p_keep_versions": 5}
    with pytest.raises(QueryRefused):
        gateway.call("ml_plan_clean_up", plan)
    with pytest.raises(QueryRefused):
        gateway.call("ml_clean_up_batch", plan | {"p_limit": limit})


def test_a_batch_is_a_thousand_rows_however_many_are_asked_for(gateway: Gateway, database_url: str) -> None:
    many_notifications(database_url, 1_200, days=40)

    batch = {"p_what": "notifications", "p_keep_days": 30, "p_keep_versions": 5, "p_limit": 10**9}
    deleted = [gateway.call("ml_clean_up_batch", batch) for _ in range(3)]

    assert deleted == [{"deleted": 1_000}, {"deleted": 200}, {"deleted": 0}]


def test_the_oldest_go_first(gateway: Gateway, database_url: str) -> None:
    for days in (50, 40, 60, 45):
        many_notifications(database_url, 1, days=days)

    gateway.call(
        "ml_clean_up_batch", {"p_what": "notifications", "p_keep_days": 30, "p_keep_versions": 5, "p_limit": 2}
    )

    left = rows(database_url, "select round(extract(epoch from now() - created_at) / 86400)::int from notifications")
    assert sorted(days for (days,) in left) == [40, 45]


def test_a_large_share_of_a_large_table_is_refused(gateway: Gateway, database_url: str) -> None:
    many_notifications(database_url, 1_001, days=40)
    many_notifications(database_url, 1_000, days=1)

    refused = clean_up(gateway, "notifications", MaintenanceSettings())
    left = rows(database_url, "select count(*) from notifications")
    forced = clean_up(gateway, "notifications", LARGE_SHARE)

    assert (refused["status"], refused["rows"], refused["due"], refused["deleted"]) == ("refused", 2_001, 1_001, 0)
    assert left == [(2_001,)]
    assert (forced["status"], forced["deleted"]) == ("done", 1_001)


def test_the_current_forecast_of_a_tenant_that_stopped_selling_stays_whatever_its_age(
    gateway: Gateway, database_url: str
) -> None:
    published(gateway, result())
    for table in ("ml_models", "ml_run_item", "ml_run", "ml_input_snapshot", "ml_predictions"):
        make_old(database_url, table)
    before = {table: contents(database_url, table) for table in KEYS}

    reports = cleanup_old_ml_predictions(gateway, LARGE_SHARE) + cleanup_old_runs(gateway, LARGE_SHARE)

    assert [report["due"] for report in reports] == [0] * len(reports)
    assert {table: contents(database_url, table) for table in KEYS} == before
    read = gateway.call("ml_read_forecast", {"p_tenant_id": TENANT})
    assert isinstance(read, dict)
    assert read["current"] is not None


def test_old_runs_go_item_by_item_and_the_record_of_what_was_forecast_stays(
    gateway: Gateway, database_url: str
) -> None:
    first, _ = publish_twice(gateway)
    for table in ("ml_run_item", "ml_run", "ml_input_snapshot"):
        make_old(database_url, table)

    cleanup_old_runs(gateway, LARGE_SHARE)

    assert rows(database_url, "select 1 from ml_run where run_id = %s", first) == []
    assert rows(database_url, "select 1 from ml_run_item where run_id = %s", first) == []
    assert len(rows(database_url, "select 1 from ml_forecast_ledger")) == 2
    assert len(rows(database_url, "select 1 from ml_run")) == 1


# --- the property ----------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Rows of random ages, and which of them a clean-up may take; decided here, apart from the SQL."""

    url: str
    rng: random.Random
    settings: MaintenanceSettings
    doomed: dict[str, set[tuple[Any, ...]]] = field(default_factory=lambda: {table: set() for table in KEYS})

    def age(self) -> float:
        """In days: spread, and close around every border, never on it."""
        border = self.rng.choice([7, 30, 90, 120])
        return self.rng.choice([self.rng.uniform(0, 400), border - 0.2, border + 0.2, 6.8, 1000.0])

    def fill(self) -> None:
        with psycopg.connect(self.url) as connection:
            for tenant in (TENANT, STRANGER, uuid4()):
                self._messages(connection, tenant)
                self._forecasts(connection, tenant)

    def _messages(self, connection: psycopg.Connection[Any], tenant: UUID) -> None:
        for number in range(self.rng.randint(0, 12)):
            age, key = self.age(), uuid4()
            connection.execute(
                "insert into notifications (tenant_id, notification_id, dedupe_key, kind, title, created_at)"
                " values (%s, %s, %s, 'x', 'x', %s)",
                (tenant, key, str(number), ago(age)),
            )
            self._judge("notifications", (key,), age > self.settings.keep_notifications_days)
            age = self.age()
            connection.execute(
                "insert into ml_quarantine values (%s, 'f', %s, 'bad', null, %s)", (tenant, number, ago(age))
            )
            self._judge("ml_quarantine", (tenant, number), age > self.settings.keep_quarantine_days)

    def _forecasts(self, connection: psycopg.Connection[Any], tenant: UUID) -> None:
        """Publishes of one tenant, each with run, item, snapshot, model and a day of forecast; one of them current."""
        count = self.rng.randint(1, 9)
        current = self.rng.randrange(count) if self.rng.random() < 0.9 else None
        production = self.rng.randrange(count)
        ages = [self.age() for _ in range(count)]
        day_ages = self.rng.sample([*range(-3, 12), *range(86, 95), 300], count)
        newest_first = sorted(range(count), key=lambda n: (ages[n], -n))
        for n in range(count):
            run, hash_ = uuid4(), f"{n:x}"
            ended = self.rng.random() < 0.9
            run_age, item_age = self.age(), self.age()
            self._run(connection, tenant, run, ended, run_age, item_age)
            connection.execute(
                "insert into ml_models (tenant_id, model_type, model_version, stage, run_id, fence, last_trained)"
                " values (%s, 'sales_forecast', %s, %s, %s, %s, %s)",
                (tenant, str(n), "production" if n == production else "archived", run, n + 1, ago(ages[n])),
            )
            old = ages[n] > self.settings.keep_model_days
            spare = newest_first.index(n) >= self.settings.keep_model_versions
            self._judge("ml_models", (tenant, str(n)), old and spare and n not in {current, production})
            snapshot_age, recorded = self.age(), self.rng.random() < 0.5
            self._snapshot(connection, tenant, n, snapshot_age, run if recorded else None)
            unused = not recorded and n != current
            self._judge(
                "ml_input_snapshot", (tenant, hash_), unused and snapshot_age > self.settings.keep_snapshots_days
            )
            day_age = day_ages[n]
            connection.execute(
                "insert into ml_predictions (tenant_id, prediction_date, prediction_type, predicted_values, run_id,"
                " fence, model_type, model_version) values (%s, (now() at time zone 'UTC')::date - %s,"
                " 'sales_forecast', %s, %s, %s, 'sales_forecast', %s)",
                (tenant, day_age, FORECAST, run, n + 1, str(n)),
            )
            day = (datetime.now(UTC) - timedelta(days=day_age)).date()
            old_day = day_age > self.settings.keep_predictions_days
            self._judge("ml_predictions", (tenant, day, "sales_forecast"), old_day and n != current)
            gone = ended and min(run_age, item_age) > self.settings.keep_runs_days and n != current
            self._judge("ml_run_item", (run, tenant), gone)
            self._judge("ml_run", (run,), gone)
            if n == current:
                connection.execute(
                    "insert into ml_active_forecast (tenant_id, run_id, fence, as_of, input_hash, output_hash,"
                    " model_type, model_version) values (%s, %s, %s, '2020-01-01', %s, 'a', 'sales_forecast', %s)",
                    (tenant, run, n + 1, hash_, str(n)),
                )

    def _run(
        self, connection: psycopg.Connection[Any], tenant: UUID, run: UUID, ended: bool, run_age: float, item_age: float
    ) -> None:
        connection.execute(
            "insert into ml_run (run_id, kind, code_version, finished_at) values (%s, 'retrain', '1', %s)",
            (run, ago(run_age) if ended else None),
        )
        connection.execute(
            "insert into ml_run_item (run_id, tenant_id, state, finished_at) values (%s, %s, %s, %s)",
            (run, tenant, self.rng.choice(["done", "failed", "skipped"]) if ended else "pending",
             ago(item_age) if ended else None),
        )  # fmt: skip

    def _snapshot(
        self, connection: psycopg.Connection[Any], tenant: UUID, n: int, age: float, recorded_for: UUID | None
    ) -> None:
        connection.execute(
            "insert into ml_input_snapshot values (%s, %s, '2020-01-01', 'AA==', '1', %s)", (tenant, f"{n:x}", ago(age))
        )
        if recorded_for is not None:
            connection.execute(
                "insert into ml_forecast_ledger (tenant_id, issued_on, run_id, as_of, fence, code_version, model_type,"
                " model_version, input_hash, output_hash, forecast)"
                " values (%s, '2020-01-02', %s, '2020-01-01', 1, '1', 'sales_forecast', %s, %s, 'a', '[]')",
                (tenant, recorded_for, str(n), f"{n:x}"),
            )

    def _judge(self, table: str, key: tuple[Any, ...], goes: bool) -> None:
        if goes:
            self.doomed[table].add(key)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_young_and_nothing_in_use_is_ever_deleted_and_all_else_is(database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    # Below what the settings allow, down to the database's own floor.
    settings = MaintenanceSettings.model_construct(
        keep_notifications_days=rng.choice([7, 30, 90]), keep_predictions_days=rng.choice([7, 90]),
        keep_model_days=rng.choice([7, 30, 120]), keep_model_versions=rng.choice([1, 2, 5]),
        keep_snapshots_days=rng.choice([7, 30]), keep_quarantine_days=rng.choice([7, 120]),
        keep_runs_days=rng.choice([7, 90]), force_clean_up=True, max_delete_share=0.2,
    )  # fmt: skip
    world = World(database_url, rng, settings)
    world.fill()
    before = {table: contents(database_url, table) for table in KEYS}
    gateway = PostgresGateway(database_url)

    reports = [clean_up(gateway, what, settings) for what in rng.sample(TARGETS, len(TARGETS))]
    reports += [clean_up(gateway, what, settings) for what in TARGETS]  # runs go after their items
    gateway.close()

    for table in KEYS:
        assert before[table] - contents(database_url, table) == world.doomed[table], (seed, table)
    assert any(world.doomed.values())
    assert {report["status"] for report in reports} == {"done"}
    assert all(report["due"] == 0 for report in [clean_up(gateway, what, settings, dry_run=True) for what in TARGETS])
    gateway.close()


# --- what the role itself can do -------------------------------------------------------------------------------------


@contextmanager
def as_maintenance(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as connection:
        connection.execute(f"set local role {ROLE}")
        yield connection
        connection.rollback()


def refused(connection: psycopg.Connection[Any], statement: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_the_role_cannot_delete_what_is_young_or_in_use_even_without_any_condition(
    gateway: Gateway, database_url: str
) -> None:
    for tenant in (TENANT, STRANGER):
        published(gateway, result(), tenant)
    make_old(database_url, "ml_models")
    many_notifications(database_url, 3, days=6)
    many_notifications(database_url, 2, days=8)

    with as_maintenance(database_url) as connection:
        gone = {
            table: connection.execute(f"delete from {table}").rowcount
            for table in ("notifications", "ml_predictions", "ml_models", "ml_input_snapshot", "ml_run_item", "ml_run")
        }

    assert gone == {
        "notifications": 2, "ml_predictions": 0, "ml_models": 0, "ml_input_snapshot": 0, "ml_run_item": 0, "ml_run": 0,
    }  # fmt: skip


def test_the_role_reads_keys_and_times_and_writes_nothing(database_url: str) -> None:
    tables = [row[0] for row in rows(database_url, "select o::text from tenantcast_internal.our_tables(false) as o")]
    kept = {"ml_forecast_ledger", "ml_active_forecast", "ml_features", "tenant_ml_settings", "tenant_calendar"}
    contents_of = [
        "select title from notifications", "select predicted_values from ml_predictions",
        "select model_data from ml_models", "select payload from ml_input_snapshot", "select raw from ml_quarantine",
        "select report from ml_run_item", "select forecast from ml_forecast_ledger",
        "select * from tenantcast_source.sales_source", "select * from tenantcast_source.tenant_source",
    ]  # fmt: skip

    assert kept <= set(tables)
    with as_maintenance(database_url) as connection:
        assert [statement for statement in contents_of if not refused(connection, statement)] == []
        for table in tables:
            key = "run_id" if table == "ml_run" else "tenant_id"
            assert refused(connection, f"insert into {table} default values"), table
            assert refused(connection, f"update {table} set {key} = {key}"), table
            assert refused(connection, f"truncate {table}"), table
        for table in kept:
            assert refused(connection, f"delete from {table}"), table


@pytest.mark.parametrize(
    ("change", "problem", "thing"),
    [
        (f"grant update on ml_models to {ROLE}", f"granted to {ROLE}", "ml_models"),
        (
            f"create policy open on ml_models for delete to {ROLE} using (true)",
            f'policy "open" lets {ROLE} see every tenant',
            "ml_models",
        ),
        (f"alter role {ROLE} bypassrls", "role may ignore row security or log in", ROLE),
    ],
)
def test_the_lint_catches_more_power(database_url: str, change: str, problem: str, thing: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(change)
        found = connection.execute("select problem, object from tenantcast_internal.lint()").fetchall()
        connection.rollback()
    assert (problem, thing) in [(row[0], row[1].removeprefix("public.")) for row in found]


# --- helpers ---------------------------------------------------------------------------------------------------------


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def contents(url: str, table: str) -> set[tuple[Any, ...]]:
    return set(rows(url, f"select {KEYS[table]} from {table}"))


def many_notifications(url: str, count: int, *, days: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into notifications (tenant_id, dedupe_key, kind, title, created_at)"
            " select %s, %s || n, 'x', 'x', now() - make_interval(days => %s) from generate_series(1, %s) as n",
            (TENANT, f"{days}-", days, count),
        )


def make_old(url: str, table: str) -> None:
    """Five hundred days older than it is."""
    column, step = {
        "ml_models": ("last_trained", "interval '500 days'"),
        "ml_run": ("finished_at", "interval '500 days'"),
        "ml_run_item": ("finished_at", "interval '500 days'"),
        "ml_input_snapshot": ("created_at", "interval '500 days'"),
        "ml_predictions": ("prediction_date", "500"),
    }[table]
    with psycopg.connect(url) as connection:
        connection.execute("update ml_run set finished_at = coalesce(finished_at, clock_timestamp())")
        connection.execute(f"update {table} set {column} = {column} - {step} where {column} is not null")


def publish_twice(gateway: Gateway) -> tuple[str, str]:
    """Two runs that published for one tenant; the second one's forecast is the current one."""
    first, _ = published(gateway, result())
    second, _ = published(gateway, result(AS_OF + timedelta(days=1), version="v2"))
    return first, second
