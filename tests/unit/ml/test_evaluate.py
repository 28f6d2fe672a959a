"""The judge: its numbers by hand, its fixed shape, and bad input."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from app import __version__
from app.config.ml_settings import MLSettings
from app.errors import InvalidFile
from app.services.ml import global_model
from app.services.ml import metrics as m
from app.services.ml.calendar import Calendar
from app.services.ml.evaluate import evaluate
from app.services.ml.fitted_model import FittedModel
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.series import DailySeries
from tests.factories import closed_on_sundays, weekly_series

KEYS = {
    "series", "windows", "failed", "mase", "rmsse", "wape", "smape", "sql", "coverage_80", "coverage_95",
    "coverage_80_total_7", "coverage_95_total_7", "coverage_80_total_28", "coverage_95_total_28",
    "error_total_7", "bias_total_7", "error_total_28", "bias_total_28",
    "share_worse_than_snaive", "share_of_series_worse_than_snaive", "cpu_seconds_per_window",
}  # fmt: skip
CHEAP = MLSettings(model_candidates=("naive", "snaive", "weekday_mean"))


def frame_of(**series) -> pd.DataFrame:
    parts = [pd.DataFrame({"unique_id": name, "ds": s.dates.astype(str), "y": s.y}) for name, s in series.items()]
    return pd.concat(parts, ignore_index=True)


def two_shops() -> pd.DataFrame:
    return frame_of(a=weekly_series(200, noise=0.3), b=closed_on_sundays(230))


def test_the_shape_is_the_one_that_is_promised():
    result = evaluate(two_shops(), 14, 2, CHEAP)

    assert set(result) == {"pooled", "series", "settings", "version"}
    assert set(result["pooled"]) == KEYS
    assert [set(row) for row in result["series"]] == [KEYS | {"unique_id", "chosen"}] * 2
    assert result["version"] == __version__
    assert result["settings"]["horizon_days"] == 14
    assert (result["pooled"]["series"], result["pooled"]["windows"], result["pooled"]["failed"]) == (2, 4, 0)
    json.dumps(result, allow_nan=False)


def test_numbers_match_forecasts_made_by_hand():
    series = weekly_series(200, noise=0.3)
    engine = BusinessMLEngine(CHEAP.model_copy(update={"horizon_days": 14}))
    known = [series.head(172), series.head(186)]
    actual = [series.y[172:186], series.y[186:]]
    made = [engine.forecast(history, Calendar()).forecast for history in known]

    pooled = evaluate(frame_of(a=series), 14, 2, CHEAP)["pooled"]

    mase = [m.mase(y, f.yhat, h.y) for y, f, h in zip(actual, made, known, strict=True)]
    inside = [m.coverage(y, *f.bands[0.95]) for y, f in zip(actual, made, strict=True)]
    error = sum(np.abs(y - f.yhat).sum() for y, f in zip(actual, made, strict=True))
    assert pooled["mase"] == pytest.approx(np.mean(mase))
    assert pooled["coverage_95"] == pytest.approx(np.mean(inside))
    assert pooled["wape"] == pytest.approx(error / series.y[172:].sum())
    assert pooled["cpu_seconds_per_window"] > 0


def test_a_series_is_worse_than_seasonal_naive_by_the_errors_of_all_its_windows_together():
    steady = weekly_series(120, noise=0.3)
    moved = DailySeries(steady.start, np.where(np.arange(120) < 99, 1.0, 3.0) * steady.y)  # last week knows it first
    series, engine = {"steady": steady, "moved": moved}, BusinessMLEngine(CHEAP.model_copy(update={"horizon_days": 7}))
    expected = {}
    for name, one in series.items():
        error = naive = 0.0
        for known in (99, 106, 113):
            actual = one.y[known : known + 7]
            error += np.abs(actual - engine.forecast(one.head(known), Calendar()).forecast.yhat).sum()
            naive += np.abs(actual - one.y[known - 7 : known]).sum()
        expected[name] = float(error > 1.02 * naive)

    result = evaluate(frame_of(**series), 7, 3, CHEAP)

    assert {row["unique_id"]: row["share_of_series_worse_than_snaive"] for row in result["series"]} == expected
    assert expected == {"steady": 0.0, "moved": 1.0}
    assert result["pooled"]["share_of_series_worse_than_snaive"] == 0.5


def test_totals_and_their_bands_are_judged_as_far_as_the_horizon_goes():
    series = weekly_series(200, noise=0.3)
    whole = BusinessMLEngine(CHEAP.model_copy(update={"horizon_days": 28})).forecast(series.head(172), Calendar())

    week, month = (evaluate(frame_of(a=series), horizon, 1, CHEAP)["pooled"] for horizon in (14, 28))

    for total in whole.totals:
        sold = series.y[172 : 172 + total.days].sum()
        for level in (0.8, 0.95):
            lower, upper = total.bands[level]
            assert month[f"coverage_{level * 100:.0f}_total_{total.days}"] == float(lower <= sold <= upper)
        off = (total.yhat - sold) / (total.days * series.y[:172].mean())
        assert month[f"bias_total_{total.days}"] == pytest.approx(off)
        assert month[f"error_total_{total.days}"] == pytest.approx(abs(off))
    assert week["coverage_80_total_7"] in {0.0, 1.0}
    assert week["coverage_80_total_28"] is week["bias_total_28"] is None


def test_pooled_wape_weighs_by_sales_and_mase_by_window():
    large, small = weekly_series(200, noise=0.1, level=1000), weekly_series(200, noise=0.9, seed=5)

    result = evaluate(frame_of(large=large, small=small), 14, 1, CHEAP)

    first, second = result["series"]
    assert result["pooled"]["mase"] == pytest.approx((first["mase"] + second["mase"]) / 2)
    assert result["pooled"]["wape"] == pytest.approx(first["wape"], rel=0.05)


def test_days_after_an_origin_do_not_change_its_forecast():
    series = weekly_series(200, noise=0.3)
    doubled = frame_of(a=series)
    doubled.loc[186:, "y"] *= 1.5

    one, other = evaluate(frame_of(a=series), 14, 1, CHEAP)["series"][0], evaluate(doubled, 14, 1, CHEAP)["series"][0]

    yhat = BusinessMLEngine(CHEAP.model_copy(update={"horizon_days": 14})).forecast(series.head(186), Calendar())
    assert one["wape"] == pytest.approx(m.wape(series.y[186:], yhat.forecast.yhat))
    assert other["wape"] == pytest.approx(m.wape(1.5 * series.y[186:], yhat.forecast.yhat))


def test_processes_give_the_same_numbers(monkeypatch):
    monkeypatch.setattr(global_model, "N_TREES", 8)
    shops = frame_of(**{name: weekly_series(150, noise=0.3, seed=seed) for seed, name in enumerate("abcde")})
    settings = CHEAP.model_copy(update={"global_model": True})

    alone, together, untaught = (
        evaluate(shops, 14, 1, given, jobs=jobs) for given, jobs in ((settings, 1), (settings, 2), (CHEAP, 1))
    )

    for result in (alone, together, untaught):
        assert result.pop("global_model", {}).get("models", 0) == int(result["settings"]["global_model"])
        for row in [result["pooled"], *result["series"]]:
            row.pop("cpu_seconds_per_window")
    assert alone == together
    assert alone["pooled"]["mase"] != untaught["pooled"]["mase"]


def test_progress_counts_the_series():
    seen = []

    evaluate(two_shops(), 14, 1, CHEAP, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("name", ["sales.csv", "sales.csv.gz"])
def test_a_file_gives_the_same_as_its_frame(tmp_path, name):
    text = two_shops().to_csv(index=False).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)

    assert evaluate(path, 14, 1, CHEAP)["pooled"]["mase"] == evaluate(two_shops(), 14, 1, CHEAP)["pooled"]["mase"]


def test_days_that_are_skipped_count_as_zero_sales():
    series = closed_on_sundays(230)
    frame = frame_of(a=series)

    sparse = evaluate(frame[frame["y"] != 0], 14, 1, CHEAP)["series"][0]

    assert sparse["mase"] == evaluate(frame, 14, 1, CHEAP)["series"][0]["mase"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"y": "NaN"}, "1 row(s) with an unreadable day or number"),
        ({"y": "1e400"}, "1 row(s) with an unreadable day or number"),
        ({"y": "twelve"}, "1 row(s) with an unreadable day or number"),
        ({"y": ""}, "1 row(s) with an unreadable day or number"),
        ({"y": "5,6"}, "1 row(s) with an unreadable day or number"),
        ({"ds": "yesterday"}, "1 row(s) with an unreadable day or number"),
        ({"ds": "9999-12-31"}, "the days span more than 20 years"),
        ({"ds": "1800-01-01"}, "the days span more than 20 years"),
        ({"ds": "2024-01-01"}, "two rows for one day; sum them per day first"),
    ],
)
def test_a_damaged_series_is_counted_as_failed_and_the_others_judged(tmp_path, spoil, reason):
    lines = two_shops().astype(str)
    for column, value in spoil.items():
        lines.loc[20, column] = value
    path = tmp_path / "sales.csv"
    path.write_text("unique_id,ds,y\n" + "\n".join(",".join(row) for row in lines.to_numpy()))

    result = evaluate(path, 14, 2, CHEAP)

    bad, good = result["series"]
    assert (bad["failed"], bad["windows"], bad["mase"], bad["chosen"]) == (2, 0, None, None)
    assert bad["reason"] == reason
    assert (good["failed"], good["windows"]) == (0, 2)
    assert (result["pooled"]["failed"], result["pooled"]["windows"]) == (2, 2)


def test_a_series_too_short_for_a_window_is_counted_as_failed():
    result = evaluate(frame_of(a=weekly_series(30)), 14, 2, CHEAP)

    assert result["series"][0]["reason"] == "only 2 day(s) before a window"
    assert (result["pooled"]["failed"], result["pooled"]["windows"]) == (1, 1)


def test_a_repeating_series_has_no_mase_but_is_no_failure():
    result = evaluate(frame_of(a=weekly_series(200)), 14, 1, CHEAP)

    assert (result["pooled"]["mase"], result["pooled"]["failed"]) == (None, 0)
    assert result["pooled"]["wape"] == pytest.approx(0, abs=1e-6)
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x1f\x8b garbage"])
def test_a_file_that_is_none_of_ours_is_refused_with_the_next_step(tmp_path, content):
    path = tmp_path / "sales.csv"
    path.write_bytes(content)

    with pytest.raises(InvalidFile, match="unique_id"):
        evaluate(path, 14, 1, CHEAP)


def test_a_missing_or_truncated_file_is_refused(tmp_path):
    truncated = tmp_path / "sales.csv.gz"
    truncated.write_bytes(gzip.compress(two_shops().to_csv(index=False).encode())[:-200])

    for path in (truncated, tmp_path / "absent.csv", tmp_path):
        with pytest.raises(InvalidFile):
            evaluate(path, 14, 1, CHEAP)


def test_a_header_without_rows_is_an_empty_result(tmp_path):
    path = tmp_path / "sales.csv"
    path.write_text("unique_id,ds,y\n")

    result = evaluate(path, 14, 1, CHEAP)

    assert result["series"] == []
    assert result["pooled"]["mase"] is None


def test_weeks_go_on_with_the_stored_model_and_each_has_its_row():
    series = weekly_series(420, noise=0.3)

    result = evaluate(frame_of(a=series, b=series), 28, 2, CHEAP, weeks=5)

    rows = result["weeks"]
    assert [row["week"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["windows"] for row in rows] == [4] * 5
    assert [row["compared"] for row in rows] == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert all(row["on_demand_cpu_seconds"] > 0 and row["artifact_bytes"] > 1000 for row in rows)
    assert set(rows[0]) == KEYS | {"week", "compared", "artifact_bytes", "on_demand_cpu_seconds"}
    assert result["pooled"]["windows"] == 20
    assert result["pooled"]["mase"] == pytest.approx(np.mean([row["mase"] for row in rows]))
    json.dumps(result, allow_nan=False)


def test_a_week_reaches_what_the_engine_reaches_that_goes_on_with_the_comparison():
    series = weekly_series(230, noise=0.3)
    engine = BusinessMLEngine(CHEAP)
    known = series.head(230 - 28)
    model = FittedModel.of(engine.forecast(known.head(195), Calendar()), {})
    forecast = engine.refresh(model, known, Calendar()).forecast

    second = evaluate(frame_of(a=series), 28, 1, CHEAP, weeks=2)["weeks"][1]

    assert second["mase"] == pytest.approx(m.mase(series.y[202:], forecast.yhat, known.y))
    assert second["coverage_80"] == m.coverage(series.y[202:], *forecast.bands[0.8])


def test_a_series_too_short_for_its_first_week_is_counted_as_failed():
    result = evaluate(frame_of(a=weekly_series(40)), 28, 1, CHEAP, weeks=4)

    assert (result["pooled"]["windows"], result["pooled"]["failed"]) == (0, 1)
    assert [row["mase"] for row in result["weeks"]] == [None] * 4
