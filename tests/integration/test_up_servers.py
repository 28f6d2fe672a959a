"""The private servers of `up`: started, kept alive, stopped; those that the settings name are left alone."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from app.config.settings import Settings
from app.db.embedded import EmbeddedPostgres
from app.errors import NotInstalled
from app.services.embedded_redis import EmbeddedRedis
from app.services.up import Servers

PATIENCE_SECONDS = 60


def _kill(pid: int) -> None:
    """kill -9, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _postgres_pid(home: Path) -> int:
    """Its files are outside of the home where the server's account cannot enter it."""
    root = home / json.loads((home / "postgres.json").read_text())["root"]
    return int((root / "data" / "postmaster.pid").read_text().splitlines()[0])


def test_what_dies_is_started_again_under_the_same_address(tenantcast_home: Path):
    settings = Settings(tenantcast_home=tenantcast_home)
    servers, postgres, redis = Servers(settings), EmbeddedPostgres(tenantcast_home), EmbeddedRedis(tenantcast_home)
    try:
        servers.start()
        before = postgres.ensure_running(), redis.address()
        _kill(int((tenantcast_home / "redis" / "redis.pid").read_text()))
        _kill(_postgres_pid(tenantcast_home))
        was_running = postgres.is_running(), redis.address()

        servers.keep()

        assert was_running == (False, None)
        assert postgres.is_running()
        assert (postgres.ensure_running(), redis.address()) == before
    finally:
        stopped = servers.stop()
    assert stopped == ["postgres", "redis"]
    assert servers.stop() == []


def test_servers_that_the_settings_name_are_neither_started_nor_stopped(
    database_url, redis_url, tmp_path, redis_server
):
    home = tmp_path / "home"
    servers = Servers(Settings(database_url=database_url, redis_url=redis_url, tenantcast_home=home))

    servers.start()
    servers.keep()

    assert servers.stop() == []
    assert redis_server.is_running()
    assert not (home / "redis").exists()
    assert not (home / "postgres").exists()


def test_a_database_without_our_functions_is_an_error_at_the_start(empty_database_url, redis_url, tmp_path):
    servers = Servers(Settings(database_url=empty_database_url, redis_url=redis_url, tenantcast_home=tmp_path / "home"))

    with pytest.raises(NotInstalled):
        servers.start()
