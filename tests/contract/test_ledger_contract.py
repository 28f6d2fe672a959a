"""The ledger through both gateways: who may work on a tenant, and what a publish leaves behind."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.db.functions import FUNCTIONS
from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from app.errors import QueryRefused
from tests.contract.ledger_factory import (
    AS_OF,
    STRANGER,
    TENANT,
    claim,
    fail,
    give_sales,
    give_tenants,
    let_leases_run_out,
    publish,
    published,
    result,
    rows,
    start,
    wait_is_over,
)


def state_of(url: str, run_id: str, tenant: UUID = TENANT) -> tuple[str, str | None]:
    found = rows(url, "select state, reason from ml_run_item where run_id = %s and tenant_id = %s", run_id, tenant)
    return found[0][0], found[0][1]


def forecast_days(url: str) -> dict[date, float]:
    found = rows(
        url,
        "select prediction_date, (predicted_values -> 'yhat')::float from ml_predictions"
        " where tenant_id = %s and prediction_type = 'sales_forecast'",
        TENANT,
    )
    return dict(found)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_without_a_list_holds_every_active_tenant(gateway: Gateway, database_url: str) -> None:
    closed = UUID(int=3)
    give_tenants(database_url, {TENANT: "A", STRANGER: "B", closed: "C"}, inactive=[closed])

    run = gateway.call(
        "ml_start_run",
        {"p_kind": "retrain", "p_slot": None, "p_params": {}, "p_code_version": "1", "p_tenant_ids": None},
    )

    assert isinstance(run, dict)
    assert run["items"] == 2
    shown = gateway.call("ml_show_run", {"p_run_id": run["run_id"], "p_after": None, "p_limit": 10})
    assert isinstance(shown, dict)
    items = shown["items"]
    assert isinstance(items, list)
    assert [(item["tenant_id"], item["name"]) for item in items if isinstance(item, dict)] == [
        (str(TENANT), "A"), (str(STRANGER), "B"),
    ]  # fmt: skip


def test_a_slot_makes_one_run_however_often_it_is_started(gateway: Gateway) -> None:
    call = {
        "p_kind": "weekly", "p_slot": "2026-11-16T02:00:00+00:00", "p_params": {}, "p_code_version": "1",
        "p_tenant_ids": [str(TENANT)],
    }  # fmt: skip

    first, second = gateway.call("ml_start_run", call), gateway.call("ml_start_run", call)

    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["created"], second["created"]) == (True, False)
    assert second["run_id"] == first["run_id"]
    assert second["items"] == 1


def test_of_eight_schedulers_that_start_one_slot_at_once_one_creates_the_run(database_url: str) -> None:
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(8)]
    call = {
        "p_kind": "weekly", "p_slot": "2026-11-16T02:00:00+00:00", "p_params": {}, "p_code_version": "1",
        "p_tenant_ids": [str(TENANT)],
    }  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: each.call("ml_start_run", call), gateways))
    for each in gateways:
        each.close()

    runs = [answer for answer in answers if isinstance(answer, dict)]
    assert sorted(run["created"] for run in runs) == [False] * 7 + [True]
    assert len({run["run_id"] for run in runs}) == 1
    assert [run["items"] for run in runs] == [1] * 8


def test_a_newer_run_of_the_same_kind_takes_pending_items_over(gateway: Gateway, database_url: str) -> None:
    old = start(gateway, TENANT, STRANGER)
    other_kind = start(gateway, TENANT, kind="trial")

    new = start(gateway, TENANT)

    assert state_of(database_url, old) == ("skipped", f"superseded by run {new}")
    assert state_of(database_url, old, STRANGER)[0] == "pending"
    assert state_of(database_url, other_kind)[0] == "pending"


def test_tenants_come_in_pages_by_id(gateway: Gateway, database_url: str) -> None:
    tenants = {UUID(int=n): f"T{n}" for n in range(1, 26)}
    give_tenants(database_url, tenants)

    first = gateway.call("ml_list_tenants", {"p_after": None, "p_limit": 20})
    assert isinstance(first, list)
    second = gateway.call("ml_list_tenants", {"p_after": str(UUID(int=20)), "p_limit": 20})
    third = gateway.call("ml_list_tenants", {"p_after": str(UUID(int=25)), "p_limit": 20})

    assert len(first) == 20
    assert isinstance(second, list)
    assert [tenant["name"] for tenant in second if isinstance(tenant, dict)] == ["T21", "T22", "T23", "T24", "T25"]
    assert third == []


def test_small_tenants_are_pending_first_and_waiting_ones_last(gateway: Gateway, database_url: str) -> None:
    small, big, waiting = UUID(int=9), UUID(int=1), UUID(int=2)
    give_sales(database_url, {small: 3, big: 50})
    run_id = start(gateway, small, big, waiting)
    fail(gateway, run_id, claim(gateway, run_id, waiting)["fence"], 60, waiting)

    items = gateway.call("ml_pending_items", {"p_run_id": run_id, "p_limit": 10})

    assert isinstance(items, list)
    assert [(item["tenant_id"], item["ready"]) for item in items if isinstance(item, dict)] == [
        (str(small), True), (str(big), True), (str(waiting), False),
    ]  # fmt: skip
    last = items[-1]
    assert isinstance(last, dict)
    assert isinstance(last["retry_in_seconds"], int)
    assert 50 <= last["retry_in_seconds"] <= 60


def test_a_run_ends_when_no_item_is_open_and_older_ones_of_its_kind_with_it(gateway: Gateway) -> None:
    old = start(gateway, TENANT)
    new = start(gateway, TENANT)
    before = gateway.call("ml_finish_run", {"p_run_id": new})
    publish(gateway, new, claim(gateway, new)["fence"], result())

    after = gateway.call("ml_finish_run", {"p_run_id": new})

    assert before == {
        "finished": False, "counts": {"done": 0, "failed": 0, "skipped": 0, "pending": 1, "running": 0},
    }  # fmt: skip
    assert after == {
        "finished": True, "counts": {"done": 1, "failed": 0, "skipped": 0, "pending": 0, "running": 0},
    }  # fmt: skip
    listed = gateway.call("ml_list_runs", {"p_limit": 10})
    assert isinstance(listed, list)
    assert [run["run_id"] for run in listed if isinstance(run, dict)] == [new, old]
    assert all(run["finished_at"] for run in listed if isinstance(run, dict))


def test_an_unknown_run_is_null(gateway: Gateway) -> None:
    nowhere = str(UUID(int=1))

    assert gateway.call("ml_finish_run", {"p_run_id": nowhere}) is None
    assert gateway.call("ml_show_run", {"p_run_id": nowhere, "p_after": None, "p_limit": 5}) is None
    assert gateway.call("ml_pending_items", {"p_run_id": nowhere, "p_limit": 5}) == []


# --- claim, heartbeat, fail, finish ----------------------------------------------------------------------------------


def test_a_claim_hands_out_a_fence_and_the_params_and_keeps_others_out(gateway: Gateway) -> None:
    run_id = start(gateway, TENANT, force=True)

    first, second = claim(gateway, run_id), claim(gateway, run_id)

    assert first == {
        "outcome": "claimed", "fence": first["fence"], "attempt": 1, "params": {"force": True}, "lost_in": [],
    }  # fmt: skip
    assert second["outcome"] == "busy"
    assert 80 <= second["retry_in_seconds"] <= 90


def test_a_claim_in_another_run_waits_for_the_one_that_is_working(gateway: Gateway) -> None:
    working = start(gateway, TENANT, kind="retrain")
    claim(gateway, working)
    other = start(gateway, TENANT, kind="trial")

    assert claim(gateway, other)["outcome"] == "busy"


def test_a_claim_of_what_is_not_there_is_unknown(gateway: Gateway) -> None:
    run_id = start(gateway, TENANT)

    assert claim(gateway, run_id, STRANGER) == {"outcome": "unknown"}


def test_of_twenty_parallel_claims_one_wins(database_url: str) -> None:
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(20)]
    run_id = start(gateways[0], TENANT)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda each: claim(each, run_id), gateways))
    for each in gateways:
        each.close()

    assert sorted(answer["outcome"] for answer in answers) == ["busy"] * 19 + ["claimed"]


def test_twenty_runs_of_one_tenant_never_work_at_once(database_url: str) -> None:
    gateways = [PostgresGateway(database_url, max_size=1) for _ in range(20)]
    runs = [start(gateways[0], TENANT, kind=f"kind{n}") for n in range(20)]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda pair: claim(*pair), zip(gateways, runs, strict=True)))
    for each in gateways:
        each.close()

    assert sorted(answer["outcome"] for answer in answers) == ["busy"] * 19 + ["claimed"]
    assert rows(database_url, "select count(*) from ml_run_item where state = 'running'") == [(1,)]


def test_a_dead_lease_is_taken_over_and_the_zombie_writes_nothing(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    zombie = claim(gateway, run_id)["fence"]
    let_leases_run_out(database_url)

    second = claim(gateway, run_id)

    assert second["outcome"] == "claimed"
    assert second["fence"] > zombie
    beat = {"p_tenant_id": TENANT, "p_run_id": run_id, "p_lease_seconds": 90, "p_stage": "fit"}
    assert gateway.call("ml_heartbeat_item", {**beat, "p_fence": zombie}) == {"alive": False}
    assert publish(gateway, run_id, zombie, result()) == {"outcome": "lost"}
    assert fail(gateway, run_id, zombie, None) == {"outcome": "lost"}
    assert rows(database_url, "select count(*) from ml_predictions") == [(0,)]
    assert gateway.call("ml_heartbeat_item", {**beat, "p_fence": second["fence"]}) == {"alive": True}


def test_a_zombie_that_wakes_after_the_other_published_changes_nothing(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    zombie = claim(gateway, run_id)["fence"]
    let_leases_run_out(database_url)
    publish(gateway, run_id, claim(gateway, run_id)["fence"], result(yhat=10.0))

    answer = publish(gateway, run_id, zombie, result(yhat=77.0))

    assert answer == {"outcome": "lost"}
    assert set(forecast_days(database_url).values()) == {10.0}


def test_two_lost_workers_park_the_item(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    for _ in range(2):
        assert claim(gateway, run_id)["outcome"] == "claimed"
        let_leases_run_out(database_url)

    third = claim(gateway, run_id)

    assert third == {"outcome": "finished", "state": "failed"}
    error = rows(database_url, "select error ->> 'code', attempt from ml_run_item where run_id = %s", run_id)
    assert error == [("worker_lost", 4)]


def test_finishing_a_run_takes_items_of_lost_workers_back(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    claim(gateway, run_id)
    let_leases_run_out(database_url)

    answer = gateway.call("ml_finish_run", {"p_run_id": run_id})

    assert isinstance(answer, dict)
    assert answer["counts"] == {"done": 0, "failed": 0, "skipped": 0, "pending": 1, "running": 0}


def test_an_item_whose_worker_died_is_left_to_the_newer_run(gateway: Gateway, database_url: str) -> None:
    old = start(gateway, TENANT)
    claim(gateway, old)
    new = start(gateway, TENANT)
    let_leases_run_out(database_url)

    answer = claim(gateway, new)

    assert answer["outcome"] == "claimed"
    assert state_of(database_url, old) == ("skipped", f"superseded by run {new}")


def test_a_failure_that_may_pass_waits_and_comes_back(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    fence = claim(gateway, run_id)["fence"]

    answers = [fail(gateway, run_id, fence, 300), fail(gateway, run_id, fence, 300)]
    later = claim(gateway, run_id)
    wait_is_over(database_url)
    again = claim(gateway, run_id)

    assert answers == [{"outcome": "pending"}] * 2  # the second is a repeat after a lost answer
    assert later["outcome"] == "later"
    assert 290 <= later["retry_in_seconds"] <= 300
    assert (again["outcome"], again["attempt"]) == ("claimed", 2)


def test_the_fourth_failure_is_the_last(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)

    outcomes = [fail(gateway, run_id, claim(gateway, run_id)["fence"], 0)["outcome"] for _ in range(4)]

    assert outcomes == ["pending", "pending", "pending", "failed"]
    assert claim(gateway, run_id) == {"outcome": "finished", "state": "failed"}
    assert state_of(database_url, run_id) == ("failed", "It broke.")


def test_a_failure_without_a_retry_time_fails_at_once(gateway: Gateway) -> None:
    run_id = start(gateway, TENANT)

    assert fail(gateway, run_id, claim(gateway, run_id)["fence"], None) == {"outcome": "failed"}


def test_an_error_of_any_length_is_kept_short(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    error = {"kind": "bug", "code": "x", "message": "m" * 5_000, "next_step": "", "trace": "t" * 100_000}

    answer = gateway.call(
        "ml_fail_item",
        {"p_tenant_id": TENANT, "p_run_id": run_id, "p_fence": claim(gateway, run_id)["fence"], "p_error": error},
    )

    assert answer == {"outcome": "failed"}
    kept = rows(database_url, "select error, length(reason) from ml_run_item where run_id = %s", run_id)
    assert kept == [({"kind": "bug", "code": "x", "message": "m" * 4_000, "next_step": ""}, 1_000)]


def test_an_item_can_end_without_publishing(gateway: Gateway, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    call = {
        "p_tenant_id": TENANT, "p_run_id": run_id, "p_fence": claim(gateway, run_id)["fence"], "p_state": "skipped",
        "p_reason": "no sales yet", "p_report": {"status": "no_sales_yet"}, "p_input_hash": None,
    }  # fmt: skip

    first, second = gateway.call("ml_finish_item", call), gateway.call("ml_finish_item", call)
    foreign = gateway.call("ml_finish_item", {**call, "p_fence": 999_999})

    assert (first, second) == ({"outcome": "finished"}, {"outcome": "finished"})
    assert foreign == {"outcome": "lost"}
    assert state_of(database_url, run_id) == ("skipped", "no sales yet")
    assert claim(gateway, run_id) == {"outcome": "finished", "state": "skipped"}


# --- publish ---------------------------------------------------------------------------------------------------------


def test_a_publish_writes_every_part_and_reads_back(gateway: Gateway, database_url: str) -> None:
    run_id, fence = published(gateway, result())

    read = gateway.call("ml_read_forecast", {"p_tenant_id": TENANT})

    assert isinstance(read, dict)
    assert read["current"] == {
        "input_hash": "20261120", "output_hash": "0d20261120", "as_of": "2026-11-20", "run_id": run_id,
        "model_version": "v1",
    }  # fmt: skip
    assert read["report"] == {"chosen": "blend", "quality": {"rows": 7}}
    predictions = read["predictions"]
    assert isinstance(predictions, list)
    assert predictions[0] == {
        "prediction_date": "2026-11-20", "prediction_type": "sales_anomaly", "run_id": run_id, "model_version": "v1",
        "predicted_values": {"y": 99.5, "score": 6.1, "is_anomaly": True}, "confidence_score": 0.71,
    }  # fmt: skip
    assert [each["prediction_date"] for each in predictions[1:] if isinstance(each, dict)] == [
        "2026-11-21", "2026-11-22", "2026-11-23",
    ]  # fmt: skip
    assert rows(database_url, "select tenant_id, as_of, fence, forecast -> 0 ->> 'date' from ml_forecast_ledger") == [
        (TENANT, AS_OF, fence, "2026-11-21")
    ]
    assert rows(database_url, "select dedupe_key, state from notifications") == [("k1", "pending")]
    snapshot = gateway.call("ml_read_snapshot", {"p_tenant_id": TENANT, "p_input_hash": "20261120"})
    assert snapshot == {"payload": "U05BUA==", "as_of": "2026-11-20"}


def test_parts_stay_with_the_forecast_and_totals_with_the_ledger(gateway: Gateway, database_url: str) -> None:
    explained = result(horizon=2)
    # 0.1 + 0.2 is 0.3 in decimal, and in no double.
    for day, yhat in zip(explained["predictions"], (0.3, 1e-7), strict=True):
        day |= {"yhat": yhat, "yhat_lower": 0.0, "yhat_upper": 1.0}
    explained["predictions"][0]["parts"] = {
        "level": 0.1,
        "weekday": 0.2,
        "season": 0.0,
        "calendar": -1e-3,
        "recent": 1e-3,
    }
    explained["predictions"][1]["parts"] = {"level": 1e12, "weekday": -1e12, "recent": 1e-7}
    explained["totals"] = {"total_7": {"yhat": 1.5, "yhat_lower": 1.0, "yhat_upper": 2.0, "bands": {"0.8": [1.0, 2.0]}}}

    published(gateway, explained)

    read: Any = gateway.call("ml_read_forecast", {"p_tenant_id": TENANT})
    values = [row["predicted_values"] for row in read["predictions"] if row["prediction_type"] == "sales_forecast"]
    assert [each["parts"] for each in values] == [day["parts"] for day in explained["predictions"]]
    ((ledger, totals),) = rows(database_url, "select forecast, totals from ml_forecast_ledger")
    assert ledger == [{key: value for key, value in day.items() if key != "parts"} for day in explained["predictions"]]
    assert totals == explained["totals"]


def test_a_publish_that_is_repeated_gives_the_same_answer_and_writes_nothing_twice(
    gateway: Gateway, database_url: str
) -> None:
    run_id = start(gateway, TENANT)
    fence = claim(gateway, run_id)["fence"]

    first, second = publish(gateway, run_id, fence, result()), publish(gateway, run_id, fence, result())

    assert first == second == {"outcome": "published", "predictions": 3, "anomalies": 1, "deleted": 0}
    assert rows(database_url, "select count(*) from ml_forecast_ledger") == [(1,)]
    assert rows(database_url, "select count(*) from ml_predictions") == [(4,)]


def test_an_older_as_of_is_refused_and_the_newer_forecast_stays(gateway: Gateway, database_url: str) -> None:
    published(gateway, result(AS_OF))
    run_id = start(gateway, TENANT)

    answer = publish(gateway, run_id, claim(gateway, run_id)["fence"], result(date(2026, 11, 19), version="v2", yhat=5))

    assert answer == {"outcome": "older", "as_of": "2026-11-20"}
    assert set(forecast_days(database_url).values()) == {10.0}
    assert rows(database_url, "select model_version from ml_models") == [("v1",)]


def test_days_that_have_passed_keep_their_last_forecast_and_unwritten_future_days_go(
    gateway: Gateway, database_url: str
) -> None:
    published(gateway, result(date(2026, 11, 20), horizon=5, yhat=10))  # 21st to 25th

    published(gateway, result(date(2026, 11, 22), version="v2", horizon=2, yhat=20))  # 23rd and 24th

    assert forecast_days(database_url) == {
        date(2026, 11, 21): 10, date(2026, 11, 22): 10, date(2026, 11, 23): 20, date(2026, 11, 24): 20,
    }  # fmt: skip


def test_flags_of_the_last_ninety_days_that_are_gone_disappear_and_older_ones_stay(
    gateway: Gateway, database_url: str
) -> None:
    first = result()
    flagged = {"y": 1.0, "score": 5.0, "is_anomaly": True}
    first["anomalies"] = [{"date": day, **flagged} for day in ("2026-08-22", "2026-08-23", "2026-11-20")]
    published(gateway, first)
    second = result(version="v2")
    second["anomalies"] = []

    published(gateway, second)  # the window is the 90 days from 2026-08-23 to 2026-11-20

    left = rows(database_url, "select prediction_date from ml_predictions where prediction_type = 'sales_anomaly'")
    assert left == [(date(2026, 8, 22),)]


def test_the_new_model_is_the_only_production_one_and_the_old_one_can_come_back(gateway: Gateway) -> None:
    published(gateway, result(version="v1"))
    published(gateway, result(version="v2"))
    key = {"p_tenant_id": TENANT, "p_model_type": "sales_forecast"}

    listed = gateway.call("ml_list_models", {"p_tenant_id": TENANT})
    activated = gateway.call("ml_activate_model", {**key, "p_model_version": "v1"})
    unknown = gateway.call("ml_activate_model", {**key, "p_model_version": "v9"})
    active = gateway.call("ml_read_model", {**key, "p_model_version": None})

    assert isinstance(listed, list)
    assert [(m["model_version"], m["stage"], m["bytes"]) for m in listed if isinstance(m, dict)] == [
        ("v2", "production", 8), ("v1", "archived", 8),
    ]  # fmt: skip
    assert activated == {"outcome": "active", "previous": "v2"}
    assert unknown == {"outcome": "unknown", "previous": "v1"}
    assert isinstance(active, dict)
    assert (active["model_version"], active["model_data"]) == ("v1", "TU9ERUw=")
    assert gateway.call("ml_read_model", {**key, "p_model_version": "v9"}) is None


def test_an_artefact_over_twenty_megabytes_is_left_out_and_the_forecast_is_kept(database_url: str) -> None:
    gateway = PostgresGateway(database_url)
    big = result()
    big["model"]["model_data"] = "A" * (20 * 1024 * 1024 + 4)

    published(gateway, big)

    model = gateway.call("ml_read_model", {"p_tenant_id": TENANT, "p_model_type": "sales_forecast"})
    gateway.close()
    assert isinstance(model, dict)
    assert model["model_data"] is None


def _bend(path: str, value: object) -> dict[str, object]:
    bent = result(version="v2")
    keys = path.split(".")
    part: object = bent
    for key in keys[:-1]:
        part = part[int(key)] if isinstance(part, list) else part[key]  # type: ignore[index]
    part[keys[-1]] = value  # type: ignore[index]
    return bent


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("predictions.0.yhat", "10"),
        ("predictions.0.yhat", "NaN"),
        ("predictions.0.yhat", None),
        ("predictions.0.yhat", 10**400),
        ("predictions.0.yhat_lower", 10.5),
        ("predictions.0.date", "2026-11-20"),
        ("predictions.0.date", "9999-01-01"),
        ("predictions.0.date", "soon"),
        ("predictions.1.date", "2026-11-21"),
        ("predictions", []),
        ("predictions", {}),
        ("predictions.0.parts", {"level": 10.0, "recent": 0.01}),  # 10.01 is not 10
        ("predictions.0.parts", {"level": 10.0, "recent": None}),
        ("predictions.0.parts", {"level": "10"}),
        ("predictions.0.parts", {}),
        ("predictions.0.parts", [10.0]),
        ("totals", []),
        ("totals", {"all": {"yhat": 1, "yhat_lower": 1, "yhat_upper": 1}}),
        ("totals", {"total_7": {"yhat": 1, "yhat_lower": 2, "yhat_upper": 3}}),
        ("totals", {"total_7": {"yhat": 1, "yhat_lower": 1}}),
        ("anomalies.0.date", "2026-11-21"),
        ("anomalies.0.score", "high"),
        ("anomalies.0.is_anomaly", None),
        ("confidence_score", 1.5),
        ("confidence_score", "NaN"),
        ("model.accuracy", "inf"),
        ("model.model_data", "no base64!"),
        ("snapshot", None),
        ("output_hash", "not hex"),
        ("as_of", None),
        ("report", []),
        ("notifications.0.title", None),
    ],
)
def test_a_result_with_nonsense_in_it_is_refused_whole(database_url: str, path: str, value: object) -> None:
    gateway = PostgresGateway(database_url)
    published(gateway, result(version="v1"))
    before = everything(database_url)
    run_id = start(gateway, TENANT)
    fence = claim(gateway, run_id)["fence"]
    bent = _bend(path, value)
    if path == "notifications.0.title":
        bent["notifications"][0]["dedupe_key"] = "k2"  # type: ignore[index]

    with pytest.raises(QueryRefused) as refused:
        publish(gateway, run_id, fence, bent)

    assert "99.5" not in str(refused.value)  # no value of a row in a message
    after = everything(database_url)
    assert after == before
    assert state_of(database_url, run_id)[0] == "running"
    gateway.close()


def everything(url: str) -> dict[str, list[object]]:
    """Every row that a publish may write, apart from the runs."""
    tables = (
        "ml_predictions", "ml_models", "ml_active_forecast", "ml_forecast_ledger", "ml_input_snapshot", "notifications",
    )  # fmt: skip
    return {table: [row[0] for row in rows(url, f"select to_jsonb(t) from {table} t order by 1")] for table in tables}


def test_a_message_is_written_once_however_often_it_is_published(gateway: Gateway, database_url: str) -> None:
    published(gateway, result(version="v1"))
    published(gateway, result(version="v2"))

    assert rows(database_url, "select count(*) from notifications") == [(1,)]


def test_past_forecasts_outlive_their_run_but_the_current_run_cannot_be_deleted(
    gateway: Gateway, database_url: str
) -> None:
    old, _ = published(gateway, result(date(2026, 11, 20), horizon=1))
    new, _ = published(gateway, result(date(2026, 11, 21), version="v2", horizon=1))

    with psycopg.connect(database_url) as connection:
        connection.execute("delete from ml_run where run_id = %s", (old,))
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute("delete from ml_run where run_id = %s", (new,))

    assert len(forecast_days(database_url)) == 2
    assert rows(database_url, "select count(*) from ml_forecast_ledger") == [(2,)]


# --- what a tenant tells us ------------------------------------------------------------------------------------------


def test_settings_are_replaced_removed_and_bounded(gateway: Gateway, database_url: str) -> None:
    call = {"p_tenant_id": TENANT}
    stored = "select settings from tenant_ml_settings"

    gateway.call("ml_write_settings", {**call, "p_settings": {"horizon_days": 7}})
    gateway.call("ml_write_settings", {**call, "p_settings": {"horizon_days": 14}})
    kept = rows(database_url, stored)
    for bad in ({"x": "y" * 17_000}, [1], "text"):
        with pytest.raises(QueryRefused):
            gateway.call("ml_write_settings", {**call, "p_settings": bad})
    gateway.call("ml_write_settings", {**call, "p_settings": None})

    assert kept == [({"horizon_days": 14},)]
    assert rows(database_url, stored) == []


def test_calendar_days_are_added_renamed_and_replaced(gateway: Gateway, database_url: str) -> None:
    def write(days: list[tuple[str, str, str]], *, replace: bool) -> object:
        sent = [{"day": day, "kind": kind, "name": name} for day, kind, name in days]
        return gateway.call("ml_write_calendar", {"p_tenant_id": TENANT, "p_days": sent, "p_replace": replace})

    stored = "select day::text, kind, name from tenant_calendar order by 1, 2"
    write([("2026-12-24", "closure", "Eve"), ("2026-12-25", "closure", "Xmas")], replace=False)
    twice = write([("2026-12-24", "closure", "a"), ("2026-12-24", "closure", "Christmas Eve")], replace=False)
    added = rows(database_url, stored)
    write([("2026-12-31", "event", "Party")], replace=True)

    assert twice == {"written": 1}
    assert added == [("2026-12-24", "closure", "Christmas Eve"), ("2026-12-25", "closure", "Xmas")]
    assert rows(database_url, stored) == [("2026-12-31", "event", "Party")]
    for bad in (("9999-01-01", "closure", ""), ("2026-12-24", "holiday", ""), ("2026-13-01", "event", "")):
        with pytest.raises(QueryRefused):
            write([bad], replace=True)
    assert rows(database_url, stored) == [("2026-12-31", "event", "Party")]


def test_features_are_upserted(gateway: Gateway, database_url: str) -> None:
    def write(value: float) -> object:
        row = {"feature_date": "2026-11-20", "feature_type": "ma7", "feature_values": {"value": value}}
        return gateway.call("ml_write_features", {"p_tenant_id": TENANT, "p_rows": [row]})

    assert (write(1.5), write(2.5)) == ({"written": 1}, {"written": 1})
    assert rows(database_url, "select feature_values from ml_features") == [({"value": 2.5},)]


# --- the list of functions, and tenants apart ------------------------------------------------------------------------


def test_the_list_of_functions_is_what_the_database_has(database_url: str) -> None:
    found = rows(
        database_url,
        "select proname, coalesce((select json_object_agg(n, format_type(t, null))"
        " from unnest(proargnames, proargtypes) as a (n, t)), '{}')"
        " from pg_proc where pronamespace = 'public'::regnamespace and proname ~ '^(ml|example)_'",
    )

    assert dict(found) == {name: dict(types) for name, types in FUNCTIONS.items()}


def _calls(run_id: str, fence: int) -> dict[str, dict[str, object]]:
    """One call of every tenant function, aimed at somebody else's run, model, snapshot and rows."""
    item: dict[str, object] = {"p_run_id": run_id}
    fenced: dict[str, object] = {**item, "p_fence": fence}
    model: dict[str, object] = {"p_model_type": "sales_forecast"}
    return {
        "ml_read_input": {"p_as_of": None, "p_max_days": 100, "p_stale_after_days": 28},
        "ml_claim_item": {**item, "p_lease_seconds": 90},
        "ml_heartbeat_item": {
            **fenced, "p_lease_seconds": 90, "p_stage": "x", "p_candidate": "x", "p_candidate_seconds": 500,
        },
        "ml_fail_item": {**fenced, "p_error": {"message": "x"}, "p_retry_in_seconds": None},
        "ml_finish_item": {
            **fenced, "p_state": "done", "p_reason": "x", "p_report": {}, "p_input_hash": None,
        },
        "ml_publish_item": {**fenced, "p_result": result(version="foreign")},
        "ml_publish_model": {**fenced, "p_model": result(version="foreign")["model"], "p_report": {}},
        "ml_read_forecast": {},
        "ml_read_model": {**model, "p_model_version": "secret-version"},
        "ml_list_models": {},
        "ml_activate_model": {**model, "p_model_version": "secret-version"},
        "ml_write_settings": {"p_settings": {"horizon_days": 1}},
        "ml_write_calendar": {"p_days": [], "p_replace": True},
        "ml_read_snapshot": {"p_input_hash": "20261120"},
        "ml_read_sales_page": {"p_after_sold_at": None, "p_after_sale_id": None, "p_limit": 100},
        "ml_read_inventory": {},
        "ml_write_features": {"p_rows": []},
        "ml_quarantine_rows": {"p_source": "f.csv", "p_rows": []},
        "ml_check_sales": {},
        "ml_read_features": {"p_feature_type": "ma7", "p_from": "1900-01-01"},
        **_notification_calls(),
        "example_import_sales": {"p_tenant": {"name": "Stranger"}, "p_rows": []},
    }  # fmt: skip


def _notification_calls() -> dict[str, dict[str, object]]:
    notice: dict[str, object] = {"dedupe_key": "k9", "kind": "anomaly", "title": "Mine"}
    delivery: dict[str, object] = {"p_notification_id": UUID(int=9), "p_channel": "email"}
    return {
        "ml_write_notifications": {"p_notifications": [notice]},
        "ml_write_digest": {"p_notification": {**notice, "dedupe_key": "k10"}, "p_until": "2200-01-01T00:00:00Z"},
        "ml_list_notifications": {"p_limit": 100},
        "ml_read_notification_config": {},
        "ml_write_notification_config": {
            "p_rule": "*", "p_channel": "email", "p_enabled": False, "p_settings": {},
        },
        "ml_write_notification_address": {"p_channel": "email", "p_address": "stranger@example.com"},
        "ml_read_notification_facts": {"p_days": 42},
        "ml_claim_delivery": {**delivery, "p_lease_seconds": 60, "p_daily_limit": 20},
        "ml_end_delivery": {
            **delivery, "p_fence": 1, "p_state": "sent", "p_error": None, "p_retry_in_seconds": 0, "p_counts": True,
        },
        "ml_end_notification_tick": {"p_job": "rules", "p_slot": "1"},
    }  # fmt: skip


def test_no_function_shows_or_changes_another_tenant(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {TENANT: "secret-name", STRANGER: "B"})
    give_sales(database_url, {TENANT: 4321})
    secret = result(version="secret-version")
    secret["report"] = {"note": "secret-report"}
    secret["notifications"][0]["title"] = "secret-title"
    published(gateway, secret)
    address = {"p_tenant_id": TENANT, "p_channel": "email", "p_address": "secret@example.com"}
    gateway.call("ml_write_notification_address", address)
    day = {"day": "2026-12-24", "kind": "event", "name": "secret"}
    gateway.call("ml_write_settings", {"p_tenant_id": TENANT, "p_settings": {"note": "secret-setting"}})
    gateway.call("ml_write_calendar", {"p_tenant_id": TENANT, "p_days": [day], "p_replace": True})
    run_id = start(gateway, TENANT, note="secret-run")
    fence = claim(gateway, run_id)["fence"]
    before = of_tenant(database_url)

    calls = _calls(run_id, fence)
    answers = {name: gateway.call(name, {"p_tenant_id": STRANGER, **params}) for name, params in calls.items()}

    assert set(calls) == {name for name, types in FUNCTIONS.items() if "p_tenant_id" in types}
    assert not [name for name, answer in answers.items() if "secret" in repr(answer) or "4321" in repr(answer)]
    assert answers["ml_claim_item"] == {"outcome": "unknown"}
    assert {repr(answers[name]) for name in ("ml_fail_item", "ml_finish_item", "ml_publish_item")} == {
        "{'outcome': 'lost'}"
    }
    assert of_tenant(database_url) == before


def of_tenant(url: str) -> dict[str, list[object]]:
    """Every row of TENANT in every table of ours, by the catalogue."""
    tables = rows(
        url,
        "select o::text from tenantcast_internal.our_tables(false) o join pg_attribute a on a.attrelid = o"
        " where a.attname = 'tenant_id'",
    )
    return {
        table: [
            row[0] for row in rows(url, f"select to_jsonb(t) from {table} t where tenant_id = %s order by 1", TENANT)
        ]
        for (table,) in tables
    }
