"""Naive: tomorrow sells what today sold."""

from typing import ClassVar

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.common import Candidate, carried_forward, known_sales
from app.services.ml.series import DailySeries, FloatArray


class Naive(Candidate):
    """The last day that was no announced closure, repeated (Hyndman & Athanasopoulos, FPP3, section 5.2)."""

    name: ClassVar[str] = "naive"
    min_history: ClassVar[int] = 1

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:  # noqa: ARG002 - all at once
        last = carried_forward(known_sales(series, calendar)[:, None])[:, 0]
        return np.concatenate([[np.nan], last[:-1]])

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        known = known_sales(series, calendar)
        return np.full(horizon, known[~np.isnan(known)][-1])
