"""What `runs watch` says, from looks at a ledger that a script plays."""

from collections.abc import Mapping
from uuid import UUID

import pytest

from app.cli.watch import describe, duration
from app.errors import DatabaseUnavailable, UnknownRun
from app.services.watch import Rate, watch

RUN = UUID("5e1c0000-0000-4000-8000-000000000001")


class _Ledger:
    """Plays one answer of `ml_show_run` after another."""

    name = "script"

    def __init__(self, *answers: Mapping[str, int] | Exception | None) -> None:
        self.answers = list(answers)

    def call(self, function: str, params: Mapping[str, object]):
        assert function == "ml_show_run"
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return (
            None if answer is None else {"run": {"run_id": str(RUN), "kind": "retrain", "counts": answer}, "items": []}
        )

    def close(self) -> None:
        """Nothing to close."""


def _looks(*answers, seconds: float = 10.0):
    """All looks at the ledger, ``seconds`` apart on a clock of their own."""
    now = [0.0]

    def pass_time(_: float) -> None:
        now[0] += seconds

    return list(watch(_Ledger(*answers), RUN, clock=lambda: now[0], sleep=pass_time))


def test_it_ends_with_the_run():
    looks = _looks({"pending": 2}, {"running": 1, "pending": 1}, {"done": 1, "failed": 1})

    assert [look["finished"] for look in looks] == [False, False, True]
    assert (looks[-1]["done"], looks[-1]["failed"], looks[-1]["total"]) == (1, 1, 2)


def test_rate_and_time_left_come_from_what_ended_while_we_looked():
    # 100 of 400 were done before; 10 a look, so 60 a minute, and 280 are left after the second.
    looks = _looks({"done": 100, "pending": 300}, {"done": 110, "pending": 290}, {"done": 120, "pending": 280},
                   {"done": 400})  # fmt: skip

    assert [look["per_minute"] for look in looks[:3]] == [None, 60.0, 60.0]
    assert [look["seconds_left"] for look in looks[:3]] == [None, 290.0, 280.0]


def test_the_rate_is_that_of_the_last_two_minutes():
    rate = Rate()
    seen = [rate.see(at, ended) for at, ended in [(0, 0), (60, 600), (120, 660), (180, 720), (240, 780)]]

    assert seen[1] == 10.0
    assert seen[-1] == 1.0


def test_items_that_are_tried_again_do_not_make_the_rate_negative():
    rate = Rate()
    seen = [rate.see(at, ended) for at, ended in [(0, 50), (10, 60), (20, 40), (30, 45)]]

    assert seen == [None, 1.0, None, 0.5]


def test_it_says_for_how_long_nothing_has_moved():
    looks = _looks({"pending": 1}, {"pending": 1}, {"pending": 1}, {"running": 1}, {"done": 1}, seconds=20)

    assert [look["unchanged_seconds"] for look in looks] == [0, 20, 40, 0, 0]
    assert "worker --check" in describe(looks[2])
    assert "worker --check" not in describe(looks[3])


def test_a_run_without_tenants_is_over():
    assert [look["finished"] for look in _looks({})] == [True]


def test_no_such_run():
    with pytest.raises(UnknownRun, match=str(RUN)):
        _looks(None)


def test_a_short_outage_is_ridden_out(monkeypatch):
    monkeypatch.setattr("app.services.drain.random.uniform", lambda _low, _high: 0.001)

    looks = _looks({"pending": 1}, DatabaseUnavailable(), DatabaseUnavailable(), {"done": 1})

    assert [look["finished"] for look in looks] == [False, True]


def test_one_line_for_people():
    looks = _looks(
        {"done": 100, "pending": 300}, {"done": 110, "failed": 1, "pending": 279, "running": 10}, {"done": 1}
    )

    assert (
        describe(looks[1])
        == "400 tenants: 110 done, 1 failed, 10 running, 279 pending · 66 a minute · about 4 min left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (89, "89 s"), (120, "2 min"), (3540, "59 min"), (11_100, "3 h 05 min")]
)
def test_times_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text
