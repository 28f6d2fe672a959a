"""The candidates, simplest first: the order breaks ties. To add a method: one file, one class, one line here.

Importing this package imports numpy only; statsmodels, Prophet and XGBoost are imported by the method that is used.
"""

from app.services.ml.candidates.base import Forecaster
from app.services.ml.candidates.calendar_ridge import CalendarRidge
from app.services.ml.candidates.levels import Levels
from app.services.ml.candidates.naive import Naive
from app.services.ml.candidates.prophet import Prophet
from app.services.ml.candidates.recursive import Recursive
from app.services.ml.candidates.ridge import Ridge
from app.services.ml.candidates.sarimax import Sarimax
from app.services.ml.candidates.snaive import SeasonalNaive
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.candidates.weekday_median import WeekdayMedian
from app.services.ml.candidates.xgboost import XGBoost

CANDIDATES: tuple[type[Forecaster], ...] = (
    Naive,
    SeasonalNaive,
    WeekdayMean,
    WeekdayMedian,
    CalendarRidge,
    Ridge,
    Sarimax,
    Prophet,
    XGBoost,
    Recursive,
    Levels,
)


def candidate_names() -> tuple[str, ...]:
    """Names of all candidates, as `ML_MODEL_CANDIDATES` takes them, simplest first."""
    return tuple(candidate.name for candidate in CANDIDATES)
