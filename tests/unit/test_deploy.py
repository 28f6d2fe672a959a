"""What `compose.yaml` and the systemd units start is what the command understands, and they cover every queue."""

import configparser
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from app.celery_app import QUEUES
from app.cli import app
from app.services.pools import ALL_QUEUES, POOLS, parse_queues

CHECKOUT = Path(__file__).parents[2]
UNITS = sorted((CHECKOUT / "deploy" / "systemd").glob("*.service"))
OURS = ("migrate", "worker-ml", "worker-small", "beat")
STOP_SECONDS = 90


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"])


def _unit(path: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(
        "\n".join(line for line in path.read_text().splitlines() if not line.startswith("EnvironmentFile"))
    )
    return parser["Service"]


def _parsed(arguments: list[str]) -> dict[str, Any]:
    """The options that the real command reads from a command line; raises for what it does not understand."""
    command: Any = typer.main.get_command(app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        name, *arguments = arguments
        command = command.commands[name]
    return dict(command.make_context("tenantcast", arguments).params)


def _arguments(unit: Path) -> list[str]:
    return shlex.split(_unit(unit)["ExecStart"].replace("%i", "1"))[1:]


def test_every_service_starts_a_command_that_exists(services):
    for name in OURS:
        assert _parsed(services[name]["command"]) is not None


def test_every_probe_looks_at_the_heartbeat_of_its_own_worker(services):
    for name in ("worker-ml", "worker-small", "beat"):
        probe = _parsed(services[name]["healthcheck"]["test"][2:])
        assert probe["check"] is True
        assert probe["name"] == _parsed(services[name]["command"])["name"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_every_unit_starts_a_command_that_exists(unit):
    assert _parsed(_arguments(unit))["name"]


def test_every_queue_is_worked_off_and_fits_have_a_worker_of_their_own(services):
    of_compose = [_parsed(services[name]["command"])["queues"] for name in ("worker-ml", "worker-small")]
    of_systemd = [queues for unit in UNITS if (queues := _parsed(_arguments(unit)).get("queues"))]

    for workers in (of_compose, of_systemd):
        queues = [parse_queues(text) for text in workers]
        assert sorted(queue for own in queues for queue in own) == sorted(QUEUES)
        assert ("ml_processing",) in queues


def test_the_pools_of_up_cover_every_queue_once():
    assert sorted(ALL_QUEUES) == sorted(QUEUES)
    assert POOLS["ml"] == ("ml_processing",)
    assert POOLS["control"] == ("control",)


def test_containers_have_no_rights_and_time_to_end(services):
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["user"].split(":")[0] not in ("0", "root"), name
        assert int(service["stop_grace_period"].removesuffix("s")) >= STOP_SECONDS, name


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_end_a_worker_in_order_and_leave_no_core_dump(unit):
    service = _unit(unit)

    assert (service["KillMode"], service["LimitCORE"], service["NoNewPrivileges"]) == ("mixed", "0", "yes")
    assert int(service["TimeoutStopSec"]) >= STOP_SECONDS


def test_the_broker_never_evicts_and_writes_what_it_holds(services):
    script = services["redis"]["command"][2]

    assert "maxmemory-policy noeviction" in script
    assert "appendonly yes" in script


def test_two_beats_run(services):
    assert services["beat"]["deploy"]["replicas"] == 2
