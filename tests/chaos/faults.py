"""What can go wrong, as functions that make it go wrong; which, when and to whom comes from one seed."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.backends import Backends, Database
from tests.chaos.fleet import Fleet, Member


@dataclass(frozen=True)
class Strike:
    """One fault of a plan. ``luck`` chooses the victim, ``seconds`` how long what it breaks stays broken."""

    number: int
    kind: str
    luck: float  # 0 to 1
    seconds: float


@dataclass
class Scene:
    """What faults can reach."""

    backends: Backends
    database: Database
    fleet: Fleet
    lease_seconds: int
    diary: list[tuple[float, Callable[[], None]]] = field(default_factory=list)  # when (monotonic), what

    def put_off(self, seconds: float, what: Callable[[], None]) -> None:
        """The second half of a fault, for instance the server's return."""
        self.diary.append((time.monotonic() + seconds, what))

    def do_what_is_due(self, *, all_of_it: bool = False) -> None:
        due = [entry for entry in self.diary if all_of_it or entry[0] <= time.monotonic()]
        self.diary = [entry for entry in self.diary if entry not in due]
        for _, what in due:
            what()

    def victim(self, luck: float) -> Member | None:
        """A worker that is up, by luck; None while none is."""
        workers = sorted(self.fleet.workers(), key=lambda member: member.role.name)
        return workers[int(luck * len(workers))] if workers else None


Fault = Callable[[Scene, Strike], str]


def kill_worker(scene: Scene, strike: Strike) -> str:
    """kill -9 of a worker and its children: a power cut, or the kernel's out-of-memory killer on the whole group."""
    return _hit(scene, strike, lambda member: member.signal_all(signal.SIGKILL))


def kill_main(scene: Scene, strike: Strike) -> str:
    """kill -9 of a worker's main process alone: its children are orphans in the middle of their work."""

    def kill(member: Member) -> None:
        scene.fleet.remember(member.family())
        member.process.kill()

    return _hit(scene, strike, kill)


def kill_child(scene: Scene, strike: Strike) -> str:
    """kill -9 of one pool child."""

    def kill(member: Member) -> None:
        children = sorted(member.children(), key=lambda child: child.pid)
        if children:
            children[int(strike.luck * 1000) % len(children)].kill()

    return _hit(scene, strike, kill)


def kill_beat(scene: Scene, strike: Strike) -> str:
    """kill -9 of one of the beats."""
    beats = sorted(name for name, member in scene.fleet.members.items() if not member.role.works)
    if not beats:
        return "there is none"
    beat = beats[int(strike.luck * len(beats))]
    scene.fleet.members[beat].signal_all(signal.SIGKILL)
    return beat


def freeze_then_kill(scene: Scene, strike: Strike) -> str:
    """Stopped for longer than its lease, then killed: a lost machine, a partition."""
    return _freeze(scene, strike, signal.SIGKILL)


def freeze_then_wake(scene: Scene, strike: Strike) -> str:
    """Stopped for longer than its lease, then awake and writing: a zombie."""
    return _freeze(scene, strike, signal.SIGCONT)


def terminate(scene: Scene, strike: Strike) -> str:
    """SIGTERM, with a successor at once: a deployment."""
    return _hit(scene, strike, scene.fleet.replace)


def flush_redis(scene: Scene, strike: Strike) -> str:
    """FLUSHALL."""
    if scene.backends.redis.is_running():
        scene.backends.redis.flush()
    return "redis"


def kill_redis(scene: Scene, strike: Strike) -> str:
    """Redis killed without persistence, absent for a while, back and empty."""
    scene.backends.redis.kill()
    scene.put_off(strike.seconds, scene.backends.redis.start)
    return f"redis, for {strike.seconds:.1f} s"


def cut_connections(scene: Scene, strike: Strike) -> str:
    """pg_terminate_backend of every worker's connection."""
    return f"{scene.database.terminate_backends()} connections"


def restart_postgres(scene: Scene, strike: Strike) -> str:
    """PostgreSQL stopped and started: in order, or every process killed where it stands."""
    how = signal.SIGQUIT if strike.luck < 0.5 else signal.SIGINT
    scene.backends.postgres.restart(how)
    return f"postgres, {how.name}"


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_worker, kill_main, kill_child, kill_beat, freeze_then_kill, freeze_then_wake, terminate, flush_redis,
        kill_redis, cut_connections, restart_postgres,
    )
}  # fmt: skip


def make_plan(seed: int, count: int) -> list[Strike]:
    """``count`` strikes: decks of all kinds, shuffled one by one, so that even a short plan holds every kind."""
    rng = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += rng.sample(sorted(FAULTS), len(FAULTS))
    return [
        Strike(number, kind, luck=rng.random(), seconds=rng.uniform(0.2, 1.5))
        for number, kind in enumerate(kinds[:count], start=1)
    ]


def _hit(scene: Scene, strike: Strike, how: Callable[[Member], None]) -> str:
    member = scene.victim(strike.luck)
    if member is None:
        return "nobody was up"
    how(member)
    return member.role.name


def _freeze(scene: Scene, strike: Strike, then: signal.Signals) -> str:
    def freeze(member: Member) -> None:
        member.signal_all(signal.SIGSTOP)
        scene.put_off(scene.lease_seconds + strike.seconds, lambda: member.signal_all(then))

    return f"{_hit(scene, strike, freeze)}, for {scene.lease_seconds + strike.seconds:.1f} s"
