"""From a tenant's daily sales to a forecast with bands, anomalies and reasons: pure arithmetic, no I/O, no clock.

The ladder: a blend of the candidates that did best on past weeks; else the single best; else, when nothing can be
compared or everything failed, the simplest sound method by rule. One day of sales is enough for a forecast.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed, CandidateUnavailable, ModelOutdated, UnknownCountry
from app.services.ml.anomalies import find_anomalies
from app.services.ml.backtest import CrossValidation, cross_validate
from app.services.ml.blending import blended
from app.services.ml.calendar import Calendar, IntArray, KnownDay, validate_country
from app.services.ml.candidates import CANDIDATES
from app.services.ml.candidates.base import Forecaster, State
from app.services.ml.candidates.common import unexplained_zeros
from app.services.ml.explanation import explain
from app.services.ml.fitted_model import FittedModel
from app.services.ml.intervals import ResidualPool, at_level_of, growth, naive_pool, no_more_often
from app.services.ml.ladder import Member, fallback, fit_member, observe_member
from app.services.ml.level_shift import find_level_shift
from app.services.ml.log_space import in_log_space
from app.services.ml.lookout import NO_LOOKOUT, Lookout
from app.services.ml.notes import Note, note
from app.services.ml.past_forecasts import PastForecasts
from app.services.ml.promotions import measure_promotions
from app.services.ml.rare_sales import RareSales
from app.services.ml.results import Anomaly, CandidateScore, EngineResult, Forecast, Residuals
from app.services.ml.roots import from_roots, to_roots
from app.services.ml.season_width import season_width
from app.services.ml.selection import FLOOR, Selection, select
from app.services.ml.series import (
    CLOSURE_DAYS,
    BoolArray,
    DailySeries,
    FloatArray,
    closed_weekdays,
    one_off_days,
    unannounced_closures,
    weekdays_from,
)
from app.services.ml.totals import SPANS, Total, naive_errors, past_errors, totals

LEVELS = (0.8, 0.95)  # always given; `interval_level` comes on top
LARGEST_DAY = 1e15  # intake refuses larger amounts; a larger day would overflow squares
SMALLEST_DAY = 1e-9  # less than a billionth of a coin is no sale; dividing by it would overflow
SHORT_HISTORY_DAYS = 56
# Fold residuals come from parameters that are up to three folds older than those of the final fit, and are larger than
# its errors. With this much less width, the development data are covered at .82 and .96 (of .80 and .95) without public
# holidays, and at .79 and .95 with them.
REFIT_GAIN = 0.19
EXPLAINING = ("holiday", "holiday_eve", "holiday_morrow", "promotion", "event")  # a day of these may sell anything
_BARE_STATE = ("name", "trained_through")
SAID_FROM = 0.02  # of a total: where the days add up to something else, a note says why
SIGNIFICANT_DIGITS = 6  # of published numbers, so that equal inputs give equal hashes


@dataclass(frozen=True, eq=False)
class _Task:
    """What one computation is about. ``calendar`` is what candidates see: nothing in it comes from later days."""

    series: DailySeries
    calendar: Calendar
    non_negative: bool
    candidates: tuple[type[Forecaster], ...]
    one_offs: BoolArray  # shape (n_days,): days out of the ordinary, which ``calendar`` calls closed
    quiet_days: int  # at the end of the series: a closure that nobody announced, or a feed that stopped
    notes: list[Note] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started

    def closing(self, known: DailySeries) -> Calendar:
        """The calendar with the closed weekdays that the days of ``known`` show."""
        return replace(self.calendar, closed_weekdays=frozenset(closed_weekdays(known)))

    def expected(self) -> Calendar:
        """The closing calendar with the quiet days that are expected ahead."""
        ahead = (_day_after(self.series) + timedelta(days=day) for day in range(self.quiet_days))
        calendar = self.closing(self.series)
        return replace(calendar, known_days=(*calendar.known_days, *(KnownDay(day, "closure") for day in ahead)))

    def adjust(self, forecast: FloatArray, known: DailySeries) -> FloatArray:
        """What is published for a raw forecast that follows ``known``: zero on closed days, never below a floor."""
        closed = self.closing(known).closed(_day_after(known), forecast.size)
        floored = np.maximum(forecast, 0.0) if self.non_negative else forecast
        return np.where(closed, 0.0, floored)


@dataclass(frozen=True, eq=False)
class _Choice:
    """The fitted members of the forecast and how they were chosen."""

    members: tuple[Member, ...]
    weights: dict[str, float]
    chosen: str
    reason: Note
    level: Literal["blend", "single", "fallback"]  # how far down the ladder
    out_of_fold: FloatArray | None = None  # shape (n_folds, horizon); None: by rule, without a comparison

    def forecast(self) -> FloatArray:
        """The members blended, shape (horizon,), not yet adjusted."""
        weights = np.array([self.weights[member.name] for member in self.members])
        return blended(weights, np.array([member.forecast for member in self.members]))

    @classmethod
    def selected(cls, members: tuple[Member, ...], chosen: Selection) -> "_Choice":
        return cls(members, chosen.weights, chosen.chosen, chosen.reason, chosen.level, chosen.out_of_fold)


class BusinessMLEngine:
    """Forecasts one tenant after another with one set of settings.

    ``candidates`` is the registry, simplest first; `ML_MODEL_CANDIDATES` picks from it by name. ``others`` take part
    whatever it names, after them: a model that was estimated elsewhere, such as `global_levels`. ``lookout`` is told
    which candidate is at work, and names those to leave out because they hung before.
    """

    def __init__(
        self,
        settings: MLSettings,
        candidates: Sequence[type[Forecaster]] = CANDIDATES,
        others: Sequence[type[Forecaster]] = (),
        *,
        lookout: Lookout = NO_LOOKOUT,
    ) -> None:
        self._settings = settings
        self._registry = tuple(candidates)
        self._others = tuple(others)
        self._lookout = lookout

    def forecast(self, series: DailySeries, calendar: Calendar) -> EngineResult:
        """Everything that can be said about one tenant; equal inputs give equal numbers.

        Parameters
        ----------
        series : one day or more; only the last `max_train_window_days` are used
        calendar : the tenant's country and known days; `holidays_country` stands in for a missing country

        Returns
        -------
        EngineResult : finite, ``lower <= yhat <= upper``, exactly zero on closed days, not below zero for a series
            that never was; numbers have 6 significant digits

        Raises
        ------
        Nothing that a candidate does: its failure is a row of the score table.
        """
        task = self._prepare(series, calendar)
        with task.stage("compare"):
            validation = cross_validate(
                task.series, task.calendar, task.candidates, self._settings, task.adjust, self._lookout
            )
        with task.stage("fit"):
            choice, validation = self._fit(task, validation)
        metrics = validation.metrics(choice.out_of_fold) if choice.out_of_fold is not None else {}
        scores = self._scores(task, validation, choice)
        pool, errors = self._pool(task, choice, validation), self._errors(task, choice, validation)
        result = self._result(task, choice, pool, errors, _rounded_dict(metrics), scores)
        return replace(result, past=self._past(task, choice, validation))

    def reanchor(self, model: FittedModel, series: DailySeries, calendar: Calendar) -> EngineResult:
        """The forecast of a stored model from the end of ``series`` on: nothing is estimated.

        Members observe the whole history; closed weekdays and anomalies come from the days as they are now. Days since
        the last comparison are scored with what was forecast for them: weights, bands, metrics and the members' scores
        are those of the last days, as many as before. The scores of the others stand. Where there are no such days, or
        more than were forecast, all of them are those of the comparison; on the days of the fit this is its forecast
        again.

        Parameters
        ----------
        model : fitted under these settings; it must not have seen days after the end of ``series``
        series, calendar : as for `forecast`

        Raises
        ------
        CandidateFailed, CandidateUnavailable : a member cannot be carried forward; `forecast` fits anew
        ModelOutdated : on the newer days the blend did clearly worse than before, or worse than seasonal naive
        """
        return self._continued(self._prepare(series, calendar), model, anew=False)

    def refresh(self, model: FittedModel, series: DailySeries, calendar: Calendar) -> EngineResult:
        """The weekly forecast between two comparisons: as `reanchor`, but members are estimated on all days.

        Nothing is compared anew, boosted trees keep their splits, and expensive members all parameters. It depends on
        the comparison alone, not on the weeks between. Parameters and errors are those of `reanchor`.
        """
        return self._continued(self._prepare(series, calendar), model, anew=True)

    def _continued(self, task: _Task, model: FittedModel, *, anew: bool) -> EngineResult:
        validation = None
        if model.past is not None and task.series.end > model.scored_through:
            validation = _around_closures(task, model.past.validation(task.series))
        selection = None if validation is None else self._weighed_again(task, model, validation)
        names = model.weights if selection is None else selection.weights
        with task.stage("fit" if anew else "observe"):
            members = tuple(self._continued_member(task, name, model.members[name], anew=anew) for name in names)
        if validation is None or selection is None:
            choice = _Choice(members, model.weights, model.chosen, model.reason, model.level)
            return self._result(task, choice, model.pool, model.errors, model.metrics, model.scores)
        choice = _Choice.selected(members, selection)
        metrics = _rounded_dict(validation.metrics(selection.out_of_fold))
        newer = {score.name: score for score in self._scores(task, validation, choice)}
        scores = tuple(newer.get(score.name, replace(score, weight=0.0)) for score in model.scores)
        pool, errors = self._pool(task, choice, validation), self._errors(task, choice, validation)
        return self._result(task, choice, pool, errors, metrics, scores)

    def _weighed_again(self, task: _Task, model: FittedModel, validation: CrossValidation) -> Selection:
        """The members with weights from the newest days. Raises ModelOutdated when that is not enough."""
        if model.past is not None and model.past.has_risen(task.series, model.weights):
            raise ModelOutdated(
                "On the days since the candidates were compared the error was clearly larger than before."
            )
        metric, best_only = self._settings.cv_primary_metric, self._settings.select_best
        selection = select(validation, metric, best_only=best_only)
        if FLOOR not in model.weights and selection is not None and selection.chosen != FLOOR:
            # The floor is there to be beaten; it was no member, and has no state to become one.
            selection = select(validation.without({FLOOR: "only the floor"}), metric, best_only=best_only)
        if selection is None or not selection.weights.keys() <= model.weights.keys():
            raise ModelOutdated("On the newest days the pattern of the last week did better than the model.")
        compared = sum(score.status == "scored" for score in model.scores)
        stays = selection.chosen == model.chosen and selection.level == "single"
        return replace(selection, reason=model.reason if stays else _of_so_many(selection.reason, compared))

    def _past(self, task: _Task, choice: _Choice, validation: CrossValidation) -> PastForecasts | None:
        """What the members, and the floor that they have to beat, forecast for days that they had not seen."""
        if choice.out_of_fold is None:
            return None
        ahead = {member.name: task.adjust(member.forecast, task.series) for member in choice.members}
        floor = next((candidate for candidate in task.candidates if candidate.name == FLOOR), None)
        if floor is not None and floor.name not in ahead and any(run.name == FLOOR for run in validation.scored):
            with suppress(CandidateFailed, CandidateUnavailable):
                forecast = fit_member(floor, task.series, task.calendar, self._settings).forecast
                ahead[floor.name] = task.adjust(forecast, task.series)
        return PastForecasts.of(validation, ahead)

    def _continued_member(self, task: _Task, name: str, state: State, *, anew: bool) -> Member:
        candidate = next((candidate for candidate in task.candidates if candidate.name == name), None)
        if candidate is None:
            raise CandidateFailed(f"{name} is no candidate of these settings.")
        if objection := self._lookout.objection(name):
            raise CandidateFailed(objection)
        with self._lookout.computing(name):
            if anew and not candidate.expensive:
                return fit_member(candidate, task.series, task.calendar, self._settings, state)
            return observe_member(candidate, state, task.series, task.calendar, self._settings)

    def _result(
        self,
        task: _Task,
        choice: _Choice,
        pool: ResidualPool,
        errors: FloatArray,
        metrics: dict[str, float],
        scores: tuple[CandidateScore, ...],
    ) -> EngineResult:
        with task.stage("intervals"):
            forecast = self._with_bands(task, choice, pool)
            means = self._means(task, forecast)
            ahead = self._totals(task, forecast, means, errors)
        with task.stage("explanation"):
            parts = explain(task.series, task.expected(), forecast.yhat, choice.weights)
        with task.stage("anomalies"):
            anomalies = self._anomalies(task, choice)
        return EngineResult(
            as_of=task.series.end,
            forecast=forecast,
            means=means,
            totals=ahead,
            parts=parts,
            anomalies=anomalies,
            scores=scores,
            chosen=choice.chosen,
            reason=choice.reason,
            weights={name: round(weight, SIGNIFICANT_DIGITS) for name, weight in choice.weights.items()},
            metrics=metrics,
            confidence_score=confidence(metrics, len(task.series)),
            closed_weekdays=closed_weekdays(task.series),
            level=choice.level,
            notes=tuple(task.notes),
            members={member.name: member.state for member in choice.members},
            seconds=task.seconds,
            residuals=Residuals(pool.residuals, pool.weekdays, pool.tested_horizon, pool.shrinkage),
            errors=errors,
            blend=dict(choice.weights),
        )

    def _prepare(self, series: DailySeries, calendar: Calendar) -> _Task:
        """Cap the window, choose the candidates, and note what a person should know about the input."""
        settings, notes = self._settings, list[Note]()
        capped = series.tail(settings.max_train_window_days)
        if np.abs(capped.y).max() > LARGEST_DAY:
            notes.append(note("huge_days", limit=f"{LARGEST_DAY:.0e}"))
        y = np.where(np.abs(capped.y) < SMALLEST_DAY, 0.0, np.clip(capped.y, -LARGEST_DAY, LARGEST_DAY))
        capped = DailySeries(capped.start, y)
        if len(capped) < SHORT_HISTORY_DAYS:
            notes.append(note("short_history", n=len(capped)))
        country = self._country(calendar, notes)
        seen = replace(calendar, country=country, closed_weekdays=frozenset())
        closures, one_offs = unannounced_closures(capped), _one_offs(capped, seen)
        untold = closures | one_offs
        silent = tuple(KnownDay(day.item(), "closure") for day in capped.dates[untold])
        announced = calendar.closures(capped.start, len(capped))
        quiet_days = _run_at_end(closures & ~announced)
        quiet_days = quiet_days if quiet_days >= CLOSURE_DAYS else 0  # whoever announces a closure announces its end
        if quiet_days:
            notes.append(note("quiet_days", n=quiet_days))
        for name in settings.model_candidates:
            if name not in {candidate.name for candidate in self._registry}:
                notes.append(note("no_such_candidate", name=name))
        chosen = [candidate for candidate in self._registry if candidate.name in settings.model_candidates]
        wrapped = tuple(in_log_space(c) if settings.log_transform else c for c in chosen)
        seen = replace(seen, known_days=(*calendar.known_days, *silent))
        notes += self._promotions(capped, seen)
        shift = find_level_shift(capped, seen)
        if shift.days:
            notes.append(note("level_shift", n=shift.days, change=f"{shift.factor - 1:+.0%}"))
        everyone = (*wrapped, *self._others)
        return _Task(capped, seen, bool((series.y >= 0).all()), everyone, one_offs, quiet_days, notes)

    def _country(self, calendar: Calendar, notes: list[Note]) -> str:
        wanted = calendar.country or self._settings.holidays_country
        try:
            return validate_country(wanted)
        except UnknownCountry as error:
            notes.append(note("no_such_country", country=wanted, hint=error.next_step))
            return ""

    def _promotions(self, series: DailySeries, calendar: Calendar) -> Iterator[Note]:
        """What past promotions sold, and how many days are announced."""
        measured = measure_promotions(series, calendar)
        ahead = int(calendar.promotions(_day_after(series), self._settings.horizon_days).sum())
        if measured.days:
            yield note("promotions", n=measured.days, change=f"{measured.factor - 1:+.0%}", ahead=ahead)
        elif ahead:
            yield note("promotions_unmeasured", n=ahead)

    def _fit(self, task: _Task, validation: CrossValidation) -> tuple[_Choice, CrossValidation]:
        """Choose and fit on all days. What fails now is taken out of the comparison, and the choice is made again."""
        by_name = {candidate.name: candidate for candidate in task.candidates}
        fitted: dict[str, Member] = {}
        while True:
            selection = select(validation, self._settings.cv_primary_metric, best_only=self._settings.select_best)
            if selection is None:
                return self._fall_back(task, validation), validation
            failures: dict[str, str] = {}
            for name in selection.weights.keys() - fitted.keys():
                try:
                    with self._lookout.computing(name):
                        fitted[name] = fit_member(by_name[name], task.series, task.calendar, self._settings)
                except (CandidateFailed, CandidateUnavailable) as error:
                    failures[name] = error.message
            if not failures:
                members = tuple(fitted[name] for name in selection.weights)
                return _Choice.selected(members, selection), validation
            validation = validation.without(failures)

    def _fall_back(self, task: _Task, validation: CrossValidation) -> _Choice:
        rungs = [candidate for candidate in self._registry if not self._lookout.objection(candidate.name)]
        member, reason = fallback(rungs, task.series, task.calendar, self._settings)
        if any(run.status == "failed" or self._lookout.objection(run.name) for run in validation.runs):
            reason = note("nothing_usable", method=member.name)
        return _Choice((member,), {member.name: 1.0}, member.name, reason, "fallback")

    def _with_bands(self, task: _Task, choice: _Choice, pool: ResidualPool) -> Forecast:
        horizon, start = self._settings.horizon_days, _day_after(task.series)
        yhat = task.adjust(choice.forecast(), task.series)
        quiet = np.arange(horizon) < task.quiet_days
        bands: dict[float, tuple[FloatArray, FloatArray]] = {}
        for level in sorted({*LEVELS, self._settings.interval_level}):
            lower, upper = pool.bounds(yhat, weekdays_from(start, horizon), level)
            lower, upper = (task.adjust(bound, task.series) for bound in (lower, upper))
            lower, upper = (
                np.where(quiet, np.minimum(lower, 0.0), lower),
                np.where(quiet, np.maximum(upper, 0.0), upper),
            )
            bands[level] = (_rounded(lower), _rounded(upper))
        return Forecast(start, _rounded(np.where(quiet, 0.0, yhat)), bands)

    def _pool(self, task: _Task, choice: _Choice, validation: CrossValidation) -> ResidualPool:
        """Residuals of the blend on past folds, days known to be closed left out; naive differences without folds."""
        if choice.out_of_fold is None:
            return naive_pool(task.series)
        days, residuals = _residuals(task, validation, choice.out_of_fold, choice.forecast())
        is_open = ~task.closing(task.series).closed(task.series.start, len(task.series))
        odd, share = _odd_days(task, is_open)
        told = is_open[days]
        told[told] = no_more_often(odd[days][told], share)
        if not told.any():
            return naive_pool(task.series)
        weekdays, tested = task.series.weekdays[days], validation.folds[0].horizon
        shrinkage = 1.0 - REFIT_GAIN * _learned_share(choice)
        return ResidualPool.of((residuals / growth(tested, tested))[told], weekdays[told], tested, shrinkage)

    def _errors(self, task: _Task, choice: _Choice, validation: CrossValidation) -> FloatArray:
        """Errors of the blend fold by fold, zero on days known to be closed; naive differences without folds."""
        if choice.out_of_fold is None:
            return naive_errors(task.series)
        closed = task.closing(task.series).closed(task.series.start, len(task.series))
        days, residuals = _residuals(task, validation, choice.out_of_fold, choice.forecast())
        return past_errors(residuals, closed[days], _learned_share(choice))

    def _totals(self, task: _Task, forecast: Forecast, means: FloatArray, errors: FloatArray) -> tuple[Total, ...]:
        is_open = ~task.closing(task.series).closed(forecast.start, forecast.yhat.size)
        floor = 0.0 if task.non_negative else -np.inf
        return totals(forecast.yhat, means, is_open, errors, forecast.bands, floor)

    def _means(self, task: _Task, forecast: Forecast) -> FloatArray:
        """What each day sells on average, shape (horizon,), with a note where that is not the forecast of the day."""
        series, calendar = find_level_shift(task.series, task.calendar).taken_from(task.series), task.expected()
        rare = RareSales.of(series.y, ~calendar.closed(series.start, len(series)))
        means = rare.means(forecast.yhat, ~calendar.closed(forecast.start, forecast.yhat.size))
        days, usual = float(means[: SPANS[-1]].sum()), float(forecast.yhat[: SPANS[-1]].sum())
        if abs(days - usual) > SAID_FROM * abs(days):
            task.notes.append(note("rare_sales", idle=f"{rare.idle:.0%}"))
        return means

    def _anomalies(self, task: _Task, choice: _Choice) -> tuple[Anomaly, ...]:
        series = task.series
        calendar = task.closing(series)
        found = find_anomalies(
            series,
            _blended_fit(choice),
            calendar.closed(series.start, len(series)) & ~task.one_offs,
            calendar.holidays(series.start, len(series)),
            self._settings,
        )
        return tuple(
            replace(day, y=_round(day.y), expected=_round(day.expected), score=_round(day.score)) for day in found
        )

    def _scores(self, task: _Task, validation: CrossValidation, choice: _Choice) -> tuple[CandidateScore, ...]:
        rows = []
        for run in validation.runs:
            if run.status == "failed":
                task.notes.append(note("candidate_failed", method=run.name))
            elif self._lookout.objection(run.name):
                task.notes.append(note("candidate_hung", method=run.name))
            metrics = _rounded_dict(validation.metrics(run.forecasts)) if run.status == "scored" else {}
            weight = round(choice.weights.get(run.name, 0.0), SIGNIFICANT_DIGITS)
            through = task.series.end.isoformat() if metrics else ""
            rows.append(CandidateScore(run.name, run.status, run.reason, metrics, weight, run.seconds, through))
        return tuple(rows)


def confidence(metrics: dict[str, float], n_days: int) -> float:
    """How far the forecast can be trusted, in 0..1, whatever the scale of sales.

    ``evidence * sqrt(skill * fit)`` with skill = 1 / (1 + MASE) and fit = 1 / (1 + WAPE) of the out-of-fold forecast,
    and evidence = n_days / (n_days + 56). Without folds skill and fit are 0.5 each. A perfect forecast has MASE and
    WAPE zero also where their denominators are (nothing was sold, or every week was the same).
    """
    evidence = n_days / (n_days + 56.0)
    if not metrics:
        return round(0.5 * evidence, 4)
    undefined = 0.0 if metrics.get("mae", 0.0) == 0 else 1.0
    skill = 1.0 / (1.0 + metrics.get("mase", undefined))
    fit = 1.0 / (1.0 + metrics.get("wape", undefined))
    return round(evidence * float(np.sqrt(skill * fit)), 4)


def _around_closures(task: _Task, validation: CrossValidation | None) -> CrossValidation | None:
    """The comparison without the days of closures; None where half of a fold or more was closed."""
    closed = task.calendar.closures(task.series.start, len(task.series))
    if validation is None or not closed.any():
        return validation
    spans = (closed[fold.cutoff : fold.cutoff + fold.horizon] for fold in validation.folds)
    return None if any(2 * int(span.sum()) >= span.size for span in spans) else replace(validation, closed=closed)


def _residuals(
    task: _Task, validation: CrossValidation, out_of_fold: FloatArray, ahead: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Days of the folds (as indices) and actual minus forecast as at the level and in the season ahead.

    Both have shape (n_folds, horizon).

    Folds that a change of level fell upon say nothing about forecasts that know of it; they are left out, unless there
    are no others.
    """
    series = task.series
    calendar, shift = task.closing(series), find_level_shift(series, task.calendar)
    days = np.array([np.arange(fold.cutoff, fold.cutoff + fold.horizon) for fold in validation.folds])
    converted = shift.factors(len(series))[days]
    past = _mean_size(out_of_fold * converted, ~calendar.closed(series.start, len(series))[days])
    is_open = ~calendar.closed(_day_after(series), ahead.size)
    level = _mean_size(task.adjust(ahead, series)[None, :], is_open[None, :])
    residuals = (validation.actual - out_of_fold) * converted * at_level_of(float(level[0]), past)[:, None]
    residuals *= _season_width(task, validation)
    told = [not shift.is_missed(fold.cutoff, fold.horizon, len(series)) for fold in validation.folds]
    return (days[told], residuals[told]) if any(told) else (days, residuals)


def _odd_days(task: _Task, is_open: BoolArray) -> tuple[BoolArray, float]:
    """`unexplained_zeros`, shape (n_days,), and their share of the open days, in 0..1.

    Zeros up to the last day are left out: they may be the beginning of something.
    """
    series = task.series
    odd = unexplained_zeros(series, task.calendar) & is_open
    odd[len(series) - _run_at_end(series.y == 0) :] = False
    return odd, float(odd.sum() / max(int(is_open.sum()), 1))


def _season_width(task: _Task, validation: CrossValidation) -> float:
    """`season_width` of the folds, measured on the sales that candidates see."""
    cutoffs = tuple(fold.cutoff for fold in validation.folds)

    def measured() -> float:
        usual = measure_promotions(task.series, task.calendar).taken_from(task.series, task.calendar)
        usual = find_level_shift(usual, task.calendar).taken_from(usual)
        return season_width(usual, task.calendar, cutoffs, validation.folds[0].horizon)

    return task.series.once(("season width", task.calendar, cutoffs), measured)


def _mean_size(sales: FloatArray, is_open: BoolArray) -> FloatArray:
    """Mean absolute sales of the open days of each row, both shape (n, n_days): shape (n,), 0 where none is open."""
    return np.asarray(np.where(is_open, np.abs(sales), 0.0).sum(axis=1) / np.maximum(is_open.sum(axis=1), 1))


def _one_offs(series: DailySeries, calendar: Calendar) -> BoolArray:
    """`one_off_days` that nothing in the calendar explains, shape (n_days,)."""
    names, values = calendar.regressors(series.start, len(series))
    explained = values[:, [names.index(name) for name in EXPLAINING]].any(axis=1)
    return one_off_days(series) & ~explained


def _run_at_end(flags: BoolArray) -> int:
    """Length of the run of true values at the end."""
    return int(np.argmin(np.append(flags[::-1], False)))


def _of_so_many(reason: Note, n: int) -> Note:
    """The reason with the number of methods that were compared, where it names one."""
    return note(reason.code, **{**reason.values, **({"n": n} if "n" in reason.values else {})})


def _learned_share(choice: _Choice) -> float:
    """Weight of the members that estimate parameters: their state holds more than a name and a day."""
    return sum(choice.weights[member.name] for member in choice.members if len(member.state) > len(_BARE_STATE))


def _blended_fit(choice: _Choice) -> FloatArray:
    """Fitted values of the members blended by weight, shape (n_days,); nan where no member has one."""
    fitted = np.array([member.fitted for member in choice.members])
    weights = np.array([choice.weights[member.name] for member in choice.members])[:, None]
    known = np.isfinite(fitted)
    total = (weights * known).sum(axis=0)
    summed = (weights * np.where(known, to_roots(fitted), 0.0)).sum(axis=0)
    return from_roots(np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0))


def _day_after(series: DailySeries) -> date:
    return series.end + timedelta(days=1)


def _round(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") + 0.0  # + 0.0: no negative zero


def _rounded(values: FloatArray) -> FloatArray:
    return np.array([_round(value) for value in values.tolist()])


def _rounded_dict(values: dict[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}
