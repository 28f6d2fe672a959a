"""One storm from the seed to the verdict, as the tests and `make chaos` run it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.faults import Scene, Strike, make_plan
from tests.chaos.ledger import LedgerWork, yesterday
from tests.chaos.stage import Stage, ledger_roles
from tests.chaos.storm import Storm
from tests.chaos.tenants import BYSTANDERS, add_shops, give_real_candidates
from tests.chaos.verdict import Verdict

FIT_SECONDS = 0.15  # each of two steps of a fit takes so much longer, so that faults find somebody at work


@dataclass
class Outcome:
    """What became of a storm. ``parked`` were given up after two lost workers, and done when retried after it."""

    storm: Storm
    verdict: Verdict
    parked: list[str]
    restarts: int
    failed_candidates: dict[str, list[str]]  # of the tenants whose forecast is different
    logs: str

    def explain(self) -> str:
        """For a test that fails: what struck, what is wrong, and the last words of the processes."""
        struck = "\n".join(
            f"{hit.strike.number:3d} {hit.strike.kind} {hit.victim} {hit.recovered}" for hit in self.storm.hits
        )
        wrong = f"wrong: {self.verdict.wrong}\ncandidates that failed: {self.failed_candidates}"
        return f"{wrong}\nparked: {self.verdict.parked}\n{struck}\n{self.logs}"


def blow(
    stage: Stage, *, seed: int, faults: int, tenants: int, real: int = 0, tell: Callable[[str], None] = print
) -> Outcome:
    """``faults`` of the plan of ``seed`` over a run of ``tenants``, ``real`` of them with every real candidate."""
    again = f"make chaos FAULTS={faults} TENANTS={tenants} REAL={real} SEED={seed}"
    tell(f"seed {seed}: {faults} faults over {tenants} tenants; again with `{again}`")
    shops = add_shops(stage.database, tenants + BYSTANDERS)
    give_real_candidates(stage.database, shops[-real:] if real else [])
    work = LedgerWork.start(stage.settings, stage.database, shops[BYSTANDERS:], shops[:BYSTANDERS], yesterday())
    scene = stage.scene(ledger_roles(), fit_seconds=FIT_SECONDS, light=not real)
    storm, parked = see_through(scene, work, make_plan(seed, faults), tell)
    logs = "\n".join(f"--- {name}\n{member.last_words()}" for name, member in scene.fleet.members.items())
    verdict = work.judge()
    return Outcome(storm, verdict, parked, scene.fleet.restarts, work.failed_candidates(verdict.different), logs)


def see_through(
    scene: Scene, work: LedgerWork, strikes: list[Strike], tell: Callable[[str], None] = print
) -> tuple[Storm, list[str]]:
    """Start the fleet, strike, and wait until every tenant is done; the fleet is gone afterwards.

    Also gives the tenants that were parked because two workers in a row were lost with them: they are retried when the
    faults are over, as an operator would.
    """
    storm = Storm(scene, work, strikes, len(work.tenants), tell)
    try:
        scene.fleet.start()
        storm.blow()
        parked = work.judge().parked
        if parked and not storm.stalled:
            tell(f"{len(parked)} tenants were parked after two lost workers each; retrying them, without faults")
            work.retry()
            again = Storm(scene, work, [], len(work.tenants), tell)
            again.blow()
            storm.stalled = again.stalled
    finally:
        scene.fleet.stop()
    return storm, parked
