"""The private Redis, as a home has it: started, adopted, killed, started again."""

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from app.config.settings import Settings
from app.services.embedded_redis import USUAL_ADDRESS, EmbeddedRedis, broker_address

PATIENCE_SECONDS = 30


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "a home with 'quotes' $and spaces"
    yield home
    EmbeddedRedis(home).stop()


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=PATIENCE_SECONDS)


def _pid(home: Path) -> int:
    return int((home / "redis" / "redis.pid").read_text())


def _is_alive(pid: int) -> bool:
    """A zombie that a container's first process never reaps is not alive."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_first_starts_it_and_the_second_adopts_it(home):
    first, second = EmbeddedRedis(home), EmbeddedRedis(home)

    url = first.ensure_running()

    assert second.address() == url
    assert second.ensure_running() == url
    assert (first.started, second.started) == (True, False)


def test_nothing_is_started_for_a_look_at_the_address(home):
    assert EmbeddedRedis(home).address() is None
    assert not home.exists()


def test_what_was_queued_survives_a_kill_and_the_address_stays(home):
    url = EmbeddedRedis(home).ensure_running()
    with _client(url) as client:
        client.lpush("queue", "task")
        client.execute_command("WAITAOF", 1, 0, 10_000)  # `everysec`: until it is on disk
    killed = psutil.Process(_pid(home))
    killed.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _is_alive(killed.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    again = EmbeddedRedis(home)

    assert again.address() is None
    assert again.ensure_running() == url
    assert again.started
    with _client(url) as client:
        assert client.lrange("queue", 0, -1) == [b"task"]


def test_a_process_id_that_is_someone_elses_by_now_is_left_alone(home):
    embedded = EmbeddedRedis(home)
    embedded.ensure_running()
    embedded.stop()
    (home / "redis" / "redis.pid").write_text(str(os.getpid()))

    assert embedded.stop() is False
    assert embedded.ensure_running().startswith("redis://")


def test_it_asks_for_a_password_that_only_the_owner_can_read(home):
    url = EmbeddedRedis(home).ensure_running()
    port = json.loads((home / "redis.json").read_text())["port"]

    with redis.Redis(host="127.0.0.1", port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (home / "redis.json", home / "redis" / "redis.conf")]
    assert modes == [0o600, 0o600]
    with _client(url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_a_record_that_a_full_disk_cut_short_is_written_anew(home):
    embedded = EmbeddedRedis(home)
    embedded.ensure_running()
    embedded.stop()
    (home / "redis.json").write_text('{"port": 12')

    url = embedded.ensure_running()

    with _client(url) as client:
        assert client.ping()


def test_stopped_it_is_gone(home):
    embedded = EmbeddedRedis(home)
    embedded.ensure_running()
    pid = _pid(home)

    assert embedded.stop() is True
    assert not _is_alive(pid)
    assert embedded.stop() is False


def test_messages_go_to_the_private_redis_while_it_runs_and_no_other_is_named(home):
    alone = Settings(tenantcast_home=home)
    before = broker_address(alone)

    url = EmbeddedRedis(home).ensure_running()

    assert (before, broker_address(alone)) == (USUAL_ADDRESS, url)
    assert broker_address(Settings(tenantcast_home=home, redis_url="redis://named/1")) == "redis://named/1"
    named = Settings(tenantcast_home=home, redis_url="redis://named/1", celery_broker_url="redis://broker/2")
    assert broker_address(named) == "redis://broker/2"
