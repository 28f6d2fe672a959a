"""Global levels: the rows of `levels`, learned from many tenants at once. Opt-in: see docs/how-to/global-model.md.

The model is estimated beforehand, over the tenants that agreed (`app.services.ml.global_model`), and only used here:
once with what was known before the folds of the comparison, once with all that was known when it was trained. Beside
its trees it may hold a network, which `global_lstm` forecasts with.
"""

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import ClassVar, Self, TypeVar

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import State
from app.services.ml.candidates.direct import DirectCandidate
from app.services.ml.candidates.direct_rows import FIRST_ORIGIN, Rows
from app.services.ml.candidates.network import Network
from app.services.ml.candidates.trees import Trees
from app.services.ml.series import DailySeries, FloatArray

NAME = "global_levels"
FORMAT = 1
VERSION_DIGITS = 12
Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class GlobalFit:
    """Trees, and perhaps a network, that have seen no day of any tenant after ``trained_through``."""

    trained_through: date
    trees: Trees
    network: Network | None = None

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of trees and network."""
        state = self.trees.state()
        parts = [np.asarray(state[name]).tobytes() for name in sorted(state)]
        return hashlib.sha256(b"".join([*parts, self.network.digest if self.network else b""])).digest()

    def state(self) -> State:
        """Plain; without a network there is no such key, as in models from before there were any."""
        state: State = {"trained_through": self.trained_through.isoformat(), "trees": self.trees.state()}
        return state | ({"network": self.network.state()} if self.network else {})

    @classmethod
    def restore(cls, state: object) -> "GlobalFit":
        """Back from `state`; KeyError, TypeError or ValueError when it is none."""
        if not isinstance(state, dict):
            raise TypeError("no fit")
        network = Network.restore(state["network"]) if "network" in state else None
        return cls(date.fromisoformat(state["trained_through"]), Trees.restore(state["trees"]), network)


@dataclass(frozen=True, eq=False)
class GlobalModel:
    """One estimation at several days: a fold takes the newest that is not newer than its own cut-off."""

    fits: tuple[GlobalFit, ...]  # oldest first
    features: Names  # of the rows; a model of other rows is of no use

    @property
    def trained_through(self) -> date:
        """The last day that the newest fit has seen."""
        return self.fits[-1].trained_through

    @property
    def has_network(self) -> bool:
        """Whether every fit has one."""
        return all(fit.network for fit in self.fits)

    @cached_property
    def version(self) -> str:
        """The day, and a digest of what was learned: equal rows give the same version."""
        digest = hashlib.sha256(b"".join(fit.digest for fit in self.fits)).hexdigest()
        return f"{self.trained_through:%Y%m%d}.{digest[:VERSION_DIGITS]}"

    def known_by(self, day: date) -> GlobalFit | None:
        """The newest fit that has seen nothing after ``day``; None when all have."""
        return next((fit for fit in reversed(self.fits) if fit.trained_through <= day), None)

    def to_state(self) -> State:
        """Plain numbers, strings and bytes, as `artifact` stores them."""
        fits = [fit.state() for fit in self.fits]
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
    found = tuple(map(GlobalFit.restore, fits))
    if [fit.trained_through for fit in found] != sorted({fit.trained_through for fit in found}):
        raise ValueError("the fits are not in the order of their days")
    return GlobalModel(found, tuple(map(str, features)))


class GlobalCandidate(DirectCandidate):
    """A method with parameters of many tenants: nothing of the tenant's own is estimated.

    Montero-Manso & Hyndman (2021), *Principles and algorithms for forecasting groups of time series: locality and
    globality*, IJF 37(4), 1632-1653.
    """

    min_history: ClassVar[int] = FIRST_ORIGIN
    model: ClassVar[GlobalModel | None] = None  # a subclass of `with_model` has one
    absence: ClassVar[str] = "There is no global model."

    def __init__(self) -> None:
        super().__init__()
        self._fit: GlobalFit | None = None

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:  # noqa: ARG003 - the contract's signature
        cls._trained()
        return cls()

    def _learn(self, state: State | None, series: DailySeries, calendar: Calendar) -> Self:
        """As for every candidate, but what is learned is from the day of the model."""
        super()._learn(state, series, calendar)
        self.trained_through = self._chosen().trained_through
        return self

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:  # noqa: ARG002 - the contract's signature
        """Choose what was known at the end of ``series``. Raises CandidateUnavailable when the model is newer."""
        self._fit = self._trained().known_by(series.end)
        if self._fit is None:
            raise left_out(f"The global model has seen days of other tenants after {series.end}.")

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
            raise CandidateFailed(f"{self.name} has no model before `fit`.")
        return self._fit

    def _check(self, rows: Rows) -> None:
        """Raise CandidateUnavailable unless the model was trained on such rows."""
        if rows.names != self._trained().features:
            raise left_out("The global model was trained by another version of tenantcast.")

    @classmethod
    def _trained(cls) -> GlobalModel:
        if cls.model is None:
            raise left_out(cls.absence)
        return cls.model


class GlobalLevels(GlobalCandidate):
    """`levels` with trees of many tenants."""

    name: ClassVar[str] = NAME

    def _sales(self, rows: Rows) -> FloatArray:
        self._check(rows)
        return rows.sales(rows.base + self._chosen().trees.predict(rows.values))


Kind = TypeVar("Kind", bound=GlobalCandidate)


def with_model(kind: type[Kind], found: GlobalModel | str) -> type[Kind]:
    """The candidate that forecasts with the model; for a text, it is unavailable for that reason."""
    return type(kind.__name__, (kind,), {"absence": found} if isinstance(found, str) else {"model": found})


def global_levels(found: GlobalModel | str) -> type[GlobalLevels]:
    """`with_model` of the trees."""
    return with_model(GlobalLevels, found)


def left_out(reason: str) -> CandidateUnavailable:
    """The error of a candidate that cannot take part, which stops none of the others."""
    return CandidateUnavailable(reason, next_step="The other candidates make the forecast.")
