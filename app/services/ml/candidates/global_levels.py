"""Global levels: the rows of `levels`, learned from many tenants at once. Opt-in: see docs/how-to/global-model.md.

The model is estimated beforehand, over the tenants that agreed (`app.services.ml.global_model`), and only used here:
once with what was known before the folds of the comparison, once with all that was known when it was trained.
"""

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import Forecaster, State
from app.services.ml.candidates.direct import DirectCandidate
from app.services.ml.candidates.direct_rows import FIRST_ORIGIN, Rows
from app.services.ml.candidates.trees import Trees
from app.services.ml.series import DailySeries, FloatArray

NAME = "global_levels"
FORMAT = 1
VERSION_DIGITS = 12
Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class GlobalFit:
    """Trees that have seen no day of any tenant after ``trained_through``."""

    trained_through: date
    trees: Trees

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the trees."""
        state = self.trees.state()
        return hashlib.sha256(b"".join(np.asarray(state[name]).tobytes() for name in sorted(state))).digest()


@dataclass(frozen=True, eq=False)
class GlobalModel:
    """One estimation at several days: a fold takes the newest that is not newer than its own cut-off."""

    fits: tuple[GlobalFit, ...]  # oldest first
    features: Names  # of the rows; a model of other rows is of no use

    @property
    def trained_through(self) -> date:
        """The last day that the newest fit has seen."""
        return self.fits[-1].trained_through

    @cached_property
    def version(self) -> str:
        """The day, and a digest of the trees: equal rows give the same version."""
        digest = hashlib.sha256(b"".join(fit.digest for fit in self.fits)).hexdigest()
        return f"{self.trained_through:%Y%m%d}.{digest[:VERSION_DIGITS]}"

    def known_by(self, day: date) -> GlobalFit | None:
        """The newest fit that has seen nothing after ``day``; None when all have."""
        return next((fit for fit in reversed(self.fits) if fit.trained_through <= day), None)

    def to_state(self) -> State:
        """Plain numbers, strings and bytes, as `artifact` stores them."""
        fits = [{"trained_through": fit.trained_through.isoformat(), "trees": fit.trees.state()} for fit in self.fits]
        return {"format": FORMAT, "features": list(self.features), "fits": fits}

    @classmethod
    def from_state(cls, state: State) -> "GlobalModel":
        """Back from `to_state`.

        Raises
        ------
        ArtifactRefused : another format, or a part is missing or not what it should be
        """
        if state.get("format") != FORMAT:
            raise ArtifactRefused("The stored global model was written by another version of tenantcast.")
        try:
            return _checked(state)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactRefused(f"The stored global model has another shape ({type(error).__name__}).") from None


def _checked(state: State) -> GlobalModel:
    fits, features = state["fits"], state["features"]
    if not isinstance(fits, list) or not isinstance(features, list) or not fits:
        raise ValueError("no fits or no names")
    found = tuple(GlobalFit(date.fromisoformat(fit["trained_through"]), Trees.restore(fit["trees"])) for fit in fits)
    if [fit.trained_through for fit in found] != sorted({fit.trained_through for fit in found}):
        raise ValueError("the fits are not in the order of their days")
    return GlobalModel(found, tuple(map(str, features)))


class GlobalLevels(DirectCandidate):
    """`levels` with parameters of many tenants: nothing of the tenant's own is estimated.

    Montero-Manso & Hyndman (2021), *Principles and algorithms for forecasting groups of time series: locality and
    globality*, IJF 37(4), 1632-1653.
    """

    name: ClassVar[str] = NAME
    min_history: ClassVar[int] = FIRST_ORIGIN
    model: ClassVar[GlobalModel | None] = None  # a subclass of `global_levels` has one
    absence: ClassVar[str] = "There is no global model."

    def __init__(self) -> None:
        super().__init__()
        self._fit: GlobalFit | None = None

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:  # noqa: ARG003 - the contract's signature
        cls._trained()
        return cls()

    def fit(self, series: DailySeries, calendar: Calendar) -> Self:
        """Choose what was known at the end of ``series``. Raises CandidateUnavailable when the model is newer."""
        super().fit(series, calendar)
        self.trained_through = self._chosen().trained_through
        return self

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:  # noqa: ARG002 - the contract's signature
        self._fit = self._trained().known_by(series.end)
        if self._fit is None:
            raise _left_out(f"The global model has seen days of other tenants after {series.end}.")

    def _sales(self, rows: Rows) -> FloatArray:
        if rows.names != self._trained().features:
            raise _left_out("The global model was trained by another version of tenantcast.")
        return rows.sales(rows.base + self._chosen().trees.predict(rows.values))

    def _parameters(self) -> State:
        """Which model, not the model: it lies in one place for all tenants."""
        return {"version": self._trained().version}

    def restore(self, state: State) -> None:
        """Find the fit again; ValueError when another version is loaded."""
        model, through = self._trained(), date.fromisoformat(str(state["trained_through"]))
        self._fit = next((fit for fit in model.fits if fit.trained_through == through), None)
        if state["version"] != model.version or self._fit is None:
            raise ValueError("of another version of the global model")

    def _chosen(self) -> GlobalFit:
        if self._fit is None:
            raise CandidateFailed(f"{NAME} has no model before `fit`.")
        return self._fit

    @classmethod
    def _trained(cls) -> GlobalModel:
        if cls.model is None:
            raise _left_out(cls.absence)
        return cls.model


def global_levels(found: GlobalModel | str) -> type[Forecaster]:
    """The candidate that forecasts with the model; for a text, it is unavailable for that reason."""
    if isinstance(found, str):
        return type("GlobalLevels", (GlobalLevels,), {"absence": found})
    return type("GlobalLevels", (GlobalLevels,), {"model": found})


def _left_out(reason: str) -> CandidateUnavailable:
    return CandidateUnavailable(reason, next_step="The other candidates make the forecast.")
