"""The benchmark: sampling, resuming, bootstrap, page, and a small run of the product's own methods."""

import gzip
import json
from datetime import date
from itertools import count
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml import global_model, ml_engine, selection
from app.services.ml.calendar import Calendar
from app.services.ml.evaluate import evaluate
from app.services.ml.fitted_model import FittedModel
from app.services.ml.series import DailySeries, FloatArray
from benchmarks import reference
from benchmarks.bench import OK, REFUSED, main, select
from benchmarks.bootstrap import ratio
from benchmarks.data import COUNTRIES, SALES, origins, read_known, sample, source_of
from benchmarks.measure import Reached, measure, pooled, scores
from benchmarks.methods import BOUNDS, Known, Method, Prediction
from benchmarks.ours import PATCHES, ablation, patched, week_by_week, with_global_model
from benchmarks.page import About, figures, page
from benchmarks.plan import Span, Wanted, plan
from benchmarks.registry import methods
from benchmarks.runner import run
from benchmarks.store import Key, Result, ResultFile

MONDAY = date(2024, 1, 1)
KEY = Key("snaive", "shop_1", 100, 28, "data", "recipe 1", "{}", "machine")
ABOUT = About("make bench", "2024-05-06", "abc", "a machine", "3.11", Span(14, 1), None)


def weekly(n_days: int, noise: float = 0.0, seed: int = 0) -> FloatArray:
    week = np.array([40.0, 50.0, 50.0, 60.0, 90.0, 120.0, 0.0])
    return np.resize(week, n_days) + np.abs(np.random.default_rng(seed).normal(0, noise, n_days) if noise else 0.0)


def known(name: str, n_days: int = 60, noise: float = 5.0, country: str = "") -> Known:
    return Known(name, DailySeries(MONDAY, weekly(n_days, noise, seed=n_days)), country)


def test_a_sample_takes_equally_many_series_of_each_source_and_spreads_over_it() -> None:
    names = [f"rossmann_{n}" for n in range(9)] + ["recruit_a", "recruit_b"] + ["m5_item_CA_1"]

    chosen = [one.unique_id for one in sample([known(name) for name in names], 6)]

    assert chosen == ["rossmann_1", "rossmann_4", "rossmann_7", "recruit_a", "recruit_b", "m5_item_CA_1"]


def test_a_sample_larger_than_the_file_is_the_file() -> None:
    series = [known("rossmann_1"), known("recruit_1")]

    assert sample(series, 50) == series


def test_the_source_of_a_series_is_the_prefix_of_its_name() -> None:
    assert source_of("favorita_tickets_04") == "favorita_tickets"
    assert source_of("online_retail_hong_kong") == "online_retail"


def test_origins_are_the_last_ones_and_leave_something_to_learn_from() -> None:
    assert origins(100, 28, 3, 7) == [16, 44, 72]
    assert origins(60, 28, 3, 7) == [32]


def test_a_method_that_halves_every_error_has_a_ratio_of_one_half_beyond_doubt() -> None:
    other = {(f"s{n}", 10): {"mase": float(n + 1)} for n in range(9)}
    half = {key: {"mase": row["mase"] / 2} for key, row in other.items()}

    assert ratio(half, other, "mase") == pytest.approx((0.5, 0.5, 0.5))


def test_the_interval_of_a_ratio_comes_from_drawing_whole_series() -> None:
    # One series won 1:2, the other lost 3:2; each draw of two series has 1/2, (1 + 3) / (2 + 2) = 1 or 3/2.
    other = {(name, day): {"mase": 2.0} for name in "ab" for day in (10, 38, 66)}
    ours = {(name, day): {"mase": {"a": 1.0, "b": 3.0}[name]} for name, day in other}

    assert ratio(ours, other, "mase") == pytest.approx((1.0, 0.5, 1.5))


def test_a_ratio_compares_only_windows_that_both_have_and_where_both_are_defined() -> None:
    other = {("a", 1): {"mase": 2.0}, ("b", 1): {"mase": 50.0}, ("c", 1): {"mase": float("nan")}}
    ours = {("a", 1): {"mase": 1.0}, ("c", 1): {"mase": 80.0}, ("d", 1): {"mase": 90.0}}

    assert ratio(ours, other, "mase").value == pytest.approx(0.5)
    assert np.isnan(ratio({}, other, "mase").value)


def test_the_ratio_of_wape_is_of_sums_over_days() -> None:
    other = {("a", 1): {"error": 10.0, "sold": 100.0}, ("b", 1): {"error": 40.0, "sold": 0.0}}
    ours = {("a", 1): {"error": 20.0, "sold": 100.0}, ("b", 1): {"error": 5.0, "sold": 0.0}}

    assert ratio(ours, other, "wape").value == pytest.approx(25.0 / 50.0)


def test_the_scores_of_a_window_by_hand() -> None:
    y = np.concatenate([np.tile([10.0, 12.0], 7), np.full(14, 20.0)])  # scale: |12 - 10| from week to week = 2
    mean = np.full(14, 19.0)
    wide, narrow = np.full(14, 5.0), np.concatenate([np.full(7, 2.0), np.zeros(7)])
    bounds = {0.025: mean - wide, 0.1: mean - narrow, 0.9: mean + narrow, 0.975: mean + wide}

    found = scores(y, 14, Prediction(mean, bounds, {7: (100.0, 139.0, 141.0, 150.0)}), 0.25)

    assert found["mase"] == found["rmsse"] == pytest.approx(0.5)
    assert (found["error"], found["sold"], found["cpu"]) == (14.0, 280.0, 0.25)
    assert (found["naive_error"], found["worse"]) == (2 * (4 * 8.0 + 3 * 10.0), 0.0)
    assert (found["coverage_80"], found["coverage_95"]) == (0.5, 1.0)
    assert (found["coverage_80_week_1"], found["coverage_80_week_2"]) == (1.0, 0.0)
    assert (found["coverage_80_total_7"], found["coverage_95_total_7"]) == (1.0, 1.0)
    # 2 x pinball: 0.3 and 0.6 / 0.2 in the two weeks and 1.0 at the median; 0.2 and 0.4 / 1.8; 0.3; over 5 x 2.
    losses = [0.3, (0.6 + 0.2) / 2, 1.0, (0.2 + 1.8) / 2, 0.2]
    assert found["sql"] == pytest.approx(sum(losses) / 5 / 2)


def test_a_series_is_worse_than_seasonal_naive_by_the_errors_of_all_its_windows() -> None:
    def window(error: float) -> dict[str, float]:
        return {"error": error, "naive_error": 100.0, "worse": float(error > 102)}

    errors = {"good_at_last": (140.0, 50.0), "bad_at_last": (90.0, 120.0), "just_as_good": (103.0, 101.0)}
    windows = {(name, day): window(error) for name, both in errors.items() for day, error in enumerate(both)}

    assert pooled(windows, "worse") == 3 / 6
    assert pooled(windows, "worse_series") == 1 / 3  # 190, 210 and 204 beside 200: more than 204 is worse
    assert np.isnan(pooled({}, "worse_series"))


def test_a_forecast_without_bounds_has_neither_coverage_nor_quantile_loss() -> None:
    found = scores(weekly(42), 28, Prediction(np.zeros(14)), 0.0)

    assert not {"sql", "coverage_80"} & found.keys()


def test_results_come_back_from_disk_without_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first, later = (
        Prediction(np.ones(2), {0.1: np.zeros(2)}),
        Prediction(np.full(2, 3.0), {}, {7: (1.0, 2.0, 3.0, 4.0)}),
    )
    file = ResultFile(path)
    file.add([Result(KEY, first, 0.5), Result(Key(**{**KEY.__dict__, "known": 128}), None, 0.1, "ValueError: no")])
    file.add([Result(KEY, later, 0.75)])
    with path.open("a") as opened:
        opened.write('{"id": "torn", "met')

    back = ResultFile(path)

    found = back.get(KEY)
    assert len(back) == 2
    assert found is not None
    assert found.prediction is not None
    assert (found.prediction.mean.tolist(), found.prediction.totals, found.cpu_seconds) == (
        [3.0, 3.0], {7: (1.0, 2.0, 3.0, 4.0)}, 0.75
    )  # fmt: skip


def test_another_version_or_other_data_are_another_result(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "results.jsonl")
    file.add([Result(KEY, Prediction(np.ones(2)), 0.5)])

    for changed in ("version", "data", "settings", "machine"):
        assert file.get(Key(**{**KEY.__dict__, changed: "other"})) is None


def test_an_ended_run_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    path, series, span = tmp_path / "results.jsonl", [known("rossmann_1", 120), known("recruit_1", 90)], Span(14, 3)
    snaive = methods()["snaive"]
    assert not run([snaive], series, span, ResultFile(path), minutes=0.0)
    assert run([snaive], series, span, ResultFile(path))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:4]) + "\n")
    made: list[tuple[int, int]] = []

    done = run([snaive], series, span, ResultFile(path), progress=lambda so_far, total, _: made.append((so_far, total)))

    assert done
    assert made[-1] == (6, 6)
    names = [(row["unique_id"], row["known"], row["mean"]) for row in map(json.loads, path.read_text().splitlines())]
    before = [(row["unique_id"], row["known"], row["mean"]) for row in map(json.loads, lines)]
    assert names == before


def test_nothing_begins_after_the_deadline_and_the_page_says_what_is_missing(tmp_path: Path) -> None:
    series, snaive = [known(f"rossmann_{n}", 60 + n) for n in range(5)], methods()["snaive"]
    file, minutes = ResultFile(tmp_path / "results.jsonl"), count()

    done = run([snaive], series, Span(14, 1), file, minutes=2.5, clock=lambda: 60.0 * next(minutes))

    reached = measure([snaive], series, Span(14, 1), file)
    assert not done
    assert (len(reached[0].windows), reached[0].unfinished) == (2, 3)  # begun after one minute and after two
    assert "seasonal naive lacks 3." in page(figures(reached, series, ABOUT, []))


def test_two_processes_file_what_one_does(tmp_path: Path) -> None:
    series, snaive = [known("rossmann_1", 120), known("recruit_1", 90)], methods()["snaive"]
    one, two = ResultFile(tmp_path / "one.jsonl"), ResultFile(tmp_path / "two.jsonl")

    assert run([snaive], series, Span(14, 2), one, jobs=1)
    assert run([snaive], series, Span(14, 2), two, jobs=2)

    for wanted in plan(snaive, series, Span(14, 2)):
        alone, shared = one.get(wanted.key), two.get(wanted.key)
        assert alone is not None
        assert shared is not None
        assert alone.prediction is not None
        assert shared.prediction is not None
        assert alone.prediction.mean.tolist() == shared.prediction.mean.tolist()


def test_a_method_that_raises_leaves_failures_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> NoReturn:
        raise ZeroDivisionError("no")

    alone, together = Method("alone", "alone", fails), Method("together", "together", together=fails)
    asked = [alone, together, methods()["snaive"]]
    for method in asked:
        monkeypatch.setitem(methods(), method.name, method)
    file, series = ResultFile(tmp_path / "results.jsonl"), [known("rossmann_1", 120)]

    done = run(asked, series, Span(14, 1), file)

    found = measure(asked, series, Span(14, 1), file)
    assert done
    assert found[0].failures == found[1].failures == ["rossmann_1 after 106 days: ZeroDivisionError: no"]
    assert [len(one.windows) for one in found] == [0, 0, 1]


def test_a_method_over_all_series_is_stale_when_one_of_them_changes() -> None:
    together = Method("all", "all", together=lambda _known, _horizon: {})
    series = [known("rossmann_1", 120), known("recruit_1", 90)]
    changed = [series[0], known("recruit_1", 91)]

    before, after = (plan(together, some, Span(14, 1))[0].key for some in (series, changed))

    assert before.unique_id == after.unique_id == "rossmann_1"
    assert before.data != after.data


def test_windows_of_series_of_unlike_length_are_counted_from_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, int]] = []

    def remember(batch: list[Known], horizon: int) -> dict[str, Prediction]:
        shown.append({one.unique_id: len(one.series) for one in batch})
        return {one.unique_id: Prediction(np.zeros(horizon)) for one in batch}

    together = Method("all", "all", together=remember)
    monkeypatch.setitem(methods(), "all", together)
    series, file = [known("rossmann_1", 120), known("recruit_1", 30)], ResultFile(tmp_path / "results.jsonl")

    assert run([together], series, Span(14, 2), file)
    assert run([together], series, Span(14, 2), file)

    assert shown == [{"rossmann_1": 92}, {"rossmann_1": 106, "recruit_1": 16}]


def test_a_country_is_shown_only_to_who_is_told_it_and_counts_only_there() -> None:
    def planned(country: str, *, countries: bool) -> Wanted:
        return plan(Method("m", "m", countries=countries), [known("rossmann_1", 120, country=country)], Span(14, 1))[0]

    assert planned("DE", countries=True).known.country == "DE"
    assert planned("DE", countries=False).known.country == ""
    assert planned("DE", countries=True).key != planned("AT", countries=True).key
    assert planned("DE", countries=False).key == planned("AT", countries=False).key


def test_the_page_shows_ratios_with_intervals_and_a_dash_where_there_is_none() -> None:
    series = [known("rossmann_1"), known("recruit_1")]
    points = {"mase": 2.0, "rmsse": 1.0, "error": 1.0, "naive_error": 1.0, "sold": 4.0, "worse": 0.0, "cpu": 1.0}
    weeks = {"coverage_80_week_1": 6 / 7, "coverage_80_week_2": 5 / 7, "coverage_95_week_1": 1.0}
    base = {**points, "sql": 1.0, "coverage_80": 0.8, "coverage_95": 0.95, **weeks}
    rows = {("rossmann_1", 46): base, ("recruit_1", 46): base}
    better = {("rossmann_1", 46): base | {"mase": 1.0}, ("recruit_1", 46): base | {"mase": 2.0, "naive_error": 0.9}}
    bare = dict.fromkeys(rows, points)
    reached = [
        Reached(Method("ours", "ours"), "1", better),
        Reached(Method("reference", "**REFERENCE**"), "1", rows, ["rossmann_1 after 4 days: ValueError"]),
        Reached(Method("bare", "bare"), "1", bare),
        Reached(Method("ablation_full", "whole", group="ablation"), "1", rows),
        Reached(Method("ablation_x", "without x", group="ablation"), "1", better),
    ]

    text = page(figures(reached, series, ABOUT, ["AutoGluon did not run: autogluon not installed."]))

    assert "| ours | 1.500 | 1.000 | 0.250 | 1.000 | 80.0 % / 95.0 % | 0.0 % / 50.0 % | 1.000 | 0.750 [" in text
    assert "| bare | 2.000 | 1.000 | 0.250 | – | – / – | 0.0 % / 0.0 % | 1.000 | 1.000 | – | 1.000 |" in text
    assert "| ours | 0.500 | 1.000 |" in text  # per source
    assert "| **REFERENCE** | 86 71 / 100 – | 86 71 / 100 – |" in text  # per source and week ahead
    assert "| without x | 1.500 | 1.000 | 80.0 % / 95.0 % | 0.0 % / 50.0 % | 1.000 | 0.750 [0.500, 1.000] |" in text
    assert "AutoGluon did not run: autogluon not installed." in text
    assert "- `reference`: 1, the first: rossmann_1 after 4 days: ValueError" in text
    assert "nan" not in text


def test_every_part_that_an_ablation_takes_out_is_there_and_is_put_back() -> None:
    before = (vars(ml_engine)["closed_weekdays"], selection.PRIORS)
    for patches in PATCHES.values():
        with patched(patches):
            pass

    assert (vars(ml_engine)["closed_weekdays"], selection.PRIORS) == before
    assert len({method.name for method in ablation()}) == len(ablation())
    with pytest.raises(AttributeError), patched({"selection.NOT_THERE": 1}):
        pass


def test_reference_takes_the_best_on_the_folds_and_gives_ordered_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    reference.quiet()
    few = {name: reference.MODELS[name] for name in ("naive", "snaive", "xgboost")}  # the others cost seconds
    monkeypatch.setattr(reference, "MODELS", few)

    found = reference.reference(Known("shop_1", DailySeries(MONDAY, weekly(126, 4.0)), "DE"), 14).clipped()

    ordered = [found.bounds[0.025], found.bounds[0.1], found.bounds[0.9], found.bounds[0.975]]
    assert found.mean == pytest.approx(weekly(140)[126:] + 3, abs=8)
    assert all((np.diff(ordered, axis=0) >= 0).ravel())
    assert set(found.bounds) == set(BOUNDS)


@pytest.mark.parametrize("name", list(reference.MODELS))
def test_each_model_of_reference_forecasts_from_what_it_is_shown(name: str) -> None:
    reference.quiet()

    found = reference.MODELS[name](Known("shop_1", DailySeries(MONDAY, weekly(126, 4.0)), "DE"), 14, True)

    assert found.mean.shape == (14,)
    assert np.isfinite(found.mean).all()


def test_a_method_that_is_not_installed_is_named_in_one_line() -> None:
    chosen, absent = select("snaive,autogluon", ablation=False)

    assert [method.name for method in chosen] == ["snaive"]
    assert absent == ["AutoGluon-TimeSeries, medium quality did not run: autogluon.timeseries not installed."]


def test_without_data_the_command_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENANTCAST_DATA", str(tmp_path / "nowhere"))

    assert main(["--methods", "snaive"]) == REFUSED

    assert "TENANTCAST_DATA" in capsys.readouterr().err


def written(series: list[Known], folder: Path) -> Path:
    """The folder, with the files that the benchmark reads."""
    rows = [
        f"{one.unique_id},{day},{y:.2f}"
        for one in series
        for day, y in zip(one.series.dates, one.series.y, strict=True)
    ]
    with gzip.open(folder / SALES, "wt") as file:
        file.write("\n".join(["unique_id,ds,y", *rows]) + "\n")
    (folder / COUNTRIES).write_text("unique_id,country\nrossmann_1,DE\nrecruit_1,JP\n")
    return folder


def test_with_the_global_model_the_rows_are_those_of_our_own_backtest_and_share_its_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(global_model, "N_TREES", 8)
    folder = written([known(f"rossmann_{n}", 160, 6.0 + n) for n in range(1, 6)], tmp_path)
    method = with_global_model("taught", "taught", {"model_candidates": ["snaive"]}, countries=True)
    monkeypatch.setitem(methods(), "taught", method)
    series, file, span = read_known(folder), ResultFile(tmp_path / "results.jsonl"), Span(14, 1)

    assert run([method], series, span, file)

    reached = measure([method], series, span, file)[0]
    settings = MLSettings(model_candidates=("snaive",), global_model=True)
    expected, alone = (
        evaluate(folder / SALES, 14, 1, given, {"rossmann_1": "DE"})["pooled"]
        for given in (settings, settings.model_copy(update={"global_model": False}))
    )
    assert pooled(reached.windows, "mase") == pytest.approx(expected["mase"], rel=1e-5)
    assert pooled(reached.windows, "mase") != pytest.approx(alone["mase"], rel=1e-3)
    assert len({scores["cpu"] for scores in reached.windows.values()}) == 1
    assert pooled(reached.windows, "cpu") > expected["cpu_seconds_per_window"]  # which counts no training


def test_a_small_run_measures_our_own_forecasts_as_our_own_backtest_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    series = [known("rossmann_1", 200, 6.0), known("recruit_1", 170, 9.0)]
    monkeypatch.setenv("TENANTCAST_DATA", str(written(series, tmp_path)))
    results = tmp_path / "results.jsonl"
    command = ["--methods", "snaive,tenantcast_fast", "--horizon", "14", "--windows", "1", "--jobs", "1", "--json",
               "--results", str(results)]  # fmt: skip

    assert main([*command, "--minutes", "0"]) == OK
    assert json.loads(capsys.readouterr().out)["unfinished"] == {"tenantcast `fast`": 2, "seasonal naive": 2}
    assert main(command) == OK
    first = json.loads(capsys.readouterr().out)
    filed = results.read_text()
    assert main(command) == OK
    again = json.loads(capsys.readouterr().out)

    assert results.read_text() == filed
    assert again == first
    ours = {row["name"]: row for row in first["methods"]}["tenantcast_fast"]
    expected = evaluate(tmp_path / SALES, 14, 1, MLSettings(model_candidates=("fast",)))["pooled"]
    assert ours["totals"]["7_80"] == expected["coverage_80_total_7"]
    for measured in ("mase", "rmsse", "wape", "sql", "coverage_80", "coverage_95"):
        assert ours[measured] == pytest.approx(expected[measured], rel=1e-5), measured
    assert ours["worse"] == expected["share_worse_than_snaive"]
    assert ours["worse_series"] == expected["share_of_series_worse_than_snaive"]
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| tenantcast `fast` |" in text
    assert "| seasonal naive |" in text


def test_the_row_week_by_week_is_the_fourth_week_on_one_comparison() -> None:
    shop = known("shop_1", 300)
    series, names = shop.series, ("snaive", "weekday_mean")
    engine = ml_engine.BusinessMLEngine(MLSettings(model_candidates=names))
    model = FittedModel.of(engine.forecast(series.head(300 - 21), Calendar()), {})

    method = week_by_week("weekly", "week by week", {"model_candidates": names}, countries=False)

    assert method.alone is not None
    forecast = method.alone(shop, 28)
    assert forecast.mean.tolist() == engine.refresh(model, series, Calendar()).forecast.yhat.tolist()
    assert method.made == 4
