"""What is compared: the interface of a method, and how one forecast of it is made and timed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from app.services.ml.metrics import SQL_QUANTILES
from app.services.ml.series import DailySeries, FloatArray

BOUNDS = tuple(quantile for quantile in SQL_QUANTILES if quantile != 0.5)  # noqa: PLR2004 - the point forecast's place


@dataclass(frozen=True, eq=False)
class Known:
    """What a method may see of one series: its days before the origin, and the country of its public holidays."""

    unique_id: str
    series: DailySeries
    country: str = ""


@dataclass(frozen=True, eq=False)
class Prediction:
    """One forecast from one origin.

    ``mean`` has shape (horizon,); ``bounds`` maps the quantiles of `BOUNDS` to the same shape and is empty for a method
    without intervals. ``totals`` maps a number of days to the quantiles of `BOUNDS` of the sum over them.
    """

    mean: FloatArray
    bounds: Mapping[float, FloatArray] = field(default_factory=dict)
    totals: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    def clipped(self) -> "Prediction":
        """Sales are never below zero: forecast and bounds are cut there, for every method alike."""
        bounds = {quantile: np.maximum(bound, 0.0) for quantile, bound in self.bounds.items()}
        return Prediction(np.maximum(self.mean, 0.0), bounds, self.totals)


Alone = Callable[[Known, int], Prediction]
Together = Callable[[list[Known], int], dict[str, Prediction]]


@dataclass(frozen=True, eq=False)
class Method:
    """One row of the table.

    Either ``alone`` forecasts one series or ``together`` all of them at once. ``packages`` are the distributions that
    make its forecasts: the method runs where all are installed. ``recipe`` and ``settings`` say how it is used; a
    change of either, or of a version, makes earlier results stale.
    """

    name: str
    title: str
    alone: Alone | None = None
    together: Together | None = None
    packages: tuple[str, ...] = ()
    made: int = 1  # forecasts that ``alone`` makes to give one; their mean is the CPU time of one
    countries: bool = False  # is told the country of each series
    share: float = 1.0  # of the series, 0..1; for what takes too long on all
    recipe: str = "1"
    settings: Mapping[str, Any] = field(default_factory=dict)
    warm_up: Callable[[], None] = lambda: None  # imports and compiles, so that no series pays for it
    group: str = "rivals"

    def missing(self) -> list[str]:
        """Distributions that are not installed here."""
        return [package for package in self.packages if _version(package) is None]

    def version(self) -> str:
        """Recipe and versions of what makes the forecasts."""
        return ", ".join([f"recipe {self.recipe}", *(f"{name} {_version(name)}" for name in self.packages)])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
