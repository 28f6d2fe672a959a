"""Results on disk, one line each, so that a run goes on where an earlier one stopped."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods import Prediction

DIGITS = 7  # significant, of stored forecasts


@dataclass(frozen=True)
class Key:
    """What a result depends on: any change makes it another result."""

    method: str
    unique_id: str
    known: int  # days before the origin
    horizon: int
    data: str  # hash of what the method was shown
    version: str
    settings: str
    machine: str

    def text(self) -> str:
        """One short name of the key."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class Result:
    """One forecast of one series from one origin, or why there is none.

    ``day`` and ``load`` say when it was made (UTC) and how busy the machine was: processes that wanted to run, per
    core. A busy core takes more CPU time for the same work, so times compare only between results of like load.
    """

    key: Key
    prediction: Prediction | None
    cpu_seconds: float
    failure: str = ""
    day: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    load: float = field(default_factory=lambda: os.getloadavg()[0] / (os.cpu_count() or 1))

    def as_line(self) -> str:
        """One line of JSON."""
        row: dict[str, Any] = {"id": self.key.text(), **asdict(self.key), "cpu": round(self.cpu_seconds, 6)}
        row |= {"day": self.day, "load": round(self.load, 2)}
        if self.prediction is None:
            return json.dumps(row | {"failure": self.failure})
        row["mean"] = _short(self.prediction.mean)
        row["bounds"] = {str(quantile): _short(bound) for quantile, bound in self.prediction.bounds.items()}
        row["totals"] = {str(days): _short(np.array(bounds)) for days, bounds in self.prediction.totals.items()}
        return json.dumps(row)

    @staticmethod
    def from_line(line: str) -> "Result":
        """Back from `as_line`; ValueError or KeyError for a line that is none."""
        row = json.loads(line)
        key = Key(**{name: row[name] for name in Key.__dataclass_fields__})
        made = {"day": row["day"], "load": row["load"]}
        if "mean" not in row:
            return Result(key, None, row["cpu"], row["failure"], **made)
        bounds = {float(quantile): np.array(bound) for quantile, bound in row["bounds"].items()}
        totals = {int(days): tuple(bounds) for days, bounds in row["totals"].items()}
        return Result(key, Prediction(np.array(row["mean"]), bounds, totals), row["cpu"], **made)


class ResultFile:
    """A JSONL file of results. A line torn by a kill is skipped; of two results for one key the later counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results = {result.key.text(): result for result in _read(path)}

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: Key) -> Result | None:
        """The result for ``key``, if there is one."""
        return self._results.get(key.text())

    def add(self, results: Iterable[Result]) -> None:
        """Append results; they are on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for result in results:
                line = result.as_line()
                file.write(line + "\n")
                self._results[result.key.text()] = Result.from_line(line)  # as a later run will read it
            file.flush()
            os.fsync(file.fileno())


def machine() -> str:
    """Kind of processor and number of cores: times of another machine are no results of this one."""
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _read(path: Path) -> list[Result]:
    results = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            results.append(Result.from_line(line))
        except (ValueError, KeyError, TypeError):
            continue
    return results


def _short(values: Any) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
