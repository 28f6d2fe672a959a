"""A process dies at every named point of the work, three tenants each: all of them are done once and whole."""

from tests.chaos.ledger import LedgerWork, yesterday
from tests.chaos.run import see_through
from tests.chaos.stage import Stage, ledger_roles, slow_publishes
from tests.chaos.tenants import BYSTANDERS, add_empty_shops, add_shops
from tests.chaos.tickets import write_ticket
from tests.chaos.worker import POINTS, WITHOUT_SALES

TIMES = 3


def _aim(stage: Stage, tenants: list[str], empty: list[str]) -> None:
    """One ticket per tenant, each point three times."""
    aims = dict(zip(tenants, [point for point in POINTS for _ in range(TIMES)], strict=True))
    aims |= dict(zip(empty, [point for point in WITHOUT_SALES for _ in range(TIMES)], strict=True))
    for tenant, point in aims.items():
        write_ticket(stage.tickets, point, tenant)
    slow_publishes(stage.database, [tenant for tenant, point in aims.items() if point == "committing"])


def test_a_death_at_every_point_three_times_each_changes_nothing(stage):
    shops = add_shops(stage.database, BYSTANDERS + TIMES * len(POINTS))
    bystanders, tenants = shops[:BYSTANDERS], shops[BYSTANDERS:]
    empty = add_empty_shops(stage.database, TIMES * len(WITHOUT_SALES))
    work = LedgerWork.start(stage.settings, stage.database, [*tenants, *empty], bystanders, yesterday())
    _aim(stage, tenants, empty)
    scene = stage.scene(ledger_roles())

    storm, _ = see_through(scene, work, strikes=[])

    verdict = work.judge()
    said = "\n".join(member.last_words() for member in scene.fleet.members.values())
    assert [ticket.name for ticket in stage.tickets.iterdir()] == [], f"points that nobody came past:\n{said}"
    assert not storm.stalled, said
    assert verdict.wrong == {}, said
    assert verdict.parked == []
    assert work.states() == {"done": len(tenants), "skipped": len(empty)}
