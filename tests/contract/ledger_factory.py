"""Runs, results and rows for the ledger's tests: small, valid, and easy to bend."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import psycopg

from app.db.gateway import Gateway

TENANT = UUID("aaaaaaaa-0000-4000-8000-000000000001")
STRANGER = UUID("bbbbbbbb-0000-4000-8000-000000000002")
AS_OF = date(2026, 11, 20)
LEASE = 90

TENANT_VIEW = """
drop view if exists tenantcast_source.tenant_source;
create table public.shops (tenant_id uuid primary key, name text, active boolean);
create view tenantcast_source.tenant_source as
select s.tenant_id, s.name, 'Europe/Madrid'::text as time_zone, 0 as cutoff_hour, 'ES'::text as country,
       'es'::text as language, 'EUR'::text as currency, s.active
from public.shops as s
where s.tenant_id = (select tenantcast_source.current_tenant()) or current_user = 'tenantcast_system';
grant select on tenantcast_source.tenant_source to tenantcast_worker, tenantcast_system;
"""
SALES_VIEW = """
drop view if exists tenantcast_source.sales_source;
create table public.tickets (tenant_id uuid, id text, at timestamptz, total numeric);
create view tenantcast_source.sales_source as
select t.tenant_id, t.id as sale_id, t.at as sold_at, t.total as amount, 1::numeric as quantity, 'p'::text as product_id
from public.tickets as t
where t.tenant_id = (select tenantcast_source.current_tenant());
grant select on tenantcast_source.sales_source to tenantcast_worker;
"""


def give_tenants(url: str, tenants: Mapping[UUID, str], *, inactive: Iterable[UUID] = ()) -> None:
    """Replace the source of tenants by a table of the given ids and names."""
    with psycopg.connect(url) as connection:
        connection.execute(TENANT_VIEW)
        for tenant, name in tenants.items():
            connection.execute("insert into public.shops values (%s, %s, %s)", (tenant, name, tenant not in inactive))


def give_sales(url: str, counts: Mapping[UUID, int]) -> None:
    """Replace the source of sales by a table with so many rows per tenant, each of 1.00."""
    with psycopg.connect(url) as connection:
        connection.execute(SALES_VIEW)
        for tenant, rows in counts.items():
            connection.execute(
                "insert into public.tickets"
                " select %s, n::text, '2026-11-01 12:00Z', 1.00 from generate_series(1, %s) as n",
                (tenant, rows),
            )


def start(gateway: Gateway, *tenants: UUID, kind: str = "retrain", **params: Any) -> str:
    """A run over ``tenants``; its id."""
    run = gateway.call(
        "ml_start_run",
        {
            "p_kind": kind, "p_slot": None, "p_params": params, "p_code_version": "0.1.0",
            "p_tenant_ids": [str(tenant) for tenant in tenants],
        },
    )  # fmt: skip
    assert isinstance(run, dict)
    return str(run["run_id"])


def claim(gateway: Gateway, run_id: str, tenant: UUID = TENANT, lease: int = LEASE) -> dict[str, Any]:
    answer = gateway.call("ml_claim_item", {"p_tenant_id": tenant, "p_run_id": run_id, "p_lease_seconds": lease})
    assert isinstance(answer, dict)
    return answer


def fail(gateway: Gateway, run_id: str, fence: int, retry: int | None, tenant: UUID = TENANT) -> dict[str, Any]:
    error = {"kind": "transient", "code": "x", "message": "It broke.", "next_step": ""}
    answer = gateway.call(
        "ml_fail_item",
        {"p_tenant_id": tenant, "p_run_id": run_id, "p_fence": fence, "p_error": error, "p_retry_in_seconds": retry},
    )
    assert isinstance(answer, dict)
    return answer


def result(as_of: date = AS_OF, *, version: str = "v1", horizon: int = 3, yhat: float = 10.0) -> dict[str, Any]:
    """What publish takes: ``horizon`` days of ``yhat`` +- 1 after ``as_of``, one flagged day."""
    days = [as_of + timedelta(days=step) for step in range(1, horizon + 1)]
    return deepcopy(
        {
            "as_of": as_of.isoformat(),
            "input_hash": f"{as_of:%Y%m%d}",
            "output_hash": "0d" + f"{as_of:%Y%m%d}",
            "code_version": "0.1.0",
            "predictions": [
                {"date": day.isoformat(), "yhat": yhat, "yhat_lower": yhat - 1, "yhat_upper": yhat + 1} for day in days
            ],
            "anomalies": [{"date": as_of.isoformat(), "y": 99.5, "score": 6.1, "is_anomaly": True}],
            "confidence_score": 0.71,
            "model": {
                "model_type": "sales_forecast", "model_version": version, "model_data": "TU9ERUw=",
                "hyperparameters": {"h": 1}, "training_metrics": {"mae": 0.5}, "accuracy": 0.83,
            },
            "snapshot": "U05BUA==",
            "report": {"chosen": "blend", "quality": {"rows": 7}},
            "notifications": [{"dedupe_key": "k1", "kind": "anomaly", "title": "An unusual day"}],
        }
    )  # fmt: skip


def publish(
    gateway: Gateway, run_id: str, fence: int, what: Mapping[str, Any], tenant: UUID = TENANT
) -> dict[str, Any]:
    answer = gateway.call(
        "ml_publish_item", {"p_tenant_id": tenant, "p_run_id": run_id, "p_fence": fence, "p_result": dict(what)}
    )
    assert isinstance(answer, dict)
    return answer


def published(gateway: Gateway, what: Mapping[str, Any], tenant: UUID = TENANT) -> tuple[str, int]:
    """A whole run of one tenant; run id and fence."""
    run_id = start(gateway, tenant)
    fence = claim(gateway, run_id, tenant)["fence"]
    answer = publish(gateway, run_id, fence, what, tenant)
    assert answer["outcome"] == "published", answer
    return run_id, fence


def rows(url: str, statement: str, *params: object) -> list[tuple[Any, ...]]:
    """What the owner of the database sees."""
    with psycopg.connect(url) as connection:
        return connection.execute(statement, params).fetchall()


def let_leases_run_out(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("update public.ml_run_item set lease_until = now() - interval '1 s' where state = 'running'")


def wait_is_over(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("update public.ml_run_item set not_before = now() - interval '1 s'")
