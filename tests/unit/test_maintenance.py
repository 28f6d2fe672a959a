"""Clean-ups: how many batches, when the brake holds, and what settings may ask for."""

from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from app.config.maintenance_settings import MaintenanceSettings
from app.errors import ConfigError, DatabaseUnavailable
from app.services.maintenance import (
    clean_up,
    cleanup_old_ml_predictions,
    cleanup_old_notifications,
    cleanup_old_runs,
    is_suspicious,
    keep_days,
)

SETTINGS = MaintenanceSettings()
FORCED = MaintenanceSettings(force_clean_up=True)


class Table:
    """A gateway before one table: so many rows, so many of them due."""

    name = "fake"

    def __init__(self, rows: int, due: int, *, planned: int | None = None, broken_after: int = 10**9) -> None:
        self.rows, self.due = rows, due
        self._planned = planned
        self._broken_after = broken_after
        self.calls: list[Mapping[str, Any]] = []

    def call(self, function: str, params: Mapping[str, Any]) -> Any:
        if function == "ml_plan_clean_up":
            return {"rows": self.rows, "due": self.due if self._planned is None else self._planned, "before": "then"}
        assert function == "ml_clean_up_batch"
        if len(self.calls) == self._broken_after:
            raise DatabaseUnavailable
        self.calls.append(params)
        deleted = min(params["p_limit"], self.due)
        self.due -= deleted
        self.rows -= deleted
        return {"deleted": deleted}

    def close(self) -> None:
        """Nothing is open."""


def test_what_is_due_goes_in_batches_of_at_most_a_thousand() -> None:
    table = Table(rows=100_000, due=2_500)

    report = clean_up(table, "notifications", SETTINGS)

    assert [call["p_limit"] for call in table.calls] == [1000, 1000, 500]
    assert (report["status"], report["deleted"], table.due) == ("done", 2_500, 0)


def test_a_dry_run_counts_and_deletes_nothing() -> None:
    table = Table(rows=100, due=100)

    reports = cleanup_old_notifications(table, SETTINGS, dry_run=True)

    assert [(report["status"], report["due"], report["deleted"]) for report in reports] == [("dry_run", 100, 0)]
    assert table.calls == []


def test_more_than_a_fifth_of_a_large_table_is_refused_and_says_what_to_do() -> None:
    table = Table(rows=10_000, due=2_001)

    with structlog.testing.capture_logs() as logs:
        report = clean_up(table, "predictions", SETTINGS)

    assert (report["status"], report["deleted"]) == ("refused", 0)
    assert table.calls == []
    assert "2001 of 10000" in report["reason"]
    assert "ML_FORCE_CLEAN_UP" in report["reason"]
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_a_person_can_force_it() -> None:
    table = Table(rows=10_000, due=9_999)

    assert clean_up(table, "predictions", FORCED)["deleted"] == 9_999


@pytest.mark.parametrize(
    ("rows", "due", "suspicious"),
    [
        (10_000, 2_000, False),  # exactly a fifth
        (10_000, 2_001, True),
        (1_001, 1_001, True),
        (1_000, 1_000, False),  # one batch: of ten rows, three are always more than a fifth
        (0, 0, False),
    ],
)
def test_the_brake_holds_above_a_fifth_of_more_than_one_batch(rows: int, due: int, suspicious: bool) -> None:
    assert is_suspicious(rows, due, SETTINGS) is suspicious
    assert not is_suspicious(rows, due, FORCED)


def test_no_more_goes_than_was_due_when_it_began() -> None:
    table = Table(rows=10**6, due=10**6, planned=1_500)  # a clock that jumps after the count

    assert clean_up(table, "runs", SETTINGS)["deleted"] == 1_500


def test_another_clean_up_that_was_faster_ends_this_one() -> None:
    table = Table(rows=10**6, due=100, planned=5_000)

    assert clean_up(table, "runs", SETTINGS)["deleted"] == 100
    assert len(table.calls) == 2


def test_killed_in_between_the_next_one_goes_on() -> None:
    table = Table(rows=100_000, due=3_000, broken_after=1)
    with pytest.raises(DatabaseUnavailable):
        clean_up(table, "notifications", SETTINGS)
    table._broken_after = 10**9

    report = clean_up(table, "notifications", SETTINGS)

    assert (report["due"], report["deleted"], table.due) == (2_000, 2_000, 0)


def test_each_task_cleans_its_own_targets() -> None:
    cleaned = [
        [report["what"] for report in task(Table(0, 0), SETTINGS)]
        for task in (cleanup_old_notifications, cleanup_old_ml_predictions, cleanup_old_runs)
    ]

    assert cleaned == [
        ["notifications"],
        ["predictions", "model_versions"],
        ["run_items", "runs", "snapshots", "quarantine"],
    ]


@pytest.mark.parametrize(
    ("variable", "targets", "other"),
    [
        ("ML_KEEP_NOTIFICATIONS_DAYS", ("notifications",), "predictions"),
        ("ML_KEEP_PREDICTIONS_DAYS", ("predictions",), "notifications"),
        ("ML_KEEP_MODEL_DAYS", ("model_versions",), "predictions"),
        ("ML_KEEP_SNAPSHOTS_DAYS", ("snapshots",), "runs"),
        ("ML_KEEP_QUARANTINE_DAYS", ("quarantine",), "snapshots"),
        ("ML_KEEP_RUNS_DAYS", ("runs", "run_items"), "snapshots"),
    ],
)
def test_every_retention_time_is_the_operators(
    monkeypatch: pytest.MonkeyPatch, variable: str, targets: tuple[Any, ...], other: Any
) -> None:
    monkeypatch.setenv(variable, "123")

    changed = MaintenanceSettings()

    assert [keep_days(target, changed) for target in targets] == [123] * len(targets)
    assert keep_days(other, changed) == keep_days(other, SETTINGS) != 123


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ML_KEEP_NOTIFICATIONS_DAYS", "29"),
        ("ML_KEEP_PREDICTIONS_DAYS", "89"),
        ("ML_KEEP_MODEL_DAYS", "6"),
        ("ML_KEEP_RUNS_DAYS", "0"),
        ("ML_KEEP_MODEL_VERSIONS", "0"),
        ("ML_MAX_DELETE_SHARE", "1.1"),
        ("ML_MAX_DELETE_SHARE", "nan"),
    ],
)
def test_settings_below_the_floor_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigError, match=variable):
        MaintenanceSettings()


def test_the_number_of_kept_versions_and_the_share_are_the_operators() -> None:
    table = Table(rows=10_000, due=3_000)

    report = clean_up(table, "model_versions", MaintenanceSettings(keep_model_versions=9, max_delete_share=0.3))

    assert report["deleted"] == 3_000
    assert {call["p_keep_versions"] for call in table.calls} == {9}
