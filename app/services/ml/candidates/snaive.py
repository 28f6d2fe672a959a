"""Seasonal naive: a day sells what the same weekday sold a week before."""

from typing import ClassVar

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.common import Candidate, by_week, carried_forward, known_sales, repeated_week
from app.services.ml.series import SEASON, DailySeries, FloatArray


class SeasonalNaive(Candidate):
    """The last same weekday that was no announced closure (Hyndman & Athanasopoulos, FPP3, section 5.2).

    A weekday that was always announced as closed keeps what it sold.
    """

    name: ClassVar[str] = "snaive"
    min_history: ClassVar[int] = SEASON

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:  # noqa: ARG002 - all at once
        weeks = carried_forward(by_week(known_sales(series, calendar)))
        before = np.vstack([np.full(SEASON, np.nan), weeks[:-1]])
        return before.ravel()[-len(series) :]

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        week = carried_forward(by_week(known_sales(series, calendar)))[-1]
        return repeated_week(np.where(np.isnan(week), series.y[-SEASON:], week), horizon)
