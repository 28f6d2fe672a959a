"""How good the forecasts are on days that were held back: the core of `tenantcast backtest`.

Each series is forecast from its last ``windows`` origins, ``horizon`` days apart and not overlapping, by exactly the
engine that the worker runs, refitted at every origin. What the engine sees ends at the origin.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app import __version__
from app.config.ml_settings import MLSettings
from app.errors import InvalidFile, TenantcastError
from app.services.ml import metrics as m
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import Forecaster
from app.services.ml.cpu_time import cpu_seconds, warm_up
from app.services.ml.global_backtest import GlobalModels, train_for_origins
from app.services.ml.ml_engine import LEVELS, BusinessMLEngine
from app.services.ml.results import EngineResult
from app.services.ml.series import DAYS_A_YEAR, SEASON, DailySeries, FloatArray
from app.services.ml.totals import SPANS
from app.services.ml.weekly_path import WeeklyPath

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("unique_id", "ds", "y")
# What is judged of the bands of totals: key of the result, days, level.
TOTAL_BANDS = tuple((f"coverage_{round(100 * level)}_total_{days}", days, level) for days in SPANS for level in LEVELS)
TOTALS = (
    *(key for key, _, _ in TOTAL_BANDS),
    *(f"{measure}_total_{days}" for days in SPANS for measure in ("error", "bias")),
)
WORSE_THAN_SNAIVE = 1.02  # of its error: by more than 2 %
ON_DEMAND_AFTER_DAYS = 3  # of a weekly forecast, somebody looks at the chart
MAX_GAP_DAYS = 20 * 366  # a longer calendar is a typing error in a date
Progress = Callable[[int, int], None]  # series done, series in all


@dataclass(frozen=True, eq=False)
class _Job:
    """One series to judge; ``problem`` says why it cannot be."""

    unique_id: str
    series: DailySeries | None
    country: str
    problem: str = ""


@dataclass(eq=False)
class _Window:
    """What one forecast reached on days that it had not seen."""

    mase: float
    rmsse: float
    smape: float
    sql: float
    coverage_80: float
    coverage_95: float
    totals: dict[str, float]  # by the keys of `TOTALS`, nan beyond the horizon; a coverage is 1 inside, 0 outside
    absolute_error: float
    absolute_sales: float
    naive_error: float  # absolute, of seasonal naive
    worse_than_snaive: float
    chosen: str
    cpu_seconds: float


@dataclass(eq=False)
class _WeekCost:
    """What one week of the weekly path left and cost beside its forecast."""

    week: int  # from 1 on, the first one a comparison
    compared: bool
    artifact_bytes: int
    on_demand_cpu_seconds: float


@dataclass(eq=False)
class _Outcome:
    unique_id: str
    windows: list[_Window] = field(default_factory=list)
    weeks: list[_WeekCost] = field(default_factory=list)  # one for each window where weeks are judged, else none
    failures: list[str] = field(default_factory=list)


def evaluate(
    path_or_frame: "str | Path | pd.DataFrame",
    horizon: int,
    windows: int,
    settings: MLSettings,
    countries: Mapping[str, str] | None = None,
    *,
    weeks: int = 1,
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Forecast the last ``windows`` spans of ``horizon`` days of every series and measure the errors.

    With ``weeks`` above 1 each window is forecast that often, a week apart, as the worker does it (see `weekly_path`):
    the first time all candidates are compared, then the stored model is gone on with.

    Parameters
    ----------
    path_or_frame : a CSV file (also compressed) or a frame with the columns unique_id, ds, y; days that a series skips
        count as zero sales. A series with an unreadable row, or with two rows for one day, is not judged but counted
        as failed, with the reason
    horizon : days of each window, >= 1
    windows : origins per series, >= 1
    settings : as the worker's; ``horizon`` replaces its horizon
    countries : unique_id to the country whose public holidays the tenant has
    weeks : weekly forecasts per window, >= 1
    jobs : processes
    progress : called with the number of series done and their number

    With `ML_GLOBAL_MODEL` the series of the file teach a model together, for every origin one that knows nothing later.

    Returns
    -------
    dict : JSON-safe: "pooled", "series", "settings", "version". MASE (season 7), RMSSE, sMAPE (0..200) and sQL are
        means over series-windows, WAPE is pooled, coverage a share of days (of windows for the totals of 7 and 28
        days), error and bias of a total are shares of what so many days sold on average in the year before, bias above
        zero where too much was forecast; an undefined value is None. CPU is user and system time of the process and its
        children per series-window, imports not counted. "weeks", with more than one, holds the same for each week, with
        the share of comparisons, the mean size of the stored model (characters) and the mean CPU seconds of a forecast
        on demand three days later; "pooled" is then over all weeks. "global_model", when there are any, says how many
        were trained and the CPU seconds that took, which are counted nowhere else; with `ML_GLOBAL_LSTM`, also why they
        have no network.

    Raises
    ------
    InvalidFile : the file cannot be read or lacks a column
    """
    settings = settings.model_copy(update={"horizon_days": horizon})
    jobs_list = list(_jobs(_read(path_or_frame), countries or {}))
    warm_up()
    before = cpu_seconds()
    models = _global_models(jobs_list, horizon, windows, weeks, settings) if settings.global_model else None
    training = cpu_seconds() - before
    outcomes = []
    for outcome in _judged(jobs_list, partial(_judge, horizon, windows, weeks, settings), models, jobs):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(jobs_list))
    return {
        "pooled": _summary(outcomes),
        **({"weeks": _by_week(outcomes, weeks)} if weeks > 1 else {}),
        "series": [
            {
                "unique_id": outcome.unique_id,
                **_summary([outcome]),
                "chosen": _chosen(outcome),
                **({"reason": "; ".join(dict.fromkeys(outcome.failures))} if outcome.failures else {}),
            }
            for outcome in outcomes
        ],
        "settings": settings.model_dump(mode="json"),
        "version": __version__,
        **({"global_model": _described(models, training)} if models else {}),
    }


def _described(models: GlobalModels, cpu_seconds: float) -> dict[str, Any]:
    reason = {"no_network": models.no_network} if models.no_network else {}
    return {"models": len(models.models), "cpu_seconds": cpu_seconds, **reason}


def read_series(path_or_frame: "str | Path | pd.DataFrame") -> dict[str, DailySeries]:
    """The series of a file or frame that `evaluate` can judge, by unique_id, in the file's order.

    Raises
    ------
    InvalidFile : the file cannot be read or lacks a column
    """
    return {job.unique_id: job.series for job in _jobs(_read(path_or_frame), {}) if job.series is not None}


def _read(source: "str | Path | pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        _check_columns(list(map(str, source.columns)))
        return source
    path = Path(source)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file, restkey="too_many", strict=False)
            _check_columns(list(reader.fieldnames or []))
            rows = [(row["unique_id"], row["ds"], "" if "too_many" in row else row["y"]) for row in reader]
    except (OSError, EOFError, csv.Error, zlib.error) as error:
        raise InvalidFile(
            f"{path} cannot be read: {type(error).__name__}.", next_step="Give a CSV file with unique_id,ds,y."
        ) from error
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _check_columns(found: list[str]) -> None:
    missing = [column for column in COLUMNS if column not in found]
    if missing:
        shown = ", ".join(found[:20]) or "none"
        raise InvalidFile(
            f"Column {', '.join(missing)} is missing; there are: {shown}.", next_step="Name them unique_id, ds and y."
        )


def _jobs(frame: "pd.DataFrame", countries: Mapping[str, str]) -> Iterator[_Job]:
    import pandas as pd

    days = pd.to_datetime(frame["ds"], errors="coerce", format="ISO8601", utc=False).dt.normalize()
    values = pd.to_numeric(frame["y"], errors="coerce").astype(float)
    table = pd.DataFrame({"unique_id": frame["unique_id"].astype(str), "ds": days, "y": values})
    for unique_id, rows in table.groupby("unique_id", sort=False):
        name = str(unique_id)
        problem = _problem(rows)
        series = None if problem else _gapless(rows)
        yield _Job(name, series, countries.get(name, ""), problem)


def _problem(rows: "pd.DataFrame") -> str:
    bad = int((rows["ds"].isna() | ~np.isfinite(rows["y"])).sum())
    if bad:
        return f"{bad} row(s) with an unreadable day or number"
    if rows["ds"].duplicated().any():
        return "two rows for one day; sum them per day first"
    if (rows["ds"].max() - rows["ds"].min()).days > MAX_GAP_DAYS:
        return "the days span more than 20 years"
    return ""


def _gapless(rows: "pd.DataFrame") -> DailySeries:
    start = rows["ds"].min()
    offsets = (rows["ds"] - start).dt.days.to_numpy()
    y = np.zeros(int(offsets.max()) + 1)
    y[offsets] = rows["y"].to_numpy()
    return DailySeries(start.date(), y)


def _global_models(todo: list[_Job], horizon: int, windows: int, weeks: int, settings: MLSettings) -> GlobalModels:
    """What the series of the file teach together, for the origin of every forecast."""
    known = [(job.series, Calendar(country=job.country)) for job in todo if job.series is not None]
    ahead = [
        timedelta(days=window * horizon + week * SEASON) for window in range(1, windows + 1) for week in range(weeks)
    ]
    origins = (series.end - days for series, _ in known for days in ahead)
    return train_for_origins(known, origins, settings)


def _judged(
    todo: list[_Job], judge: Callable[[_Job], _Outcome], models: GlobalModels | None, jobs: int
) -> Iterator[_Outcome]:
    """Outcomes in the order of the file. Processes are spawned, never forked: XGBoost hangs in a forked child."""
    if jobs <= 1 or len(todo) <= 1:
        _prepare(models)
        yield from map(judge, todo)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare, initargs=(models,)) as pool:
        yield from pool.map(judge, todo)


_shared: list[GlobalModels] = []  # of this process: they are too large to travel with every series


def _prepare(models: GlobalModels | None) -> None:
    warm_up()
    _shared[:] = [models] if models else []


def _judge(horizon: int, windows: int, weeks: int, settings: MLSettings, job: _Job) -> _Outcome:
    outcome = _Outcome(job.unique_id)
    forecast_from = partial(_weekly if weeks > 1 else _once, outcome, horizon, settings)
    for window in range(windows, 0, -1):
        first = (len(job.series) if job.series is not None else 0) - window * horizon - (weeks - 1) * SEASON
        if job.series is None or first <= SEASON:
            outcome.failures.append(job.problem or f"only {max(first, 0)} day(s) before a window")
            continue
        try:
            forecast_from(job.series, Calendar(country=job.country), range(first, first + weeks * SEASON, SEASON))
        except TenantcastError as error:
            outcome.failures.append(error.message)
    return outcome


def _once(
    outcome: _Outcome, horizon: int, settings: MLSettings, series: DailySeries, calendar: Calendar, origins: range
) -> None:
    """One forecast from the first origin (a number of days known), from nothing."""
    history = series.head(origins[0])
    engine = BusinessMLEngine(settings, others=_others(history, settings))
    before = cpu_seconds()
    result = engine.forecast(history, calendar)
    spent = cpu_seconds() - before
    outcome.windows.append(_measured(series.y, origins[0], horizon, result, spent))


def _weekly(
    outcome: _Outcome, horizon: int, settings: MLSettings, series: DailySeries, calendar: Calendar, origins: range
) -> None:
    """A forecast from every origin, each going on with the model that the one before has left."""
    path = WeeklyPath(settings, calendar)
    for week, known in enumerate(origins, start=1):
        history, later = series.head(known), series.head(known + ON_DEMAND_AFTER_DAYS)
        others = _others(history, settings)
        before = cpu_seconds()
        made = path.forecast(history, others)
        between = cpu_seconds()
        path.on_demand(later, others)
        after = cpu_seconds()
        outcome.windows.append(_measured(series.y, known, horizon, made.result, between - before))
        outcome.weeks.append(_WeekCost(week, made.compared, made.artifact_bytes, after - between))


def _others(history: DailySeries, settings: MLSettings) -> list[type[Forecaster]]:
    return [candidate for models in _shared for candidate in models.candidates(history.end, settings)]


def _measured(y: FloatArray, known: int, horizon: int, result: EngineResult, cpu_seconds: float) -> _Window:
    history, actual, yhat = y[:known], y[known : known + horizon], result.forecast.yhat
    (low80, high80), (low95, high95) = result.forecast.bands[0.8], result.forecast.bands[0.95]
    quantiles = {0.025: low95, 0.1: low80, 0.5: yhat, 0.9: high80, 0.975: high95}
    naive = np.resize(history[-SEASON:], horizon)
    return _Window(
        mase=m.mase(actual, yhat, history),
        rmsse=m.rmsse(actual, yhat, history),
        smape=m.smape(actual, yhat),
        sql=m.scaled_quantile_loss(actual, quantiles, history),
        coverage_80=m.coverage(actual, low80, high80),
        coverage_95=m.coverage(actual, low95, high95),
        totals=_totals(history, actual, result),
        absolute_error=float(np.abs(actual - yhat).sum()),
        absolute_sales=float(np.abs(actual).sum()),
        naive_error=float(np.abs(actual - naive).sum()),
        worse_than_snaive=float(m.mae(actual, yhat) > WORSE_THAN_SNAIVE * m.mae(actual, naive)),
        chosen=result.chosen,
        cpu_seconds=cpu_seconds,
    )


def _totals(history: FloatArray, actual: FloatArray, result: EngineResult) -> dict[str, float]:
    """How each total compares with what was sold, by the keys of `TOTALS`."""
    totals = {total.days: total for total in result.totals}
    average = float(np.abs(history[-DAYS_A_YEAR:]).mean())
    found = dict.fromkeys(TOTALS, float("nan"))
    for key, days, level in TOTAL_BANDS:
        if days in totals:
            lower, upper = totals[days].bands[level]
            found[key] = float(lower <= actual[:days].sum() <= upper)
    for days, total in totals.items():
        if average > 0:
            off = (total.yhat - float(actual[:days].sum())) / (days * average)
            found |= {f"error_total_{days}": abs(off), f"bias_total_{days}": off}
    return found


def _summary(outcomes: Iterable[_Outcome]) -> dict[str, Any]:
    outcomes = list(outcomes)
    done = [window for outcome in outcomes for window in outcome.windows]
    sold = sum(window.absolute_sales for window in done)
    cpu = sum(window.cpu_seconds for window in done)
    return {
        "series": len(outcomes),
        "windows": len(done),
        "failed": sum(len(outcome.failures) for outcome in outcomes),
        "mase": _mean([window.mase for window in done]),
        "rmsse": _mean([window.rmsse for window in done]),
        "wape": sum(window.absolute_error for window in done) / sold if sold > 0 else None,
        "smape": _mean([window.smape for window in done]),
        "sql": _mean([window.sql for window in done]),
        "coverage_80": _mean([window.coverage_80 for window in done]),
        "coverage_95": _mean([window.coverage_95 for window in done]),
        **{key: _mean([window.totals[key] for window in done]) for key in TOTALS},
        "share_worse_than_snaive": _mean([window.worse_than_snaive for window in done]),
        "share_of_series_worse_than_snaive": _mean([_is_worse(outcome) for outcome in outcomes]),
        "cpu_seconds_per_window": cpu / len(done) if done else None,
    }


def _by_week(outcomes: Iterable[_Outcome], weeks: int) -> list[dict[str, Any]]:
    """The measures of `_summary` and the costs of each week, first to last."""
    judged = [
        (cost, replace(outcome, windows=[window], failures=[]))
        for outcome in outcomes
        for window, cost in zip(outcome.windows, outcome.weeks, strict=True)
    ]
    rows = []
    for week in range(1, weeks + 1):
        costs = [cost for cost, _ in judged if cost.week == week]
        rows.append(
            {
                "week": week,
                **_summary(outcome for cost, outcome in judged if cost.week == week),
                "compared": _mean([float(cost.compared) for cost in costs]),
                "artifact_bytes": _mean([float(cost.artifact_bytes) for cost in costs]),
                "on_demand_cpu_seconds": _mean([cost.on_demand_cpu_seconds for cost in costs]),
            }
        )
    return rows


def _is_worse(outcome: _Outcome) -> float:
    """1 where seasonal naive beats the forecasts of a series over its windows together, else 0; nan without any."""
    if not outcome.windows:
        return float("nan")
    error = sum(window.absolute_error for window in outcome.windows)
    return float(error > WORSE_THAN_SNAIVE * sum(window.naive_error for window in outcome.windows))


def _mean(values: list[float]) -> float | None:
    """Mean of the defined values; a window whose history repeats itself has no MASE and says nothing."""
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else None


def _chosen(outcome: _Outcome) -> str | None:
    """What forecast the newest window."""
    return outcome.windows[-1].chosen if outcome.windows else None
