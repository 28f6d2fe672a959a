"""What must hold when the storm is over, counted; nothing here knows who did the work."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """Tenants by what is wrong with them; all empty is the only good answer."""

    tenants: int
    lost: list[str] = field(default_factory=list)  # neither done, failed nor skipped with a reason; or done, no rows
    doubled: list[str] = field(default_factory=list)  # published more than once by one run, or two current models
    mixed: list[str] = field(default_factory=list)  # current rows of more than one fence, or not a whole horizon
    different: list[str] = field(default_factory=list)  # done, and not value for value that of an undisturbed run
    orphaned: list[str] = field(default_factory=list)  # still running or pending
    foreign: list[str] = field(default_factory=list)  # of no business of the run, and changed
    parked: list[str] = field(default_factory=list)  # failed with a reason; no fault of the ledger
    attempts: int = 0  # how often somebody began to work on a tenant

    @property
    def wrong(self) -> dict[str, list[str]]:
        names = ("lost", "doubled", "mixed", "different", "orphaned", "foreign")
        return {name: found for name in names if (found := getattr(self, name))}

    @property
    def good(self) -> bool:
        return not self.wrong
