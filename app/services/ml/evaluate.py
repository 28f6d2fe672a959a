"""How good the forecasts are on days that were held back: the core of `tenantcast backtest`.

Each series is forecast from its last ``windows`` origins, ``horizon`` days apart and not overlapping, by exactly the
engine that the worker runs, refitted at every origin. What the engine sees ends at the origin.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
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
from app.services.ml.cpu_time import cpu_seconds, warm_up
from app.services.ml.global_backtest import GlobalModels, train_for_origins
from app.services.ml.ml_engine import LEVELS, BusinessMLEngine
from app.services.ml.results import EngineResult
from app.services.ml.series import SEASON, DailySeries, FloatArray
from app.services.ml.totals import SPANS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("unique_id", "ds", "y")
# What is judged of totals: key of the result, days, level.
TOTALS = tuple((f"coverage_{round(100 * level)}_total_{days}", days, level) for days in SPANS for level in LEVELS)
WORSE_THAN_SNAIVE = 1.02  # of its error: by more than 2 %
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
    total_coverage: dict[str, float]  # by the keys of `TOTALS`: 1 inside, 0 outside, nan beyond the horizon
    absolute_error: float
    absolute_sales: float
    naive_error: float  # absolute, of seasonal naive
    worse_than_snaive: float
    chosen: str


@dataclass(eq=False)
class _Outcome:
    unique_id: str
    windows: list[_Window] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0


def evaluate(
    path_or_frame: "str | Path | pd.DataFrame",
    horizon: int,
    windows: int,
    settings: MLSettings,
    countries: Mapping[str, str] | None = None,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Forecast the last ``windows`` spans of ``horizon`` days of every series and measure the errors.

    Parameters
    ----------
    path_or_frame : a CSV file (also compressed) or a frame with the columns unique_id, ds, y; days that a series skips
        count as zero sales. A series with an unreadable row, or with two rows for one day, is not judged but counted
        as failed, with the reason
    horizon : days of each window, >= 1
    windows : origins per series, >= 1
    settings : as the worker's; ``horizon`` replaces its horizon
    countries : unique_id to the country whose public holidays the tenant has
    jobs : processes
    progress : called with the number of series done and their number

    With `ML_GLOBAL_MODEL` the series of the file teach a model together, for every origin one that knows nothing later.

    Returns
    -------
    dict : JSON-safe: "pooled", "series", "settings", "version". MASE (season 7), RMSSE, sMAPE (0..200) and sQL are
        means over series-windows, WAPE is pooled, coverage a share of days (of windows for the totals of 7 and 28
        days); an undefined value is None. CPU is user and system time of the process and its children per
        series-window, imports not counted. "global_model", when there are any, says how many were trained and the CPU
        seconds that took, which are counted nowhere else.

    Raises
    ------
    InvalidFile : the file cannot be read or lacks a column
    """
    settings = settings.model_copy(update={"horizon_days": horizon})
    jobs_list = list(_jobs(_read(path_or_frame), countries or {}))
    warm_up()
    before = cpu_seconds()
    models = _global_models(jobs_list, horizon, windows, settings) if settings.global_model else None
    training = cpu_seconds() - before
    outcomes = []
    for outcome in _judged(jobs_list, partial(_judge, horizon, windows, settings), models, jobs):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(jobs_list))
    return {
        "pooled": _summary(outcomes),
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
        **({"global_model": {"models": len(models.models), "cpu_seconds": training}} if models else {}),
    }


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


def _global_models(todo: list[_Job], horizon: int, windows: int, settings: MLSettings) -> GlobalModels:
    """What the series of the file teach together, for the origin of every window."""
    known = [(job.series, Calendar(country=job.country)) for job in todo if job.series is not None]
    ahead = [timedelta(days=window * horizon) for window in range(1, windows + 1)]
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


def _judge(horizon: int, windows: int, settings: MLSettings, job: _Job) -> _Outcome:
    outcome = _Outcome(job.unique_id)
    for window in range(windows, 0, -1):
        known = len(job.series) - window * horizon if job.series is not None else 0
        if job.series is None or known <= SEASON:
            outcome.failures.append(job.problem or f"only {max(known, 0)} day(s) before a window")
            continue
        history = job.series.head(known)
        engine = BusinessMLEngine(settings, others=[models.candidate(history.end) for models in _shared])
        before = cpu_seconds()
        try:
            result = engine.forecast(history, Calendar(country=job.country))
        except TenantcastError as error:
            outcome.failures.append(error.message)
            continue
        outcome.cpu_seconds += cpu_seconds() - before
        outcome.windows.append(_measured(job.series.y, known, horizon, result))
    return outcome


def _measured(y: FloatArray, known: int, horizon: int, result: EngineResult) -> _Window:
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
        total_coverage=_total_coverage(actual, result),
        absolute_error=float(np.abs(actual - yhat).sum()),
        absolute_sales=float(np.abs(actual).sum()),
        naive_error=float(np.abs(actual - naive).sum()),
        worse_than_snaive=float(m.mae(actual, yhat) > WORSE_THAN_SNAIVE * m.mae(actual, naive)),
        chosen=result.chosen,
    )


def _total_coverage(actual: FloatArray, result: EngineResult) -> dict[str, float]:
    """Whether each total lies in its band."""
    bands = {total.days: total.bands for total in result.totals}
    inside = dict.fromkeys((key for key, _, _ in TOTALS), float("nan"))
    for key, days, level in TOTALS:
        if days in bands:
            lower, upper = bands[days][level]
            inside[key] = float(lower <= actual[:days].sum() <= upper)
    return inside


def _summary(outcomes: Iterable[_Outcome]) -> dict[str, Any]:
    outcomes = list(outcomes)
    done = [window for outcome in outcomes for window in outcome.windows]
    sold = sum(window.absolute_sales for window in done)
    cpu = sum(outcome.cpu_seconds for outcome in outcomes)
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
        **{key: _mean([window.total_coverage[key] for window in done]) for key, _, _ in TOTALS},
        "share_worse_than_snaive": _mean([window.worse_than_snaive for window in done]),
        "share_of_series_worse_than_snaive": _mean([_is_worse(outcome) for outcome in outcomes]),
        "cpu_seconds_per_window": cpu / len(done) if done else None,
    }


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
