"""What stored forecasts reached, by the measures of `app.services.ml.metrics`, pooled over any part of the series."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.services.ml import metrics as m
from app.services.ml.evaluate import WORSE_THAN_SNAIVE
from app.services.ml.series import SEASON, FloatArray
from app.services.ml.totals import SPANS
from benchmarks.methods import Known, Method, Prediction
from benchmarks.plan import Span, plan
from benchmarks.store import ResultFile

Scores = Mapping[str, float]  # of one series-window
Windows = Mapping[tuple[str, int], Scores]  # by series and days known
MEASURES = ("mase", "rmsse", "wape", "sql", "coverage_80", "coverage_95", "worse", "worse_series", "cpu")


@dataclass(eq=False)
class Reached:
    """One method over the series: its scores by series and days known, and the forecasts that it failed to make."""

    method: Method
    version: str
    windows: Windows = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    unfinished: int = 0
    days: set[str] = field(default_factory=set)  # on which the results were made
    loads: list[float] = field(default_factory=list)  # of the machine while they were made

    def of(self, unique_ids: frozenset[str]) -> "Reached":
        """The same method on some of the series."""
        kept = {key: scores for key, scores in self.windows.items() if key[0] in unique_ids}
        return Reached(self.method, self.version, kept)


def measure(methods: Sequence[Method], series: Sequence[Known], span: Span, file: ResultFile) -> list[Reached]:
    """Read every method's forecasts from the file and compare them with the days that followed."""
    whole = {one.unique_id: one.series.y for one in series}
    found = []
    for method in methods:
        windows: dict[tuple[str, int], Scores] = {}
        reached = Reached(method, method.version(), windows)
        for one in plan(method, series, span):
            key = one.key
            result = file.get(key)
            if result is None:
                reached.unfinished += 1
                continue
            reached.days.add(result.day)
            reached.loads.append(result.load)
            if result.prediction is None:
                reached.failures.append(f"{key.unique_id} after {key.known} days: {result.failure}")
            else:
                y, forecast = whole[key.unique_id], result.prediction
                windows[key.unique_id, key.known] = scores(y, key.known, forecast, result.cpu_seconds)
        found.append(reached)
    return found


def scores(y: FloatArray, known: int, prediction: Prediction, cpu_seconds: float) -> dict[str, float]:
    """The measures of one forecast of the days of ``y`` that follow the first ``known``; nan where one is undefined.

    "coverage_80_week_2" is the coverage of the second seven days; "coverage_80_total_7" is 1 where the sum of the first
    seven days lies in its band, else 0; "error" and "sold" are what WAPE is made of, summed over days, and
    "naive_error" is the error of seasonal naive.
    """
    history, actual = y[:known], y[known : known + prediction.mean.size]
    naive = np.resize(history[-SEASON:], actual.size)
    return {
        "mase": m.mase(actual, prediction.mean, history),
        "rmsse": m.rmsse(actual, prediction.mean, history),
        "error": float(np.abs(actual - prediction.mean).sum()),
        "naive_error": float(np.abs(actual - naive).sum()),
        "sold": float(np.abs(actual).sum()),
        "worse": float(m.mae(actual, prediction.mean) > WORSE_THAN_SNAIVE * m.mae(actual, naive)),
        "cpu": cpu_seconds,
        **(_interval_scores(actual, history, prediction) if prediction.bounds else {}),
        **{
            f"coverage_{level}_total_{days}": float(bounds[low] <= actual[:days].sum() <= bounds[-1 - low])
            for days, bounds in prediction.totals.items()
            for level, low in ((95, 0), (80, 1))
            if days in SPANS
        },
    }


def pooled(windows: Windows, measure: str) -> float:
    """A measure over series-windows, nan where it is undefined.

    WAPE is all errors over all sales, "worse_series" a share of series, the others are means where defined.
    """
    if measure == "worse_series":
        return _share_of_series_worse(windows)
    top, bottom = parts(windows.values(), measure)
    return float(top.sum() / bottom.sum()) if bottom.sum() > 0 else float("nan")


def _share_of_series_worse(windows: Windows) -> float:
    """Of all series, those where seasonal naive's error over all windows together is smaller by more than 2 %."""
    ids = sorted({unique_id for unique_id, _ in windows})
    if not ids:
        return float("nan")
    at = [ids.index(unique_id) for unique_id, _ in windows]
    error, naive = (np.bincount(at, _column(list(windows.values()), name)) for name in ("error", "naive_error"))
    return float(np.mean(error > WORSE_THAN_SNAIVE * naive))


def parts(windows: Iterable[Scores], measure: str) -> tuple[FloatArray, FloatArray]:
    """Numerator and denominator of a pooled measure for each series-window, both of shape (n,)."""
    rows = list(windows)
    if measure == "wape":
        return _column(rows, "error"), _column(rows, "sold")
    values = _column(rows, measure)
    known = np.isfinite(values)
    return np.where(known, values, 0.0), known.astype(np.float64)


def defined(scores: Scores, measure: str) -> bool:
    """Whether a series-window has a value of the measure."""
    return bool(np.isfinite(scores.get("error" if measure == "wape" else measure, float("nan"))))


def _interval_scores(actual: FloatArray, history: FloatArray, prediction: Prediction) -> dict[str, float]:
    bounds = prediction.bounds
    found = {"sql": m.scaled_quantile_loss(actual, {**bounds, 0.5: prediction.mean}, history)}
    for level, low, high in ((80, bounds[0.1], bounds[0.9]), (95, bounds[0.025], bounds[0.975])):
        found[f"coverage_{level}"] = m.coverage(actual, low, high)
        for week in range(actual.size // SEASON):
            days = slice(week * SEASON, (week + 1) * SEASON)
            found[f"coverage_{level}_week_{week + 1}"] = m.coverage(actual[days], low[days], high[days])
    return found


def _column(rows: Sequence[Scores], measure: str) -> FloatArray:
    return np.array([row.get(measure, float("nan")) for row in rows], dtype=np.float64)
