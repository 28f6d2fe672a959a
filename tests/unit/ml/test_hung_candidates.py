"""What the engine tells while it computes, and what it leaves out because it hung before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import CANDIDATES
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.fitted_model import FittedModel
from app.services.ml.hashing import output_hash
from app.services.ml.lookout import Lookout
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.results import EngineResult
from tests.factories import weekly_series

SETTINGS = MLSettings.model_construct(model_candidates=("naive", "snaive", "weekday_mean"), horizon_days=14, cv_folds=2)
SERIES = weekly_series(200, noise=0.2)


class Recorder:
    """Writes down which candidates begin and end."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.heard.append(f"+{name}")
        yield
        self.heard.append(f"-{name}")


def forecast(settings: MLSettings = SETTINGS, **hung: int) -> EngineResult:
    return BusinessMLEngine(settings, lookout=Lookout(hung=hung)).forecast(SERIES, Calendar())


def test_everything_that_a_candidate_computes_is_told_and_what_comes_after_is_nobodys():
    recorder = Recorder()

    result = BusinessMLEngine(SETTINGS, lookout=Lookout(recorder)).forecast(SERIES, Calendar())

    compared = [f"{sign}{name}" for name in ("naive", "snaive", "weekday_mean") for sign in "+-"]
    assert recorder.heard[:6] == compared
    assert sorted(recorder.heard[6::2]) == sorted(f"+{name}" for name in result.weights)
    assert [begun[1:] for begun in recorder.heard[::2]] == [ended[1:] for ended in recorder.heard[1::2]]


def test_being_listened_to_changes_no_forecast():
    heard = BusinessMLEngine(SETTINGS, lookout=Lookout(Recorder())).forecast(SERIES, Calendar())

    assert output_hash(heard) == output_hash(BusinessMLEngine(SETTINGS).forecast(SERIES, Calendar()))


def test_a_candidate_that_hung_is_left_out_with_a_reason_and_the_others_forecast():
    result = forecast(weekday_mean=320)

    score = next(score for score in result.scores if score.name == "weekday_mean")
    assert (score.status, score.metrics, score.weight) == ("left_out", {}, 0.0)
    assert score.reason == "weekday_mean hung: the worker before was lost after 320 s or more of it."
    assert [note.code for note in result.notes] == ["candidate_hung"]
    assert "weekday_mean" in result.notes[0].say("en")
    assert "se quedó colgado" in result.notes[0].say("es")
    without = SETTINGS.model_copy(update={"model_candidates": ("naive", "snaive")})
    assert output_hash(result) == output_hash(forecast(without))


def test_a_candidate_that_hung_but_is_not_configured_any_more_is_not_mentioned():
    assert forecast(prophet=320).notes == ()


def test_when_the_only_candidates_hung_there_is_still_a_forecast_without_them():
    class Stuck(WeekdayMean):
        name: ClassVar[str] = "weekday_mean"

        def fit(self, series, calendar):
            raise AssertionError("it would hang")

    registry = [Stuck if candidate.name == "weekday_mean" else candidate for candidate in CANDIDATES]
    settings = SETTINGS.model_copy(update={"model_candidates": ("weekday_mean",)})
    engine = BusinessMLEngine(settings, registry, lookout=Lookout(hung={"weekday_mean": 320}))

    result = engine.forecast(SERIES, Calendar())

    assert (result.level, result.chosen, result.reason.code) == ("fallback", "snaive", "nothing_usable")


def test_a_candidate_that_the_soft_limit_reaches_has_failed_and_the_others_go_on_in_the_same_attempt():
    class Loops(WeekdayMean):
        name: ClassVar[str] = "weekday_mean"

        def fit(self, series, calendar):
            raise SoftTimeLimitExceeded  # what the worker raises in Python code that is still at work by then

    registry = [Loops if candidate.name == "weekday_mean" else candidate for candidate in CANDIDATES]

    result = BusinessMLEngine(SETTINGS, registry).forecast(SERIES, Calendar())

    failed = [(score.name, score.reason) for score in result.scores if score.status == "failed"]
    assert failed == [("weekday_mean", "weekday_mean raised SoftTimeLimitExceeded.")]
    assert set(result.weights) <= {"naive", "snaive"}


def test_a_model_with_a_member_that_hung_is_not_carried_forward():
    model = FittedModel.of(forecast(), {})
    member = next(iter(model.members))

    with pytest.raises(CandidateFailed, match="hung"):
        BusinessMLEngine(SETTINGS, lookout=Lookout(hung={member: 320})).reanchor(model, SERIES, Calendar())


def test_a_model_that_is_carried_forward_tells_its_members_too():
    recorder = Recorder()
    model = FittedModel.of(forecast(), {})

    BusinessMLEngine(SETTINGS, lookout=Lookout(recorder)).reanchor(model, SERIES, Calendar())

    assert recorder.heard[::2] == [f"+{name}" for name in model.members]
