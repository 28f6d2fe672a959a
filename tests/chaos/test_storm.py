"""Random faults over a whole run: nothing lost, nothing twice, nothing mixed, nobody else touched."""

import os

from tests.chaos.faults import FAULTS
from tests.chaos.run import blow

SEED = int(os.environ.get("CHAOS_SEED", "3"))
FAULT_COUNT = 30
TENANTS = 300


def test_thirty_faults_over_three_hundred_tenants_leave_what_an_undisturbed_run_leaves(stage):
    outcome = blow(stage, seed=SEED, faults=FAULT_COUNT, tenants=TENANTS)

    assert not outcome.storm.stalled, outcome.explain()
    assert {hit.strike.kind for hit in outcome.storm.hits} == set(FAULTS)
    assert len(outcome.storm.hits) == FAULT_COUNT
    assert all(hit.finished < TENANTS for hit in outcome.storm.hits)
    assert outcome.verdict.wrong == {}, outcome.explain()
    assert outcome.verdict.parked == [], outcome.explain()
    assert outcome.verdict.attempts > TENANTS, "no fault has hit anybody at work"
