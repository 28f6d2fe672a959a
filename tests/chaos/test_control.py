"""The harness is honest: undisturbed, work that lives in messages is whole; in the storm it is not."""

from tests.chaos.control import MessageWork
from tests.chaos.faults import make_plan
from tests.chaos.stage import Stage, control_roles
from tests.chaos.storm import Storm
from tests.chaos.tenants import add_shops

TENANTS = 60
SEED = 20261121


def _blow(stage: Stage, faults: int) -> tuple[Storm, MessageWork]:
    tenants = add_shops(stage.database, TENANTS)
    work = MessageWork.start(stage.database, stage.backends.redis, tenants)
    scene = stage.scene(control_roles(), fit_seconds=0.1)
    storm = Storm(scene, work, make_plan(SEED, faults), TENANTS)
    try:
        scene.fleet.start()
        storm.blow()
    finally:
        scene.fleet.stop()
    return storm, work


def test_without_faults_the_messages_do_all_the_work(stage):
    storm, work = _blow(stage, faults=0)

    assert not storm.stalled
    assert work.judge().wrong == {}


def test_in_the_storm_work_that_lives_in_messages_is_lost(stage):
    storm, work = _blow(stage, faults=10)

    assert storm.hits
    assert work.judge().lost, f"the storm hits nothing: {[hit.strike.kind for hit in storm.hits]}"
