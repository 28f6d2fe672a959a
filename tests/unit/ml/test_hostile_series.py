"""Generated hostile series: whatever the sales, the result keeps its promises. More by `make fuzz N=…`.

A failing case prints its seed; `_check(seed, …)` replays it.
"""

import os
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from app.config.ml_settings import PRESETS, MLSettings
from app.errors import InvalidSeries
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.intake import MAX_DAYS, MAX_SALES, TenantInput, read_tenant_input
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.results import EngineResult
from app.services.ml.series import DailySeries, FloatArray
from tests.factories import hostile_start, hostile_values

N_CHEAP = int(os.environ.get("TENANTCAST_FUZZ", "2000"))
N_FULL = max(N_CHEAP // 10, 1)
LONGEST = 4000  # days: some more than the database gives
NO_DAY = 0.08  # of the tenants have sold nothing yet, as many as would have one or two days
CHUNKS = max(10, N_CHEAP // 500)  # so that no single test runs into its timeout
CHEAP = ("naive", "snaive", "weekday_mean")
ALL = PRESETS["full"]


def answer_of(start: date, y: FloatArray, rng: np.random.Generator) -> dict[str, Any]:
    """What the database would say of such a tenant, with a calendar that nobody checked."""
    end = (start + timedelta(days=max(y.size, 1) - 1)).isoformat()
    days = [{"day": str(rng.choice([end, "9999-99-99", ""])), "kind": str(rng.choice(["closure", "party"]))}]
    return {
        "tenant": {"tenant_id": "6f1c2d0e-7a3b-5c4d-9e8f-0a1b2c3d4e5f", "country": str(rng.choice(["", "DE", "XX"]))},
        "as_of": end,
        "last_finished_day": end,
        "stale": False,
        "start": start.isoformat() if y.size else None,
        "sales": y.tolist(),
        "calendar": days,
        "quality": {},
    }


def read(answer: dict[str, Any], settings: MLSettings) -> TenantInput:
    tenant_input = read_tenant_input(answer, settings)
    assert tenant_input is not None
    return tenant_input


def settings_for(rng: np.random.Generator, candidates: tuple[str, ...]) -> MLSettings:
    return MLSettings(
        model_candidates=candidates,
        horizon_days=int(rng.choice([1, 7, 28, 28, 28, 90])),
        cv_folds=int(rng.choice([1, 3, 3, 5])),
        log_transform=bool(rng.random() < 0.2),
        select_best=bool(rng.random() < 0.2),
        cv_primary_metric=str(rng.choice(["mae", "rmse", "wape", "mase", "rmsse", "smape"])),
        anomaly_method="isolation_forest" if rng.random() < 0.1 else "stl_resid",
        interval_level=float(rng.choice([0.5, 0.8, 0.9, 0.99])),
    )


def calendar_for(rng: np.random.Generator, series: DailySeries) -> Calendar:
    days = [series.start + timedelta(days=int(i)) for i in rng.integers(0, len(series) + 28, 3)]
    known = (KnownDay(days[0], "closure"), KnownDay(days[1], "promotion"), KnownDay(days[2], "event"))
    return Calendar(str(rng.choice(["", "DE", "US", "XX"])), known if rng.random() < 0.3 else ())


def violations(series: DailySeries, settings: MLSettings, result: EngineResult) -> list[str]:
    forecast = result.forecast
    found = [] if forecast.yhat.shape == (settings.horizon_days,) else ["length"]
    for level, (lower, upper) in forecast.bands.items():
        values = np.concatenate([lower, forecast.yhat, upper])
        if not np.isfinite(values).all():
            found.append(f"not finite at {level}")
        if not ((lower <= forecast.yhat) & (forecast.yhat <= upper)).all():
            found.append(f"bounds out of order at {level}")
        if (series.y >= 0).all() and lower.min() < 0:
            found.append(f"negative at {level}")
    for total in result.totals:
        if not all(lower <= total.yhat <= upper for lower, upper in total.bands.values()):
            found.append(f"total of {total.days} days outside its band")
        if not np.isfinite(total.yhat) or ((series.y >= 0).all() and total.yhat < 0):
            found.append(f"total of {total.days} days is {total.yhat}")
    if not 0 <= result.confidence_score <= 1:
        found.append("confidence")
    if abs(sum(result.weights.values()) - 1) > 1e-4 or set(result.members) != set(result.weights):
        found.append("weights")
    if not all(np.isfinite([a.y, a.expected, a.score]).all() for a in result.anomalies):
        found.append("anomalies")
    if not np.isfinite(list(result.metrics.values())).all():
        found.append("metrics")
    if [score.name for score in result.scores] != list(settings.model_candidates):
        found.append("score table")
    return found


def _check(seed: int, candidates: tuple[str, ...], longest: int) -> list[str]:
    rng = np.random.default_rng(seed)
    start, y = hostile_start(rng), hostile_values(rng, longest)
    settings = settings_for(rng, candidates)
    if rng.random() < NO_DAY:
        return [] if read(answer_of(start, y[:0], rng), settings).series is None else ["a series of nothing"]
    if np.abs(y).max() <= MAX_SALES and rng.random() < 0.7:
        tenant_input = read(answer_of(start, y[-MAX_DAYS:], rng), settings)
        assert tenant_input.series is not None
        series, calendar = tenant_input.series, tenant_input.calendar
    else:  # beyond what intake lets pass: the engine must stand it all the same
        series = DailySeries(start, y)
        calendar = calendar_for(rng, series)
    result = BusinessMLEngine(settings).forecast(series, calendar)
    return violations(series, settings, result)


def _run(seeds: range, candidates: tuple[str, ...], longest: int) -> dict[int, list[str]]:
    """Seeds whose result broke a promise, or that raised anything."""
    broken = {}
    for seed in seeds:
        try:
            found = _check(seed, candidates, longest)
        except Exception as error:  # the seed is what one needs to replay it
            error.add_note(f"seed {seed}")
            raise
        if found:
            broken[seed] = found
    return broken


@pytest.mark.fuzz
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_series_through_the_ladder_keeps_every_promise(chunk):
    assert _run(range(chunk, N_CHEAP, CHUNKS), CHEAP, LONGEST) == {}


@pytest.mark.fuzz
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_series_through_all_candidates_keeps_every_promise(chunk):
    # Mostly short, for the time that it takes; every tenth up to the longest.
    seeds = range(1_000_000 + chunk, 1_000_000 + N_FULL, CHUNKS)
    assert _run(seeds, ALL, LONGEST if chunk % 10 == 0 else 400) == {}


@pytest.mark.fuzz
def test_numbers_that_are_none_never_become_a_series():
    rng = np.random.default_rng(3)
    for _ in range(200):
        y = hostile_values(rng, 400)
        y[rng.integers(y.size)] = rng.choice([np.nan, np.inf, -np.inf])

        with pytest.raises(InvalidSeries):
            DailySeries(hostile_start(rng), y)
        with pytest.raises(InvalidSeries):
            read(answer_of(hostile_start(rng), y, rng), MLSettings())
