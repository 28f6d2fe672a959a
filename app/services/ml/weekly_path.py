"""One tenant week after week as the worker forecasts it, only without a database: for `tenantcast backtest --weeks`.

Every model goes through its stored form: sealed, and verified and read back before the next forecast goes on with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app import __version__
from app.config.ml_settings import MLSettings
from app.services.ml.artifact import ArtifactKeys, open_model, seal_model
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import Forecaster
from app.services.ml.fitted_model import FittedModel
from app.services.ml.hashing import fitted_under, input_document, input_hash, output_hash
from app.services.ml.history_mark import HistoryMark
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.model_version_manager import MODEL_TYPE, SavedModel
from app.services.ml.reanchoring import NOT_CARRIED, Anchor, judge, judge_week
from app.services.ml.results import EngineResult
from app.services.ml.series import DailySeries
from app.tenancy import parse_tenant_id

TENANT = parse_tenant_id("backtest")
KEYS = ArtifactKeys((("backtest", bytes(32)),))  # nothing that it signs is kept


@dataclass(frozen=True, eq=False)
class Week:
    """One weekly forecast: was it a comparison of all candidates, and the characters of the model it leaves."""

    result: EngineResult
    compared: bool
    artifact_bytes: int


class WeeklyPath:
    """A tenant whose first week is a comparison of all candidates, and whose next one comes `ML_RESCORE_DAYS` later."""

    def __init__(self, settings: MLSettings, calendar: Calendar) -> None:
        self._settings = settings
        self._calendar = calendar
        self._phase: int | None = None
        self._sealed: str | None = None

    def forecast(self, series: DailySeries, others: Sequence[type[Forecaster]] = ()) -> Week:
        """The weekly forecast from the end of ``series`` on; each call gives more days than the one before."""
        if self._phase is None:
            self._phase = -series.end.toordinal() % self._settings.rescore_days
        under = self._fitted_under(series)
        rescore_days = self._settings.rescore_days
        judged = judge_week(self._saved(), under, series, self._calendar, rescore_days, self._phase)
        engine = BusinessMLEngine(self._settings, others=others)
        result, anchor = _computed(engine, judged, series, self._calendar)
        if anchor is None:
            mark = HistoryMark.of(series, self._calendar)
            model = FittedModel.of(result, under, mark, output_hash(result))
        else:
            model = anchor.model.refreshed(result)
        self._sealed = _sealed(model)
        return Week(result, compared=anchor is None, artifact_bytes=len(self._sealed))

    def on_demand(self, series: DailySeries, others: Sequence[type[Forecaster]] = ()) -> EngineResult:
        """What a forecast on demand gives between two weeks; nothing is stored."""
        judged = judge(self._saved(), self._fitted_under(series), series.end, self._settings.model_max_age_days)
        return _computed(BusinessMLEngine(self._settings, others=others), judged, series, self._calendar)[0]

    def _saved(self) -> SavedModel | None:
        if self._sealed is None:
            return None
        opened = open_model(self._sealed, KEYS, tenant_id=TENANT, model_type=MODEL_TYPE, model_version="")
        return SavedModel(MODEL_TYPE, "", self._sealed, opened.state)

    def _fitted_under(self, series: DailySeries) -> dict[str, Any]:
        document = input_document(
            series, self._calendar, self._settings, tenant={}, stale=False, code_version=__version__
        )
        input_hash(document)  # the worker names every input by it
        return fitted_under(document)


def _computed(
    engine: BusinessMLEngine, judged: Anchor | str, series: DailySeries, calendar: Calendar
) -> tuple[EngineResult, Anchor | None]:
    """The result, and the model that it goes on with; None where all candidates were compared."""
    if isinstance(judged, Anchor):
        try:
            return judged.forecast(engine, series, calendar), judged
        except NOT_CARRIED:
            pass  # as a worker does, which also says why
    return engine.forecast(series, calendar), None


def _sealed(model: FittedModel) -> str:
    return seal_model(
        model.to_state(), KEYS, tenant_id=TENANT, model_type=MODEL_TYPE, model_version="", run_id="", fence=0
    )
