import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from app.db.store import TenantStore
from app.errors import LeaseLost, TenantcastError
from app.services import runs
from app.tenancy import TenantId

RUN = UUID("33333333-3333-4333-8333-333333333333")
SHOP = TenantId(UUID("11111111-1111-4111-8111-111111111111"))


class OneAnswer:
    """A gateway that gives one answer and remembers what it was asked."""

    name = "one answer"

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, function: str, params: Mapping[str, object]) -> Any:
        self.asked.append((function, dict(params)))
        return self.answer

    def close(self) -> None:
        """Nothing is open."""


def test_delays_grow_from_ten_seconds_to_ten_minutes_with_full_jitter():
    delays = {attempt: [runs.retry_delay(attempt) for _ in range(500)] for attempt in (1, 2, 3, 4, 20)}

    for attempt, ceiling in {1: 10, 2: 20, 3: 40, 4: 80, 20: 600}.items():
        assert min(delays[attempt]) >= 1
        assert max(delays[attempt]) <= ceiling
        assert max(delays[attempt]) > 0.9 * ceiling  # 500 draws: it really reaches up
        assert min(delays[attempt]) < 0.1 * ceiling + 1  # and down


def test_a_claim_carries_its_fence_and_what_the_run_pins():
    answer = {"outcome": "claimed", "fence": 17, "attempt": 2, "params": {"force": True, "as_of": "2026-11-20"}}

    claim = runs.claim_item(TenantStore(OneAnswer(answer), SHOP), RUN, 90)

    assert claim == runs.Claim(17, 2, force=True, as_of=date(2026, 11, 20))


@pytest.mark.parametrize(("seconds", "hung"), [(0, {}), (300, {}), (301, {"sarimax": 301})])
def test_a_candidate_hung_when_its_worker_was_lost_after_more_than_half_of_the_hard_limit(seconds, hung):
    lost_in = [{"candidate": "sarimax", "seconds": seconds}, {"candidate": "prophet", "seconds": 12}]
    answer = {"outcome": "claimed", "fence": 17, "attempt": 3, "params": {}, "lost_in": lost_in}
    store = TenantStore(OneAnswer(answer), SHOP)

    claim, without_a_limit = runs.claim_item(store, RUN, 90, task_seconds=600), runs.claim_item(store, RUN, 90)

    assert claim == runs.Claim(17, 3, hung=hung)
    assert without_a_limit == runs.Claim(17, 3)


def _beats(store: TenantStore, work: Callable[[runs.Item], object]) -> list[tuple[object, object]]:
    """Candidate and seconds of the first beats while ``work`` goes on; a lease of a second beats three times in it."""
    item = runs.Item(store, RUN, runs.Claim(1), 1)
    with item.held():
        work(item)
    asked = [params for _, params in store.gateway.asked]  # type: ignore[attr-defined]
    return [(params["p_candidate"], params["p_candidate_seconds"]) for params in asked]


def test_the_heartbeat_says_which_candidate_is_computed_and_for_how_long():
    def hang(item):
        with item.computing("sarimax"):
            time.sleep(1.5)
        with item.computing("prophet"):
            pass
        time.sleep(0.5)

    beats = _beats(TenantStore(OneAnswer({"alive": True}), SHOP), hang)

    assert beats[0] == ("sarimax", 0)
    assert ("sarimax", 1) in beats
    assert beats[-1] == (None, 0)
    assert "prophet" not in {candidate for candidate, _ in beats}  # quick: it costs no call of its own


def test_a_candidate_that_raises_is_not_computed_any_more():
    def fail(item):
        with contextlib.suppress(ValueError), item.computing("sarimax"):
            raise ValueError
        time.sleep(0.5)

    beats = _beats(TenantStore(OneAnswer({"alive": True}), SHOP), fail)

    assert set(beats) == {(None, 0)}


def test_an_item_that_someone_else_holds_is_not_claimed():
    answer = {"outcome": "busy", "retry_in_seconds": 41}

    claim = runs.claim_item(TenantStore(OneAnswer(answer), SHOP), RUN, 90)

    assert claim == runs.NotClaimed("busy", 41, "")


@pytest.mark.parametrize("write", ["publish", "finish", "fail"])
def test_every_write_of_a_lost_item_says_so(write):
    item = runs.Item(TenantStore(OneAnswer({"outcome": "lost"}), SHOP), RUN, runs.Claim(1), 90)
    writes: dict[str, Any] = {
        "publish": lambda: item.publish({}),
        "finish": lambda: item.finish("done", "", {}, None),
        "fail": lambda: item.fail(TenantcastError("x"), again=True),
    }

    with pytest.raises(LeaseLost, match="nothing was written") as caught:
        writes[write]()

    assert caught.value.tenant_id == str(SHOP)


@pytest.mark.parametrize("again", [True, False])
def test_a_delay_is_asked_for_only_when_there_is_a_next_attempt(again):
    gateway = OneAnswer({"outcome": "pending"})

    runs.Item(TenantStore(gateway, SHOP), RUN, runs.Claim(1), 90).fail(TenantcastError("x"), again=again)

    assert (gateway.asked[0][1]["p_retry_in_seconds"] is not None) == again


def test_a_new_run_pins_force_and_the_last_day():
    gateway = OneAnswer({"run_id": str(RUN)})

    assert runs.start_run(gateway, "retrain", tenants=[SHOP], force=True, as_of=date(2026, 11, 20)) == RUN
    function, params = gateway.asked[0]
    assert function == "ml_start_run"
    assert params["p_params"] == {"force": True, "as_of": "2026-11-20"}
    assert params["p_tenant_ids"] == [str(SHOP)]


def test_without_a_wish_no_failpoint_fires(monkeypatch):
    monkeypatch.delenv("TENANTCAST_FAILPOINT", raising=False)
    runs.failpoint("read")
    monkeypatch.setenv("TENANTCAST_FAILPOINT", "publish:2")

    runs.failpoint("read")
    runs.failpoint("publish")  # the first time: not yet
