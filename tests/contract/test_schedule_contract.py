"""Rings, the reconciler, the schedule's slots, cancel and retry, through both gateways."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest

from app.config.cron import Cron
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from app.db.store import SystemStore
from app.errors import BellUnavailable, QueryRefused, UnknownRun
from app.services import runs
from app.services.reconcile import reconcile
from app.services.retrain import start_retrain
from app.services.schedule import Job, Tick, catch_up, finish_slot, take_slot
from app.tenancy import TenantId
from tests.contract.ledger_factory import (
    STRANGER,
    TENANT,
    claim,
    fail,
    give_sales,
    give_tenants,
    let_leases_run_out,
    publish,
    result,
    rows,
    start,
)

PERIOD, WINDOW = 30, 32


class Recorder:
    """A bell, and a clockwork, that remember."""

    def __init__(self, breaks_after: int = 10**9) -> None:
        self.rung: list[tuple[str, UUID]] = []
        self.triggered: list[str] = []
        self._breaks_after = breaks_after

    def ring(self, run_id: UUID, tenant_id: TenantId) -> None:
        if len(self.rung) >= self._breaks_after:
            raise BellUnavailable
        self.rung.append((str(run_id), tenant_id))

    def trigger(self, job: str) -> None:
        self.triggered.append(job)


def next_items(gateway: Gateway, run_id: str, window: int = WINDOW) -> list[tuple[str, UUID]]:
    answer = SystemStore(gateway).next_items(UUID(run_id), PERIOD, window)
    return [(ring["run_id"], UUID(ring["tenant_id"])) for ring in answer["ring"]]


def look(gateway: Gateway) -> dict[str, Any]:
    return SystemStore(gateway).reconcile(PERIOD, WINDOW)


def items(url: str, run_id: str) -> dict[UUID, tuple[str, int, int]]:
    found = rows(url, "select tenant_id, state, attempt, losses from ml_run_item where run_id = %s", run_id)
    return {tenant: (state, attempt, losses) for tenant, state, attempt, losses in found}


def alter(url: str, statement: str, *params: object) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement, params)


def a_period_passes(url: str) -> None:
    alter(url, "update ml_run_item set rung_at = rung_at - make_interval(secs => %s)", PERIOD + 1)


# --- rings -----------------------------------------------------------------------------------------------------------


def test_runs_take_turns_and_small_tenants_come_first_within_each(gateway: Gateway, database_url: str) -> None:
    small, middle, giant = UUID(int=9), UUID(int=8), UUID(int=1)
    give_sales(database_url, {small: 1, middle: 5, giant: 50})
    big_run = start(gateway, small, middle, giant)
    request = start(gateway, TENANT, kind="trial")

    rung = next_items(gateway, big_run)

    # First the smallest of each run (TENANT has no sales at all), then the second of the long one, then the giant.
    assert rung == [(request, TENANT), (big_run, small), (big_run, middle), (big_run, giant)]


def test_what_was_rung_for_is_not_rung_for_again_within_a_period(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT, STRANGER)
    first = next_items(gateway, run_id)

    at_once = next_items(gateway, run_id)
    a_period_passes(database_url)
    later = next_items(gateway, run_id)

    assert sorted(first) == [(run_id, TENANT), (run_id, STRANGER)]
    assert at_once == []
    assert sorted(later) == sorted(first)
    assert rows(database_url, "select distinct rings from ml_run_item") == [(2,)]


def test_no_more_messages_are_out_than_the_window_and_a_claim_makes_room(gateway: Gateway) -> None:
    tenants = [UUID(int=n) for n in range(1, 8)]
    run_id = start(gateway, *tenants)

    first = next_items(gateway, run_id, window=3)
    full = next_items(gateway, run_id, window=3)
    for _, tenant in first[:2]:
        claim(gateway, run_id, tenant)
    # Two are being worked on and one message is out, of the four that two workers allow.
    more = next_items(gateway, run_id, window=3)

    assert [tenant for _, tenant in first] == tenants[:3]
    assert full == []
    assert [tenant for _, tenant in more] == tenants[3:6]


def test_who_cannot_be_claimed_now_is_not_rung_for(gateway: Gateway) -> None:
    busy_elsewhere, waiting, free = TENANT, STRANGER, UUID(int=3)
    other = start(gateway, busy_elsewhere, kind="trial")
    claim(gateway, other, busy_elsewhere)
    run_id = start(gateway, busy_elsewhere, waiting, free)
    fail(gateway, run_id, claim(gateway, run_id, waiting)["fence"], 60, waiting)

    assert next_items(gateway, run_id) == [(run_id, free)]


def test_a_run_that_its_starter_works_off_is_rung_for_after_two_silent_minutes(
    gateway: Gateway, database_url: str
) -> None:
    run_id = str(runs.start_run(gateway, "retrain", tenants=[TenantId(TENANT)], ring=False))

    at_once = next_items(gateway, run_id)
    alter(database_url, "update ml_run_item set not_before = not_before - interval '121 s'")
    later = next_items(gateway, run_id)

    assert at_once == []
    assert later == [(run_id, TENANT)]


def test_callers_at_once_share_the_rings(database_url: str) -> None:
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(6)]
    tenants = [UUID(int=n) for n in range(1, 61)]
    run_id = start(gateways[0], *tenants)

    with ThreadPoolExecutor(6) as pool:
        shares = list(pool.map(lambda each: next_items(each, run_id, window=60), gateways))
    rest = next_items(gateways[0], run_id, window=60)
    for each in gateways:
        each.close()

    rung = [tenant for share in shares for _, tenant in share] + [tenant for _, tenant in rest]
    assert sorted(rung) == tenants


def test_a_bell_that_breaks_fails_no_start_and_the_rest_is_rung_for_later(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {UUID(int=n): f"T{n}" for n in range(1, 6)})
    settings = Settings(ml_reconcile_seconds=PERIOD)
    broken, mended = Recorder(breaks_after=2), Recorder()

    started = start_retrain(gateway, broken, settings, MLSettings())
    a_period_passes(database_url)
    reconcile(gateway, mended, mended, settings, MLSettings())

    assert started["rung"] == 2
    assert sorted(tenant.int for _, tenant in mended.rung) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("period", "window"), [(0, 1), (None, 1), (1, 0), (1, 10_001), (1, None)])
def test_a_senseless_period_or_window_is_refused(gateway: Gateway, period: int | None, window: int | None) -> None:
    with pytest.raises(QueryRefused):
        gateway.call("ml_reconcile", {"p_ring_seconds": period, "p_window": window})


# --- claims ----------------------------------------------------------------------------------------------------------


def test_the_same_claimant_asking_again_gets_the_same_lease_and_nobody_else_does(gateway: Gateway) -> None:
    run_id = start(gateway, TENANT, force=True)
    call = {"p_tenant_id": TENANT, "p_run_id": run_id, "p_lease_seconds": 60, "p_claimant": uuid4()}

    first, again = gateway.call("ml_claim_item", call), gateway.call("ml_claim_item", call)
    other = gateway.call("ml_claim_item", {**call, "p_claimant": uuid4()})
    nameless = claim(gateway, run_id)

    assert isinstance(first, dict)
    assert first["outcome"] == "claimed"
    assert again == first
    assert isinstance(other, dict)
    assert (other["outcome"], nameless["outcome"]) == ("busy", "busy")


def test_a_claimant_whose_lease_has_run_out_starts_over_with_a_new_fence(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    call = {"p_tenant_id": TENANT, "p_run_id": run_id, "p_lease_seconds": 60, "p_claimant": uuid4()}
    first = gateway.call("ml_claim_item", call)
    let_leases_run_out(database_url)

    again = gateway.call("ml_claim_item", call)

    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert again["outcome"] == "claimed"
    assert again["fence"] != first["fence"]
    assert again["attempt"] == 3  # the lost lease counts double


# --- the reconciler --------------------------------------------------------------------------------------------------


def test_leases_that_ran_out_are_taken_back_in_every_run_and_rung_for_at_once(
    gateway: Gateway, database_url: str
) -> None:
    one, other = start(gateway, TENANT), start(gateway, STRANGER, kind="trial")
    next_items(gateway, one)
    claim(gateway, one)
    claim(gateway, other, STRANGER)
    let_leases_run_out(database_url)

    answer = look(gateway)

    assert answer["expired"] == 2
    assert sorted(ring["run_id"] for ring in answer["ring"]) == sorted([one, other])
    assert items(database_url, one) == {TENANT: ("pending", 2, 1)}


def test_an_item_that_lost_two_workers_is_parked_and_its_run_ends(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    answers = []
    for _ in range(2):
        claim(gateway, run_id)
        let_leases_run_out(database_url)
        answers.append(look(gateway))

    assert [answer["expired"] for answer in answers] == [1, 1]
    assert [len(answer["ring"]) for answer in answers] == [1, 0]
    assert [answer["finished"] for answer in answers] == [0, 1]
    error = rows(database_url, "select state, error ->> 'code' from ml_run_item")
    assert error == [("failed", "worker_lost")]


def test_the_last_item_of_a_run_ends_it(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    publish(gateway, run_id, claim(gateway, run_id)["fence"], result())

    answer = SystemStore(gateway).next_items(UUID(run_id), PERIOD, WINDOW)

    assert answer == {"finished": 1, "ring": []}
    assert rows(database_url, "select finished_at is not null from ml_run") == [(True,)]


def test_looking_twice_changes_nothing_more(gateway: Gateway) -> None:
    run_id = start(gateway, TENANT)
    claim(gateway, run_id)
    look(gateway)

    assert look(gateway) == {"expired": 0, "finished": 0, "ring": []}


# --- slots -----------------------------------------------------------------------------------------------------------


def job(lateness: timedelta = timedelta(hours=1), lease: timedelta = timedelta(minutes=1)) -> Job:
    return Job("tidy-up", "app.workers.x", Cron.parse("* * * * *"), lateness, lease)


def ticks(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "select slot, attempts, finished_at is not null from tenantcast_internal.schedule_tick order by 1")


def test_a_slot_is_taken_once_and_stays_done(gateway: Gateway) -> None:
    store = SystemStore(gateway)
    slot = datetime(2026, 11, 16, 2, tzinfo=UTC)

    first = store.claim_tick("retrain", slot, 60)
    second = store.claim_tick("retrain", slot, 60)
    done = store.finish_tick("retrain", slot, first["fence"])
    third = store.claim_tick("retrain", slot, 60)

    assert first["outcome"] == "claimed"
    assert second == {"outcome": "busy"}
    assert done == {"outcome": "finished"}
    assert store.finish_tick("retrain", slot, first["fence"]) == {"outcome": "finished"}  # a repeat
    assert third == {"outcome": "finished"}


def test_a_slot_whose_taker_died_is_taken_again_four_times_in_all(gateway: Gateway, database_url: str) -> None:
    store = SystemStore(gateway)
    slot = datetime(2026, 11, 16, 2, tzinfo=UTC)
    answers = []
    for _ in range(5):
        answers.append(store.claim_tick("retrain", slot, 60))
        alter(database_url, "update tenantcast_internal.schedule_tick set lease_until = now() - interval '1 s'")

    assert [answer["outcome"] for answer in answers] == ["claimed"] * 4 + ["busy"]
    assert store.finish_tick("retrain", slot, answers[0]["fence"]) == {"outcome": "lost"}
    assert store.read_schedule()["last"]["retrain"]["open"] is False


def test_a_slot_in_the_future_is_refused(gateway: Gateway) -> None:
    with pytest.raises(QueryRefused, match="future"):
        SystemStore(gateway).claim_tick("retrain", datetime.now(UTC) + timedelta(hours=1), 60)


def test_three_beats_that_send_sixty_slots_make_sixty_runs(database_url: str) -> None:
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(3)]
    slots = [datetime(2026, 1, 5, 2, tzinfo=UTC) + timedelta(days=7 * week) for week in range(46)]
    slots += [datetime(2025, 1, 6, 2, tzinfo=UTC) + timedelta(days=7 * week) for week in range(14)]
    bell = Recorder()

    def beat(gateway: PostgresGateway) -> list[str]:
        return [
            start_retrain(gateway, bell, Settings(), MLSettings(), slot=slot, tenants=[TenantId(TENANT)])["run_id"]
            for slot in slots
        ]

    with ThreadPoolExecutor(3) as pool:
        seen = list(pool.map(beat, gateways))
    for each in gateways:
        each.close()

    assert len(slots) == 60
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 60
    assert rows(database_url, "select count(*), count(distinct slot) from ml_run") == [(60, 60)]


def test_of_two_messages_of_one_slot_one_is_carried_out(gateway: Gateway) -> None:
    daily = Job("daily", "t", Cron.parse("0 0 * * *"), timedelta(hours=25))

    first, second = take_slot(gateway, daily), take_slot(gateway, daily)
    assert isinstance(first, Tick)
    finish_slot(gateway, first)

    assert second is None
    assert take_slot(gateway, daily) is None
    assert first.slot.time() == time(0)
    assert timedelta(0) <= datetime.now(UTC) - first.slot <= timedelta(hours=25)


def test_a_message_that_comes_too_late_for_its_slot_does_nothing(gateway: Gateway) -> None:
    # A full queue has kept it for longer than is allowed, which is not at all.
    daily = Job("daily", "t", Cron.parse("0 0 * * *"), timedelta(0))

    assert take_slot(gateway, daily) is None


def test_a_beat_that_was_down_for_three_slots_is_caught_up_once(gateway: Gateway, database_url: str) -> None:
    clockwork, minutely = Recorder(), job()
    tick = take_slot(gateway, minutely)
    assert tick is not None
    finish_slot(gateway, tick)
    alter(database_url, "update tenantcast_internal.schedule_tick set slot = slot - interval '3 minutes'")

    late = catch_up(gateway, clockwork, (minutely,), grace=timedelta(0))
    taken = take_slot(gateway, minutely)
    assert taken is not None
    finish_slot(gateway, taken)
    carried_out = ticks(database_url)

    assert late == clockwork.triggered == ["tidy-up"]
    assert len(carried_out) == 2  # the one before the pause and the newest: what lies between is not made up for
    assert carried_out[1][0] - carried_out[0][0] >= timedelta(minutes=3)


def test_a_slot_that_is_done_or_at_work_or_just_due_is_not_caught_up(gateway: Gateway, database_url: str) -> None:
    clockwork, daily = Recorder(), Job("daily", "t", Cron.parse("0 0 * * *"), timedelta(hours=25))
    tick = take_slot(gateway, daily)
    assert tick is not None

    at_work = catch_up(gateway, clockwork, (daily,), grace=timedelta(0))
    finish_slot(gateway, tick)
    done = catch_up(gateway, clockwork, (daily,), grace=timedelta(0))
    alter(database_url, "update tenantcast_internal.schedule_tick set slot = slot - interval '1 day'")
    just_due = catch_up(gateway, clockwork, (daily,), grace=timedelta(hours=25))
    too_late = catch_up(gateway, clockwork, (Job("daily", "t", daily.rhythm, timedelta(0)),), grace=timedelta(0))
    due = catch_up(gateway, clockwork, (daily,), grace=timedelta(0))

    assert (at_work, done, just_due, too_late, due) == ([], [], [], [], ["daily"])


def test_a_slot_whose_taker_died_is_caught_up(gateway: Gateway, database_url: str) -> None:
    clockwork, daily = Recorder(), Job("daily", "t", Cron.parse("0 0 * * *"), timedelta(hours=25))
    assert take_slot(gateway, daily) is not None
    alter(database_url, "update tenantcast_internal.schedule_tick set lease_until = now() - interval '1 s'")

    assert catch_up(gateway, clockwork, (daily,), grace=timedelta(0)) == ["daily"]
    assert take_slot(gateway, daily) is not None


def test_a_new_installation_has_nothing_to_catch_up(gateway: Gateway, database_url: str) -> None:
    clockwork, daily = Recorder(), Job("daily", "t", Cron.parse("0 0 * * *"), timedelta(hours=25))

    first = catch_up(gateway, clockwork, (daily,), grace=timedelta(0))
    second = catch_up(gateway, clockwork, (daily,), grace=timedelta(0))

    assert first == second == clockwork.triggered == []
    assert [(attempts, finished) for _, attempts, finished in ticks(database_url)] == [(1, True)]


# --- when tenants of a scheduled run begin ---------------------------------------------------------------------------


def test_a_scheduled_run_begins_its_tenants_spread_over_the_window(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {UUID(int=n): f"T{n}" for n in range(1, 101)})

    started = [SystemStore(gateway).start_run(kind, {}, "1", spread_seconds=1000) for kind in ("one", "two")]

    waits = rows(
        database_url,
        "select extract(epoch from i.not_before - r.created_at)::float, i.tenant_id from ml_run_item i"
        " join ml_run r using (run_id) where run_id = %s order by 1",
        started[0]["run_id"],
    )
    again = rows(
        database_url, "select tenant_id from ml_run_item where run_id = %s order by not_before", started[1]["run_id"]
    )
    assert waits[0][0] >= 0
    assert waits[-1][0] <= 1005  # seconds; the last ones are made a moment after the run
    quarters = [sum(q * 250 <= wait < (q + 1) * 250 for wait, _ in waits) for q in range(4)]
    assert min(quarters) >= 12  # of 25 on average
    # The same tenant has the same place in every run (their order, but for ties of one second).
    places = {tenant: place for place, (_, tenant) in enumerate(waits)}
    assert all(abs(places[tenant] - place) <= 3 for place, (tenant,) in enumerate(again))


def test_a_scheduled_run_can_wait_for_each_tenants_own_night(gateway: Gateway, database_url: str) -> None:
    zones = {UUID(int=1): "Asia/Tokyo", UUID(int=2): "America/Bogota", UUID(int=3): "Nowhere/AtAll"}
    give_tenants(database_url, dict.fromkeys(zones, "T"))
    alter(database_url, "alter table public.shops add column zone text")
    for tenant, zone in zones.items():
        alter(database_url, "update public.shops set zone = %s where tenant_id = %s", zone, tenant)
    alter(
        database_url,
        "create or replace view tenantcast_source.tenant_source as select s.tenant_id, s.name, s.zone as time_zone,"
        " 0 as cutoff_hour, 'ES'::text as country, 'es'::text as language, 'EUR'::text as currency, s.active"
        " from public.shops as s where s.tenant_id = (select tenantcast_source.current_tenant())"
        " or current_user = 'tenantcast_system'",
    )

    SystemStore(gateway).start_run("retrain", {}, "1", local_hour=3)

    now = datetime.now(UTC)
    begins = dict(rows(database_url, "select tenant_id, not_before from ml_run_item"))
    for tenant in (UUID(int=1), UUID(int=2)):
        local = begins[tenant].astimezone(ZoneInfo(zones[tenant]))
        assert (local.hour, local.minute, local.second) == (3, 0, 0)
        assert timedelta(seconds=-60) <= begins[tenant] - now <= timedelta(hours=24)
    assert begins[UUID(int=3)] <= now  # an unknown zone waits for nobody's night


# --- cancel and retry ------------------------------------------------------------------------------------------------


def test_a_cancelled_run_is_over_and_whoever_works_on_it_writes_nothing(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT, STRANGER)
    fence = claim(gateway, run_id)["fence"]

    answer = runs.cancel_run(gateway, UUID(run_id))

    assert answer["cancelled"] == 2
    assert answer["counts"] == {"done": 0, "failed": 0, "skipped": 2, "pending": 0, "running": 0}
    assert publish(gateway, run_id, fence, result()) == {"outcome": "lost"}
    assert rows(database_url, "select count(*) from ml_predictions") == [(0,)]
    assert rows(database_url, "select finished_at is not null from ml_run") == [(True,)]
    assert runs.cancel_run(gateway, UUID(run_id))["cancelled"] == 0


def test_what_failed_is_tried_again_as_if_for_the_first_time(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT, STRANGER)
    fail(gateway, run_id, claim(gateway, run_id)["fence"], None)
    publish(gateway, run_id, claim(gateway, run_id, STRANGER)["fence"], result(), STRANGER)
    next_items(gateway, run_id)
    bell = Recorder()

    answer = runs.retry_items(gateway, bell, UUID(run_id), Settings(), None)

    assert answer["retried"] == 1
    assert bell.rung == [(run_id, TENANT)]
    assert items(database_url, run_id) == {TENANT: ("pending", 0, 0), STRANGER: ("done", 1, 0)}
    assert rows(database_url, "select finished_at from ml_run") == [(None,)]
    again = claim(gateway, run_id)
    assert (again["outcome"], again["attempt"]) == ("claimed", 1)


def test_a_parked_item_gets_all_its_attempts_back(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    for _ in range(2):
        claim(gateway, run_id)
        let_leases_run_out(database_url)
        look(gateway)

    runs.retry_items(gateway, Recorder(), UUID(run_id), Settings(), None)

    assert items(database_url, run_id) == {TENANT: ("pending", 0, 0)}


def test_of_tenants_that_are_named_cancelled_ones_are_tried_again_too(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT, STRANGER)
    runs.cancel_run(gateway, UUID(run_id))

    unnamed = runs.retry_items(gateway, Recorder(), UUID(run_id), Settings(), None)
    named = runs.retry_items(gateway, Recorder(), UUID(run_id), Settings(), [TenantId(TENANT)])

    assert (unnamed["retried"], named["retried"]) == (0, 1)
    assert {tenant: state for tenant, (state, *_) in items(database_url, run_id).items()} == {
        TENANT: "pending", STRANGER: "skipped",
    }  # fmt: skip


def test_a_run_that_does_not_exist_is_named(gateway: Gateway) -> None:
    with pytest.raises(UnknownRun, match="There is no run"):
        runs.cancel_run(gateway, UUID(int=5))
    with pytest.raises(UnknownRun, match="There is no run"):
        runs.retry_items(gateway, Recorder(), UUID(int=5), Settings(), None)
