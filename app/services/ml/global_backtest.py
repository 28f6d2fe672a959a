"""Global models for a backtest: for every window one that has seen nothing of any series after the window's origin."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from app.config.ml_settings import MLSettings
from app.errors import NoGlobalModel
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import Forecaster
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.candidates.global_lstm import global_candidates
from app.services.ml.global_model import Gatherer
from app.services.ml.neural_training import device_for
from app.services.ml.series import SEASON, DailySeries


@dataclass(frozen=True, eq=False)
class GlobalModels:
    """One model, or the reason why there is none, for each of some days; ``days`` ascend."""

    days: tuple[date, ...]
    models: tuple[GlobalModel | str, ...]
    no_network: str = ""  # why they have none although the settings ask for it

    def candidates(self, origin: date, settings: MLSettings) -> tuple[type[Forecaster], ...]:
        """Those with the newest model of a day that is not after ``origin``, the last known day."""
        at = bisect_right(self.days, origin) - 1
        found = self.models[at] if at >= 0 else "There is no global model of so early a day."
        return global_candidates(found, settings)


def train_for_origins(
    tenants: Sequence[tuple[DailySeries, Calendar]], origins: Iterable[date], settings: MLSettings
) -> GlobalModels:
    """A model for every week that holds an origin, of all ``tenants``, as a worker would have trained it on its first.

    Like a worker's, each is estimated twice: before the folds of the comparison, and at the end.
    """
    days = _first_of_each_week(origins)
    device, no_network = device_for(settings)
    before_folds = timedelta(days=settings.cv_folds * settings.horizon_days)
    models: list[GlobalModel | str] = []
    for day in days:
        gatherer = Gatherer([day - before_folds, day], len(tenants), device)
        for series, calendar in tenants:
            if series.start <= day:
                known = series.head(min((day - series.start).days + 1, len(series)))
                gatherer.add(known.tail(settings.max_train_window_days), calendar)
        try:
            models.append(gatherer.train())
        except NoGlobalModel as error:
            models.append(error.message)
    return GlobalModels(days, tuple(models), no_network)


def _first_of_each_week(days: Iterable[date]) -> tuple[date, ...]:
    """The days that are a week or more after the one before that was taken."""
    taken: list[date] = []
    for day in sorted(set(days)):
        if not taken or (day - taken[-1]).days >= SEASON:
            taken.append(day)
    return tuple(taken)
