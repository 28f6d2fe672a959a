"""A message that the broker sends again because its task outlives the visibility timeout: the second one does nothing.

With the product's own settings no task can: its hard limit is two thirds of the timeout. Here the timeout is shorter.
"""

import contextlib
import json
from typing import Any

import pytest

from tests.chaos.doorbell import doorbell
from tests.chaos.fleet import Member, wait_for
from tests.chaos.ledger import LedgerWork, yesterday
from tests.chaos.stage import ledger_roles
from tests.chaos.storm import Storm
from tests.chaos.tenants import add_shops
from tests.chaos.worker import VISIBILITY_SECONDS

VISIBILITY = 2  # seconds
FIT_SECONDS = 3.0  # of each of at least two steps: three times the timeout and more
IMPATIENT = {VISIBILITY_SECONDS: str(VISIBILITY), "LOG_LEVEL": "INFO"}


# One worker with one child takes no second message before it has acknowledged the first; another takes it at once.
@pytest.mark.parametrize(("workers", "answer"), [(1, "finished"), (2, "busy")])
def test_a_message_that_comes_again_while_its_task_is_at_work_is_carried_out_once(stage, workers, answer):
    tenant, *_ = add_shops(stage.database, 1)
    work = LedgerWork.start(stage.settings, stage.database, [tenant], [], yesterday())
    # No reconciler and no beat: every message is the one that is rung here.
    roles = [role for role in ledger_roles(workers=workers, children=1) if role.name.startswith("ml")]
    scene = stage.scene(roles, fit_seconds=FIT_SECONDS, extra=IMPATIENT)

    try:
        scene.fleet.start()
        members = list(scene.fleet.members.values())
        with doorbell(stage.backends.redis) as ring:
            ring(work.run_id, tenant)
        Storm(scene, work, [], tenants=1).blow()
        wait_for("the answer to the second delivery", lambda: _said(members, "item_not_claimed"))
    finally:
        scene.fleet.stop()

    again = _said(members, "item_not_claimed")
    first = _said(members, "tenant_done")
    verdict = work.judge()
    assert [line["outcome"] for line in again] == [answer]
    assert len(first) == 1
    assert {line["message_id"] for line in again} == {line["message_id"] for line in first}  # the very same message
    assert verdict.wrong == {}
    assert verdict.attempts == 1
    assert work.states() == {"done": 1}


def _said(members: list[Member], event: str) -> list[dict[str, Any]]:
    """What the workers have logged about this event."""
    lines = [line for member in members for line in member.log.read_text(errors="replace").splitlines()]
    found = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):  # not ours, or half written
            said = json.loads(line)
            found += [said] if isinstance(said, dict) and said.get("event") == event else []
    return found
