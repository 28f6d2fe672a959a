"""The harness itself: plans replay, and the verdict sees damage of every kind when it is done by hand."""

import math

import psycopg
import pytest

from app.db.postgres import PostgresGateway
from app.services import runs
from app.services.drain import Work, drain
from tests.chaos.faults import FAULTS, make_plan
from tests.chaos.ledger import FAST_SETTINGS, LedgerWork, yesterday
from tests.chaos.stage import Stage
from tests.chaos.storm import percentile
from tests.chaos.tenants import add_shops

TENANTS = 6
# Rows gone; never finished; published twice; two fences; another value; a stranger's row.
_DAMAGE = (
    "delete from ml_predictions where tenant_id = %s",
    """update ml_run_item set state = 'running', finished_at = null, fence = 1, lease_until = now()
       where tenant_id = %s""",
    """insert into ml_forecast_ledger
       select (jsonb_populate_record(l, '{"issued_on": "2020-01-01"}')).* from ml_forecast_ledger as l
       where tenant_id = %s""",
    """update ml_predictions set fence = fence + 1000
       where prediction_date = current_date + 3 and tenant_id = %s""",
    "update ml_predictions set confidence_score = 0.123 where tenant_id = %s",
    "update ml_predictions set updated_at = now() where tenant_id = %s",
)


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    assert make_plan(7, 50) == make_plan(7, 50)
    assert make_plan(7, 50) != make_plan(8, 50)


@pytest.mark.parametrize("seed", range(5))
def test_even_a_short_plan_holds_every_kind_of_fault(seed):
    plan = make_plan(seed, len(FAULTS))

    assert sorted(strike.kind for strike in plan) == sorted(FAULTS)
    assert [strike.number for strike in plan] == list(range(1, len(FAULTS) + 1))


def test_percentiles_by_hand():
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.99) == 4.0
    assert math.isnan(percentile([], 0.5))


def test_the_verdict_is_good_for_an_undisturbed_run_and_sees_every_kind_of_damage(stage):
    work = _worked_off(stage)
    before = work.judge()
    victims = work.tenants

    _damage(stage, work, victims)

    assert before.wrong == {}
    assert before.attempts == TENANTS
    wrong = work.judge().wrong
    assert wrong["lost"] == sorted([victims[0], victims[1]])
    assert victims[2] in wrong["doubled"]
    assert victims[3] in wrong["mixed"]
    assert victims[4] in wrong["different"]
    assert victims[1] in wrong["orphaned"]
    assert wrong["foreign"] == sorted(work.bystanders)


def test_half_of_a_forecast_is_seen_as_mixed_and_different(stage):
    work = _worked_off(stage)
    victim = work.tenants[0]

    stage.database.ask("delete from ml_predictions where tenant_id = %s and prediction_date > current_date + 7", victim)

    assert work.judge().wrong == {"mixed": [victim], "different": [victim]}


def _worked_off(stage: Stage) -> LedgerWork:
    shops = add_shops(stage.database, TENANTS + 1)
    work = LedgerWork.start(stage.settings, stage.database, shops[1:], shops[:1], yesterday())
    gateway = PostgresGateway(stage.database.url)
    try:
        drain(Work(stage.settings, FAST_SETTINGS, work.run_id), gateway, tell=lambda _event: None)
        runs.finish_run(gateway, work.run_id)
    finally:
        gateway.close()
    return work


def _damage(stage: Stage, work: LedgerWork, victims: list[str]) -> None:
    """One tenant each, and then a bystander."""
    with psycopg.connect(stage.database.url) as connection:
        for statement, tenant in zip(_DAMAGE, [*victims[:5], *work.bystanders], strict=True):
            assert connection.execute(statement.encode(), [tenant]).rowcount > 0, statement
