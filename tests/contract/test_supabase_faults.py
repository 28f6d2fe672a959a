"""A network between us and Supabase that misbehaves: repeated where that can help, never taken for a result."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from app.config.settings import Settings
from app.db.functions import NOT_REPEATABLE
from app.db.supabase import ATTEMPTS, LONGEST_WAIT_SECONDS, SupabaseGateway
from app.errors import ConfigError, DatabaseUnavailable, NotInstalled, QueryRefused, TenantcastError, WrongKey
from tests.servers.faults import Fault, FaultServer, faulty_server

GOOD = Fault(body=b'{"rows": 3}')
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"

PASSING = {
    "502 with a page": Fault(502, HTML, "text/html"),
    "503 of PostgREST without a database": Fault(503, b'{"code": "PGRST002", "message": "schema cache"}'),
    "504 with nothing": Fault(504),
    "520 of a proxy": Fault(520, b"error code: 520", "text/plain"),
    "429": Fault(429, b'{"message": "Too many requests"}'),
    "a serialization failure": Fault(500, b'{"code": "40001", "message": "could not serialize access"}'),
    "a server that shuts down": Fault(503, b'{"code": "57P01", "message": "terminating connection"}'),
    "a success that is a page": Fault(200, HTML, "text/html"),
    "a page that claims to be JSON": Fault(200, HTML),
    "a success without a body": Fault(200),
    "204": Fault(204),
    "JSON cut short by a proxy": Fault(200, b'{"rows": [1, 2'),
    "a body that ends before its length": Fault(200, b'{"rows": 3}', cut=5),
    "a connection that is closed": Fault(hang_up=True),
}

FINAL: dict[str, tuple[Fault, type[TenantcastError]]] = {
    "a gateway's 401": (Fault(401, b'{"message": "Invalid API key"}'), WrongKey),
    "a page for 403": (Fault(403, HTML, "text/html"), WrongKey),
    "an expired token": (Fault(401, b'{"code": "PGRST301", "message": "JWT expired"}'), WrongKey),
    "a forbidden function": (Fault(403, b'{"code": "42501", "message": "permission denied"}'), WrongKey),
    "an unknown function": (Fault(404, b'{"code": "PGRST202", "message": "Could not find"}'), NotInstalled),
    "a page for 404": (Fault(404, HTML, "text/html"), ConfigError),
    "a redirect": (Fault(301, headers={"Location": "https://example.org/"}), ConfigError),
    "a check that fails": (Fault(400, b'{"code": "23514", "message": "violates check x"}'), QueryRefused),
    "a body that is too large": (Fault(413, HTML, "text/html"), QueryRefused),
    "an internal error": (Fault(500, b'{"code": "XX000", "message": "bug"}'), QueryRefused),
    "a statement that takes too long": (Fault(500, b'{"code": "57014", "message": "timeout"}'), DatabaseUnavailable),
}


@dataclass
class Network:
    """A gateway before a faulty server, and how long it waited between attempts (seconds)."""

    server: FaultServer
    gateway: SupabaseGateway
    waits: list[float] = field(default_factory=list)


@pytest.fixture
def network() -> Iterator[Network]:
    with faulty_server() as server:
        waits: list[float] = []
        settings = Settings(supabase_url=server.url, supabase_service_role_key="key-0123456789")
        gateway = SupabaseGateway(settings, sleep=waits.append)
        yield Network(server, gateway, waits)
        gateway.close()


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_failure_is_repeated_until_it_passes(network: Network, name: str) -> None:
    network.server.script += [PASSING[name], PASSING[name], GOOD]

    result = network.gateway.call("ml_check_sales", {"p_tenant_id": None})

    assert result == {"rows": 3}
    assert len(network.server.requests) == 3
    assert len(set(network.server.requests)) == 1


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_does_not_pass_is_unavailable_after_four_attempts(network: Network, name: str) -> None:
    network.server.script += [PASSING[name]]

    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1 did not carry out ml_check_sales") as caught:
        network.gateway.call("ml_check_sales", {"p_tenant_id": None})

    assert len(network.server.requests) == ATTEMPTS
    assert "SUPABASE_URL" in caught.value.next_step
    assert "<" not in caught.value.message


@pytest.mark.parametrize("name", FINAL)
def test_a_failure_that_would_only_repeat_is_raised_at_once(network: Network, name: str) -> None:
    fault, error = FINAL[name]
    network.server.script += [fault, GOOD]

    with pytest.raises(error) as caught:
        network.gateway.call("ml_check_sales", {"p_tenant_id": None})

    assert type(caught.value) is error
    assert caught.value.next_step
    assert len(network.server.requests) == 1


LOST = {name: fault for name, fault in PASSING.items() if name not in {
    "503 of PostgREST without a database", "429", "a serialization failure",
}}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("function", sorted(NOT_REPEATABLE))
def test_a_lost_answer_of_a_call_that_must_not_happen_twice_is_raised(
    network: Network, function: str, name: str
) -> None:
    network.server.script += [LOST[name], GOOD]

    with pytest.raises(DatabaseUnavailable) as caught:
        network.gateway.call(function, {})

    assert caught.value.sent
    assert len(network.server.requests) == 1


@pytest.mark.parametrize("name", sorted(set(PASSING) - set(LOST)))
def test_a_call_that_was_certainly_not_carried_out_is_always_repeated(network: Network, name: str) -> None:
    network.server.script += [PASSING[name], GOOD]

    assert network.gateway.call("ml_claim_item", {}) == {"rows": 3}
    assert len(network.server.requests) == 2


def test_waits_grow_and_differ(network: Network) -> None:
    network.server.script += [Fault(503)]

    for _ in range(10):
        with pytest.raises(DatabaseUnavailable):
            network.gateway.call("ml_check_sales", {})

    # Four attempts have three waits between them: 0.25-0.5 s, 0.5-1 s, 1-2 s.
    for attempt in range(ATTEMPTS - 1):
        assert all(0.25 <= wait / 2**attempt <= 0.5 for wait in network.waits[attempt :: ATTEMPTS - 1])
    assert len(network.waits) == 10 * (ATTEMPTS - 1)
    assert len(set(network.waits)) == len(network.waits)


@pytest.mark.parametrize(("header", "waited"), [("7", 7.0), ("86400", LONGEST_WAIT_SECONDS)])
def test_the_server_says_how_long_to_wait(network: Network, header: str, waited: float) -> None:
    network.server.script += [Fault(429, headers={"Retry-After": header}), GOOD]

    network.gateway.call("ml_check_sales", {})

    assert network.waits == [waited]


def test_the_server_may_name_a_time_instead(network: Network) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    network.server.script += [Fault(503, headers={"Retry-After": until}), GOOD]

    network.gateway.call("ml_check_sales", {})

    assert 0 < network.waits[0] <= 10


@pytest.mark.parametrize("header", ["soon", "-5", "Thu, 99 Jan 2026", "", "0"])
def test_a_time_to_wait_that_says_nothing_is_ignored(network: Network, header: str) -> None:
    network.server.script += [Fault(503, headers={"Retry-After": header}), GOOD]

    network.gateway.call("ml_check_sales", {})

    assert 0.25 <= network.waits[0] <= 0.5


def test_null_false_zero_and_empty_answers_are_results(network: Network) -> None:
    bodies = [b"null", b"false", b"0", b"[]", b"{}"]
    network.server.script += [Fault(body=body) for body in bodies]

    results = [network.gateway.call("ml_read_model", {}) for _ in bodies]

    assert results == [None, False, 0, [], {}]
