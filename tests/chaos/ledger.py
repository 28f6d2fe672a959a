"""The real work: a run in the ledger, started as the product starts one, judged by what stands in the tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from app.db.store import SystemStore
from app.services import runs
from app.services.retrain import KIND, retrain
from app.tenancy import TenantId
from tests.chaos.backends import Database
from tests.chaos.verdict import Verdict

HORIZON_DAYS = 14
# The workers' environment and the same for the reference run in this process: equal settings, equal input hashes.
FAST = {"ML_MODEL_CANDIDATES": "naive,snaive,weekday_mean", "ML_HORIZON_DAYS": str(HORIZON_DAYS), "ML_CV_FOLDS": "2"}
FAST_SETTINGS = MLSettings.model_construct(
    model_candidates=("naive", "snaive", "weekday_mean"), horizon_days=HORIZON_DAYS, cv_folds=2
)
WRITTEN = (
    "ml_run, ml_run_item, ml_predictions, ml_models, ml_forecast_ledger, ml_input_snapshot, ml_active_forecast,"
    " notifications"
)

# Every forecast and flagged day value for value, and what the worker says it computed (forecast, anomalies, model).
_OUTPUT = """
select p.tenant_id::text, a.output_hash || ' ' || a.input_hash || ' ' || a.as_of || ' ' || md5(string_agg(
  concat_ws('|', p.prediction_type, p.prediction_date, p.predicted_values, p.confidence_score), ';'
  order by p.prediction_type, p.prediction_date))
from ml_predictions as p join ml_active_forecast as a using (tenant_id)
group by p.tenant_id, a.output_hash, a.input_hash, a.as_of
"""
_TENANTS = """
select
  i.tenant_id::text as tenant, i.state, coalesce(i.reason, i.error ->> 'message', '') as reason,
  (select count(*) from ml_forecast_ledger as l where l.tenant_id = i.tenant_id and l.run_id = i.run_id) as published,
  (select count(*) from ml_models as m where m.tenant_id = i.tenant_id and m.run_id = i.run_id) as models,
  (select count(*) from ml_models as m where m.tenant_id = i.tenant_id and m.stage = 'production') as current_models,
  (select count(*) from ml_predictions as p
   where p.tenant_id = i.tenant_id and p.prediction_type = 'sales_forecast' and p.prediction_date > a.as_of) as days,
  (select count(distinct (p.run_id, p.fence)) from ml_predictions as p
   where p.tenant_id = i.tenant_id and p.prediction_date > a.as_of) as fences,
  (select bool_and(p.run_id = a.run_id and p.fence = a.fence and p.model_version = a.model_version)
   from ml_predictions as p where p.tenant_id = i.tenant_id and p.prediction_date > a.as_of) as is_current,
  coalesce(a.run_id = i.run_id, false) as is_ours
from ml_run_item as i left join ml_active_forecast as a on a.tenant_id = i.tenant_id
where i.run_id = %s
"""
_EVERYTHING_OF = """
select md5(string_agg(line, ';' order by line)) from (
  select 'p' || p::text as line from ml_predictions as p where tenant_id = %(t)s
  union all select 'm' || m::text from ml_models as m where tenant_id = %(t)s
  union all select 'l' || l::text from ml_forecast_ledger as l where tenant_id = %(t)s
  union all select 's' || s::text from ml_input_snapshot as s where tenant_id = %(t)s
  union all select 'a' || a::text from ml_active_forecast as a where tenant_id = %(t)s
  union all select 'i' || i::text from ml_run_item as i where tenant_id = %(t)s and run_id = any (%(r)s)
) as lines
"""


# Who began to work on which tenant, in the order of the fences: the ledger itself keeps only the last one.
_CLAIMS = """
create table chaos_claim (fence bigint primary key, run_id uuid not null, tenant_id uuid not null);
create function chaos_claim() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.chaos_claim values (new.fence, new.run_id, new.tenant_id);
  return null;
end; $$;
create trigger chaos_claim after update on ml_run_item for each row
when (new.state = 'running' and new.fence is distinct from old.fence) execute function chaos_claim();
"""


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


def outputs(database: Database) -> dict[str, str]:
    """What each tenant's current forecast is, value for value, as one text; no run, fence or time is in it."""
    return {str(tenant): str(text) for tenant, text in database.ask(_OUTPUT)}


def undisturbed(settings: Settings, database: Database, as_of: date) -> dict[str, str]:
    """The outputs of a run that nothing disturbs, without Celery; afterwards the database is as before it."""
    summary = retrain(settings, FAST_SETTINGS, as_of=as_of)
    assert summary["published"] + summary["no_sales_yet"] == summary["total"], (
        f"the undisturbed run is not whole: {summary}"
    )
    found = outputs(database)
    database.ask(f"truncate {WRITTEN} cascade")
    return found


@dataclass
class LedgerWork:
    """One run over ``tenants``; `bystanders` have a forecast already and are no part of it."""

    database: Database
    run_id: UUID
    tenants: list[str]
    expected: dict[str, str]
    bystanders: dict[str, str]  # tenant -> digest of everything that stands of it
    known_runs: list[UUID]

    @classmethod
    def start(
        cls, settings: Settings, database: Database, tenants: list[str], bystanders: list[str], as_of: date
    ) -> "LedgerWork":
        """The undisturbed outputs first, then the bystanders' forecast, then the run that faults will hit."""
        expected = undisturbed(settings, database, as_of)
        if bystanders:
            retrain(settings, FAST_SETTINGS, tenants=[TenantId(UUID(t)) for t in bystanders], as_of=as_of)
        known = [row[0] for row in database.ask("select run_id from ml_run")]
        before = {tenant: everything_of(database, tenant, known) for tenant in bystanders}
        with psycopg.connect(database.url) as connection:
            connection.execute(_CLAIMS)
        return cls(database, start_run(database, tenants, as_of), tenants, expected, before, known)

    def retry(self) -> None:
        """What an operator does with `tenantcast runs retry`: all failed items once more."""
        with _gateway(self.database) as gateway:
            SystemStore(gateway).retry_items(self.run_id)

    def finished(self) -> int:
        query = "select count(*) from ml_run_item where run_id = %s and finished_at is not null"
        return int(self.database.one(query, self.run_id))

    def held(self) -> set[tuple[str, int]]:
        query = "select tenant_id::text, fence from ml_run_item where run_id = %s and state = 'running'"
        return {(str(tenant), int(fence)) for tenant, fence in self.database.ask(query, self.run_id)}

    def is_over(self) -> bool:
        return self.database.one("select finished_at from ml_run where run_id = %s", self.run_id) is not None

    def states(self) -> dict[str, int]:
        """How many items are in each state."""
        query = "select state, count(*) from ml_run_item where run_id = %s group by state"
        return {str(state): int(count) for state, count in self.database.ask(query, self.run_id)}

    def published_with(self) -> int:
        """The fence of the one forecast that this run has published last."""
        query = "select max(fence) from ml_active_forecast where run_id = %s"
        return int(self.database.one(query, self.run_id))

    def failed_candidates(self, tenants: list[str]) -> dict[str, list[str]]:
        """What the reports of these tenants say about candidates that failed: a forecast without them is another."""
        query = """
            select i.tenant_id::text, s ->> 'reason'
            from ml_run_item as i, jsonb_array_elements(i.report -> 'scores') as s
            where i.run_id = %s and i.tenant_id = any (%s::uuid[]) and s ->> 'status' = 'failed'
        """
        found: dict[str, list[str]] = {}
        for tenant, reason in self.database.ask(query, self.run_id, tenants):
            found.setdefault(str(tenant), []).append(str(reason))
        return found

    def judge(self) -> Verdict:
        rows = {row["tenant"]: row for row in _rows(self.database, _TENANTS, self.run_id)}
        now = outputs(self.database)
        done = {tenant for tenant, row in rows.items() if row["state"] == "done"}
        ended = done | {t for t, row in rows.items() if row["state"] in {"failed", "skipped"} and row["reason"]}
        return Verdict(
            tenants=len(self.tenants),
            lost=sorted((set(self.tenants) - ended) | {t for t in done if not rows[t]["published"] or t not in now}),
            doubled=sorted(t for t, row in rows.items() if _is_doubled(row)),
            mixed=sorted(t for t in done if not _is_whole(rows[t])),
            different=sorted(t for t in done if now.get(t) != self.expected[t]),
            orphaned=sorted(t for t, row in rows.items() if row["state"] in {"pending", "running"}),
            foreign=sorted(self._changed_bystanders() | (set(rows) - set(self.tenants))),
            parked=sorted(t for t, row in rows.items() if row["state"] == "failed"),
            attempts=int(self.database.one("select count(*) from chaos_claim where run_id = %s", self.run_id)),
        )

    def _changed_bystanders(self) -> set[str]:
        return {
            tenant
            for tenant, before in self.bystanders.items()
            if everything_of(self.database, tenant, self.known_runs) != before
        }


def _is_doubled(row: dict[str, Any]) -> bool:
    return bool(row["published"] > 1 or row["models"] > 1 or row["current_models"] > 1)


def _is_whole(row: dict[str, Any]) -> bool:
    return bool(row["is_ours"] and row["is_current"] and row["fences"] == 1 and row["days"] == HORIZON_DAYS)


def start_run(database: Database, tenants: list[str], as_of: date, *, ring: bool = True) -> UUID:
    """A run over these tenants, as the product starts one."""
    chosen = [TenantId(UUID(tenant)) for tenant in tenants]
    with _gateway(database) as gateway:
        return runs.start_run(gateway, KIND, tenants=chosen, as_of=as_of, ring=ring)


@contextmanager
def _gateway(database: Database) -> Iterator[Gateway]:
    gateway = PostgresGateway(database.url)
    try:
        yield gateway
    finally:
        gateway.close()


def everything_of(database: Database, tenant: str, runs_: list[UUID]) -> str:
    """A digest of every row of the tenant, items of these runs included; any change at all changes it."""
    query = _EVERYTHING_OF.replace("%(t)s", "'" + str(UUID(tenant)) + "'").replace("%(r)s", "%s")
    return str(database.one(query, runs_))


def _rows(database: Database, query: str, *values: object) -> list[dict[str, Any]]:
    wrapped = f"select to_jsonb(found) from ({query}) as found"
    return [row[0] for row in database.ask(wrapped, *values)]
