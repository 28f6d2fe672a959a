"""When a worker counts as deaf: its queues hold messages, it has nothing to do, and it takes none."""

import pytest

from app.workers.watchdog import Look, Watchdog


def _deaf_for(*looks: Look, seconds: float = 10.0) -> list[float]:
    """What the watchdog says after each look, ``seconds`` apart."""
    now = [0.0]
    watchdog = Watchdog(clock=lambda: now[0])
    said = []
    for look in looks:
        said.append(watchdog.deaf_for(look))
        now[0] += seconds
    return said


IDLE_BESIDE_WORK = Look(at_work=0, taken=0, waiting=5)


def test_messages_that_lie_beside_an_idle_worker_are_counted():
    assert _deaf_for(*[IDLE_BESIDE_WORK] * 4) == [0, 10, 20, 30]


@pytest.mark.parametrize(
    "well",
    [
        Look(at_work=1, taken=0, waiting=5),  # it is at work: others wait behind
        Look(at_work=0, taken=1, waiting=5),  # it took one since the last look
        Look(at_work=0, taken=0, waiting=0),  # there is nothing to take
        Look(at_work=0, taken=0, waiting=None),  # nobody knows
    ],
)
def test_a_worker_that_is_well_begins_again_at_zero(well):
    after = Look(at_work=0, taken=well.taken, waiting=5)

    assert _deaf_for(IDLE_BESIDE_WORK, IDLE_BESIDE_WORK, well, after, after) == [0, 10, 0, 0, 10]


def test_a_worker_that_takes_one_message_after_the_other_is_never_deaf():
    assert _deaf_for(*[Look(at_work=0, taken=n, waiting=100) for n in range(1, 20)]) == [0] * 19
