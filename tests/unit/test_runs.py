from collections.abc import Mapping
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
