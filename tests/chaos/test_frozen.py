"""Workers that are stopped, not killed: what an idle one had just been sent, and what a busy one does when it wakes."""

import signal
from functools import partial

from app.celery_app import KEY_PREFIX, ML
from tests.chaos.backends import Database
from tests.chaos.doorbell import doorbell
from tests.chaos.fleet import PATIENCE_SECONDS, Member, wait_for
from tests.chaos.ledger import LedgerWork, everything_of, start_run, yesterday
from tests.chaos.stage import ledger_roles
from tests.chaos.storm import Storm
from tests.chaos.tenants import add_shops
from tests.servers.redis import RedisServer

ROUNDS = 10
SLOW_FIT_SECONDS = 1.5


def test_ten_of_ten_messages_that_a_frozen_idle_worker_took_to_its_grave_are_rung_again(stage):
    tenants = add_shops(stage.database, ROUNDS)
    # Nobody is rung for these before the harness says so: the one message that vanishes is the harness's own.
    run_ids = [start_run(stage.database, [tenant], yesterday(), ring=False) for tenant in tenants]
    scene = stage.scene(ledger_roles(workers=1, children=1))
    vanished = 0

    try:
        scene.fleet.start()
        with doorbell(stage.backends.redis) as ring:
            for tenant, run_id in zip(tenants, run_ids, strict=True):
                worker = scene.fleet.members["ml0"]
                wait_for("an idle worker", partial(_waits_for_messages, stage.backends.redis, worker))
                worker.signal_all(signal.SIGSTOP)
                ring(run_id, tenant)
                vanished += _queued(stage.backends.redis) == 0
                worker.signal_all(signal.SIGKILL)
                worker.process.wait(PATIENCE_SECONDS)
                stage.database.ask("update ml_run set ring = true where run_id = %s", run_id)
                scene.fleet.tend()
        wait_for("the end of all runs", lambda: not _open_runs(stage.database))
    finally:
        scene.fleet.stop()

    print(f"{vanished} of {ROUNDS} messages vanished with the worker")
    states = stage.database.ask("select state from ml_run_item where run_id = any (%s)", run_ids)
    assert vanished >= ROUNDS // 2, f"only {vanished} messages vanished: this test shows nothing"
    assert states == [("done",)] * ROUNDS


def test_a_paused_worker_that_wakes_after_its_lease_changes_no_row(stage):
    tenant, *_ = add_shops(stage.database, 1)
    work = LedgerWork.start(stage.settings, stage.database, [tenant], [], yesterday())
    scene = stage.scene(ledger_roles(workers=2, children=1), fit_seconds=SLOW_FIT_SECONDS)

    try:
        scene.fleet.start("ml0", "control", "beat0")
        wait_for("a worker at work", work.held)
        paused, fence = scene.fleet.members["ml0"], work.held()
        paused.signal_all(signal.SIGSTOP)
        scene.fleet.start("ml1")
        Storm(scene, work, [], tenants=1).blow()
        before = everything_of(stage.database, tenant, [work.run_id])
        paused.signal_all(signal.SIGCONT)
        wait_for("word of the lost lease", lambda: '"kind": "lost"' in paused.log.read_text())
        after = everything_of(stage.database, tenant, [work.run_id])
    finally:
        scene.fleet.stop()

    verdict = work.judge()
    assert after == before
    assert verdict.wrong == {}
    assert verdict.attempts == 2
    assert work.published_with() not in {number for _, number in fence}


def _waits_for_messages(redis: RedisServer, worker: Member) -> bool:
    """Whether the worker has a pool and one of its connections is blocked (in BRPOP)."""
    ports = {c.laddr.port for process in worker.family()[:1] for c in process.net_connections("tcp")}
    with redis.client() as client:
        waiting = {int(c["addr"].rsplit(":", 1)[1]) for c in client.client_list() if "b" in c["flags"]}
    return bool(ports & waiting) and bool(worker.children())


def _queued(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.llen(KEY_PREFIX + ML))


def _open_runs(database: Database) -> int:
    return int(database.one("select count(*) from ml_run where finished_at is null"))
