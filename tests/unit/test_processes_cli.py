"""What `up` and `worker` print, and what they refuse."""

import json
import logging
import os
import time

import pytest
import structlog

from app.cli import main, processes
from app.config.settings import Settings
from app.errors import ConfigError
from app.services.heartbeat import beat, heartbeat_file
from app.services.pools import parse_queues, pool_name
from app.services.up import the_only_one


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_name_their_process_whatever_was_printed(capsys):
    sink = processes._sink(["up", "ml"], as_json=True)

    sink("ml", '{"event": "ready", "process": "liar"}')
    sink("ml", "Traceback (most recent call last):")
    sink("ml", "[1, 2]")

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "ready", "process": "ml"},
        {"event": "Traceback (most recent call last):", "process": "ml"},
        {"event": "[1, 2]", "process": "ml"},
    ]


def test_lines_stand_under_each_other_and_cannot_steer_a_terminal(capsys):
    sink = processes._sink(["up", "control"], as_json=False)

    sink("up", "ready [bold]")
    sink("control", "tenant \x1b[2Jname")

    assert capsys.readouterr().out.splitlines() == [
        "up      | ready [bold]",
        "control | tenant \N{REPLACEMENT CHARACTER}[2Jname",
    ]


def test_our_own_log_lines_are_in_the_same_stream(capsys):
    processes._log_into(processes._sink(["up"], as_json=True), Settings(), {"LOG_FORMAT": "json", "LOG_LEVEL": "INFO"})

    structlog.get_logger().info("redis_started", url="redis://:open-sesame@127.0.0.1:1/0")

    line = json.loads(capsys.readouterr().out)
    assert (line["process"], line["event"]) == ("up", "redis_started")
    assert "open-sesame" not in str(line)


def test_a_worker_whose_heartbeat_is_old_or_absent_is_unwell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TENANTCAST_HOME", str(tmp_path))
    file = heartbeat_file(tmp_path, "ml")
    check = ["worker", "--queues", "ml_processing", "--check", "--json"]

    never = main(check)
    beat(file)
    fresh = main(check)
    os.utime(file, (time.time() - 90, time.time() - 90))
    old = main(check)

    assert (never, fresh, old) == (1, 0, 1)
    assert '"ml": null' in capsys.readouterr().out


def test_a_queue_that_does_not_exist_is_refused(capsys):
    code = main(["worker", "--queues", "ml_processing,mail", "--json"])

    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["code"]) == (2, "config")
    assert "'mail'" in error["message"]
    assert "notifications" in error["next_step"]


@pytest.mark.parametrize(
    ("text", "queues", "name"),
    [
        ("ml_processing", ("ml_processing",), "ml"),
        (" control , notifications,control", ("control", "notifications"), "control-notifications"),
        ("notifications,maintenance", ("notifications", "maintenance"), "notices"),
    ],
)
def test_queues_are_read_as_people_write_them(text, queues, name):
    assert parse_queues(text) == queues
    assert pool_name(queues) == name


def test_one_home_has_one_up(tmp_path):
    with the_only_one(tmp_path), pytest.raises(ConfigError, match=f"process {os.getpid()}"), the_only_one(tmp_path):
        raise AssertionError("two of them at once")

    with the_only_one(tmp_path):
        assert (tmp_path / "up.lock").read_text() == str(os.getpid())
