"""The worker policy: what is sent where, what beat sends, and that nothing but ids and JSON travels."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from celery.schedules import crontab
from kombu.exceptions import OperationalError

from app.celery_app import QUEUES, TASK_MODULES, make_celery
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.errors import BellUnavailable, UnknownJob, UnknownRun
from app.services.embedded_redis import USUAL_ADDRESS
from app.services.runs import parse_run_id
from app.services.schedule import Job, find_job, jobs
from app.tenancy import TenantId
from app.workers.bell import CeleryBell
from app.workers.process import LIBRARIES, PRELOADED, preloaded
from app.workers.ticking import Task

CHECKOUT = Path(__file__).parents[2]

RUN, TENANT = UUID(int=1), TenantId(UUID(int=2))

TASKS = {
    "app.workers.ml_worker.retrain_all_models": "control",
    "app.workers.ml_worker.train_global_model": "control",
    "app.workers.ml_worker.train_tenant": "ml_processing",
    "app.workers.ml_worker.update_business_features": "ml_processing",
    "app.workers.ml_worker.generate_predictions": "ml_processing",
    "app.workers.ml_worker.analyze_business_trends": "ml_processing",
    "app.workers.notification_worker.send_daily_notifications": "notifications",
    "app.workers.notification_worker.check_notification_rules": "notifications",
    "app.workers.notification_worker.send_notification": "notifications",
    "app.workers.maintenance_worker.cleanup_old_notifications": "maintenance",
    "app.workers.maintenance_worker.cleanup_old_ml_predictions": "maintenance",
    "app.workers.maintenance_worker.cleanup_old_runs": "maintenance",
    "app.workers.maintenance_worker.health_check": "maintenance",
    "app.workers.control_worker.reconcile": "control",
}


@pytest.fixture
def app() -> Celery:
    """The application of the defaults; it talks to nobody."""
    return make_celery(Settings(redis_url="redis://127.0.0.1:1/0"), MLSettings())


class Sent:
    """Stands where Celery sends, and keeps what it is given."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.messages: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []
        self._fault = fault

    def __call__(self, task: str, arguments: tuple[str, ...], **options: Any) -> None:
        if self._fault:
            raise self._fault
        self.messages.append((task, arguments, options))


# --- tasks and queues ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_registered_under_its_module_path_and_has_its_queue(app: Celery, name: str) -> None:
    module, _, function = name.rpartition(".")
    import_module(module)

    assert getattr(import_module(module), function).name == name
    assert isinstance(app.tasks[name], Task)
    assert app.amqp.router.route({}, name)["queue"].name == TASKS[name]


def test_workers_load_every_task_module_and_know_no_other_task(app: Celery) -> None:
    app.loader.import_default_modules()

    assert tuple(app.conf.include) == TASK_MODULES
    assert {name for name in app.tasks if not name.startswith("celery.")} == set(TASKS)


def test_a_misspelt_queue_is_an_error(app: Celery) -> None:
    assert {queue.name for queue in app.conf.task_queues} == set(QUEUES)
    with pytest.raises(Exception, match="ml_procesing"):
        app.amqp.router.route({"queue": "ml_procesing"}, "app.workers.control_worker.reconcile")


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_brokers_own_address_wins_over_that_of_redis() -> None:
    redis, broker = "redis://127.0.0.1:1/0", "redis://127.0.0.1:2/5"

    assert make_celery(Settings(redis_url=redis), MLSettings()).conf.broker_url == redis
    assert make_celery(Settings(redis_url=redis, celery_broker_url=broker), MLSettings()).conf.broker_url == broker
    assert make_celery(Settings(), MLSettings()).conf.broker_url == USUAL_ADDRESS


def test_a_message_comes_back_only_after_its_task_must_be_dead() -> None:
    conf = make_celery(Settings(ml_task_seconds=100), MLSettings()).conf

    assert conf.task_time_limit == 100
    assert conf.task_soft_time_limit == 90
    assert conf.visibility_timeout == 150
    assert conf.broker_transport_options["visibility_timeout"] == 150
    assert conf.result_backend_transport_options["visibility_timeout"] == 150


def test_the_broker_neither_keeps_results_nor_retries_nor_runs_code(app: Celery) -> None:
    conf = app.conf

    assert (conf.result_backend, conf.task_ignore_result) == (None, True)
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.worker_prefetch_multiplier) == (True, False, 1)
    assert (conf.accept_content, conf.task_serializer) == (["json"], "json")
    assert conf.worker_enable_remote_control is False


def test_a_worker_imports_before_the_fork_what_its_candidates_need() -> None:
    fast, all_of_them = MLSettings(model_candidates=("naive", "snaive")), MLSettings()

    assert preloaded(fast) == PRELOADED
    assert set(preloaded(all_of_them)) == {*PRELOADED, *LIBRARIES.values()}
    assert preloaded(fast.model_copy(update={"global_model": True})) == (*PRELOADED, "xgboost")
    for module in preloaded(all_of_them):
        assert find_spec(module) is not None


def test_a_process_that_wants_more_memory_than_allowed_gets_an_error_and_lives() -> None:
    script = (
        "from app.workers.process import limit_memory\n"
        "limit_memory(2048)\n"
        "try:\n    bytearray(3 * 1024**3)\n"
        "except MemoryError:\n    print('refused')\n"
        "limit_memory(None)\nprint(len(bytearray(1024**2)))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip

    assert done.stdout.split() == ["refused", str(1024**2)]


# --- beat ------------------------------------------------------------------------------------------------------------


def test_beat_sends_what_the_design_says(app: Celery) -> None:
    entries = {name: (entry["task"].rpartition(".")[2], entry["schedule"]) for name, entry in
               app.conf.beat_schedule.items()}  # fmt: skip

    assert entries == {
        "daily-notifications": ("send_daily_notifications", crontab(minute="*/15")),
        "weekly-ml-retrain": ("retrain_all_models", crontab(minute=0, hour=2, day_of_week=1)),
        "weekly-global-model": ("train_global_model", crontab(minute=0, hour=0, day_of_week=1)),
        "check-notification-rules": ("check_notification_rules", 300.0),
        "update-ml-features": ("update_business_features", 3600.0),
        "cleanup-old-notifications": ("cleanup_old_notifications", crontab(minute=0, hour=0)),
        "cleanup-old-ml-predictions": ("cleanup_old_ml_predictions", crontab(minute=30, hour=0)),
        "cleanup-old-runs": ("cleanup_old_runs", crontab(minute=0, hour=1)),
        "reconcile": ("reconcile", 30.0),
    }


def test_beat_keeps_nothing_on_disk(app: Celery) -> None:
    assert app.conf.beat_scheduler == "celery.beat:Scheduler"


def test_the_retrain_schedule_and_the_reconcilers_period_are_settings() -> None:
    settings, ml_settings = Settings(ml_reconcile_seconds=5), MLSettings(retrain_cron="30 3 * * 0")

    schedule = make_celery(settings, ml_settings).conf.beat_schedule

    assert schedule["weekly-ml-retrain"]["schedule"] == crontab(minute=30, hour=3, day_of_week=0)
    assert schedule["reconcile"]["schedule"] == 5.0


@pytest.mark.parametrize("job", jobs(MLSettings()), ids=lambda job: job.name)
def test_what_beat_sends_names_its_job_and_outlives_a_clock_that_is_a_day_ahead(app: Celery, job: Job) -> None:
    entry = app.conf.beat_schedule[job.name]

    assert entry["options"] == {"expires": 172_800, "headers": {"job": job.name}}
    assert entry["task"] == job.task
    assert entry["task"] in TASKS
    assert find_job(MLSettings(), job.name) == job


def test_an_interval_has_its_slots_at_whole_multiples_so_that_every_beat_means_the_same_one() -> None:
    rules = find_job(MLSettings(), "check-notification-rules")

    slots = {rules.last_due(datetime(2026, 11, 21, 16, 5, tzinfo=UTC) + timedelta(seconds=s)) for s in range(300)}

    assert slots == {datetime(2026, 11, 21, 16, 5, tzinfo=UTC)}


@pytest.mark.parametrize("name", ["reconcile", "", None, 7, ["weekly-ml-retrain"]])
def test_a_header_that_names_no_job_is_refused(name: object) -> None:
    with pytest.raises(UnknownJob):
        find_job(MLSettings(), name)


# --- the bell --------------------------------------------------------------------------------------------------------


def test_a_ring_carries_two_ids_and_nothing_else(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent()
    monkeypatch.setattr(app, "send_task", sent)

    CeleryBell(app).ring(RUN, TENANT)

    assert sent.messages == [("app.workers.ml_worker.train_tenant", (str(RUN), str(TENANT)), {})]


def test_the_reconciler_sends_the_very_message_of_beat(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent()
    monkeypatch.setattr(app, "send_task", sent)

    CeleryBell(app).trigger("weekly-ml-retrain")

    options = {"expires": 172_800, "headers": {"job": "weekly-ml-retrain"}}
    assert sent.messages == [("app.workers.ml_worker.retrain_all_models", (), options)]


@pytest.mark.parametrize("fault", [OperationalError("redis://:hunter2@host"), ConnectionRefusedError("hunter2")])
def test_a_broker_that_is_away_is_an_error_of_ours_without_its_address(
    app: Celery, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr(app, "send_task", Sent(fault))

    with pytest.raises(BellUnavailable) as caught:
        CeleryBell(app).ring(RUN, TENANT)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "no-uuid", None, 5, {"$": 1}, "'; drop table ml_run; --"])
def test_what_is_no_run_id_is_refused(text: object) -> None:
    with pytest.raises(UnknownRun):
        parse_run_id(text)
