"""tenantcast itself: the engine that worker and `tenantcast backtest` run, and the same with one part taken out."""

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import app
from app.config.ml_settings import FULL, MLSettings
from app.services.ml.calendar import Calendar
from app.services.ml.cpu_time import warm_up
from app.services.ml.global_backtest import train_for_origins
from app.services.ml.level_shift import NO_SHIFT
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.results import EngineResult
from app.services.ml.series import SEASON
from app.services.ml.totals import Total
from app.services.ml.weekly_path import WeeklyPath
from benchmarks.methods import Alone, Known, Method, Prediction, Together

LIBRARIES = ("numpy", "scipy", "scikit-learn", "statsmodels", "prophet", "xgboost-cpu", "holidays")
ABLATION_SHARE = 0.3  # of the series: a dozen variants of the most expensive preset
Patches = Mapping[str, Any]  # "module.NAME" below `app.services.ml` to what stands in for it

# Parts that no setting takes out: name and title of the row, and what stands in for which constant or function.
PATCHES: Mapping[tuple[str, str], Patches] = {
    ("open", "without the rule of closed weekdays"): {"ml_engine.closed_weekdays": lambda *_: ()},
    ("no_priors", "without priors on the candidates"): {"selection.PRIORS": {}},
    ("no_racing", "without stopping who cannot win"): {"backtest.RACE_RATIO": float("inf")},
    ("plain", "weights 1 / error instead of sharp ones"): {"selection.SHARPNESS": 1.0},
    ("mean", "members averaged as they are instead of as roots"): {
        "blending.to_roots": lambda sales: sales,
        "blending.from_roots": lambda roots: roots,
    },
    ("no_shift", "without taking out changes of level"): {
        "candidates.common.find_level_shift": lambda *_: NO_SHIFT,
        "ml_engine.find_level_shift": lambda *_: NO_SHIFT,
    },
    ("even_bands", "bands as wide on the first day as on the last"): {"intervals.RISE": 0.0},
    ("any_season", "bands as wide whatever the season did in earlier years"): {
        "ml_engine.season_width": lambda *_: 1.0
    },
    ("odd_days", "unexplained days without sales in the bands as often as they fell into the folds"): {
        "ml_engine.no_more_often": lambda rare, _: np.ones_like(rare)
    },
    ("no_dates", "without the same date of earlier years"): {
        "candidates.direct_rows.days_to_same_date": lambda _, n_days, __: np.full(n_days, 10**6)  # before any history
    },
}
TITLES = {"full": "tenantcast `full`", "fast": "tenantcast `fast`", "classic": "tenantcast `classic`"}

WEEKS = 4  # on one comparison, as ML_RESCORE_DAYS says
TOLD = {False: "", True: ", told the holidays"}


def rows() -> tuple[Method, ...]:
    """Every preset, `full` week by week and with the global model; each without and with the country of the series."""
    kinds: tuple[tuple[str, str, str, Callable[..., Method]], ...] = (
        *((preset, title, preset, tenantcast) for preset, title in TITLES.items()),
        ("full_weekly", TITLES["full"] + ", week by week", "full", week_by_week),
        ("full_global", TITLES["full"] + " with the global model", "full", with_global_model),
    )
    return tuple(
        make(
            f"tenantcast_{name}{'_holidays' if countries else ''}",
            title + told,
            {"model_candidates": [preset]},
            countries=countries,
        )
        for name, title, preset, make in kinds
        for countries, told in TOLD.items()
    )


def ablation() -> tuple[Method, ...]:
    """`full` with holidays on a share of the series, then the same without one part."""
    whole = ablated("ablation_full", "`full`, told the holidays", {})
    without = (
        ablated(
            f"ablation_no_{name}",
            f"without the candidate `{name}`",
            {"model_candidates": [other for other in FULL if other != name]},
        )
        for name in FULL
    )
    return (
        whole,
        *without,
        ablated("ablation_no_holidays", "without public holidays", {}, countries=False),
        ablated("ablation_best", "the single best instead of a blend", {"select_best": True}),
        ablated("ablation_one_fold", "one fold instead of three", {"cv_folds": 1}),
        *(ablated(f"ablation_{name}", title, {}, patches) for (name, title), patches in PATCHES.items()),
    )


def ablated(
    name: str, title: str, settings: Mapping[str, Any], patches: Patches | None = None, *, countries: bool = True
) -> Method:
    """`full` with other settings, or with module constants replaced while it runs."""
    return tenantcast(name, title, settings, patches, countries=countries, share=ABLATION_SHARE, group="ablation")


def tenantcast(
    name: str,
    title: str,
    settings: Mapping[str, Any],
    patches: Patches | None = None,
    *,
    countries: bool,
    share: float = 1.0,
    group: str = "tenantcast",
) -> Method:
    """A row of ours. Its results are stale when the engine's sources, its settings or what it rests on change."""
    return Method(
        name,
        title,
        _forecaster(settings, patches or {}),
        packages=LIBRARIES,
        countries=countries,
        share=share,
        recipe=f"engine {engine_digest()}",
        settings={
            **settings,
            **{target: "none" if callable(to) else repr(to) for target, to in (patches or {}).items()},
        },
        warm_up=warm_up,
        group=group,
    )


def week_by_week(name: str, title: str, settings: Mapping[str, Any], *, countries: bool) -> Method:
    """In operation: the last of four weekly forecasts on one comparison, and the mean CPU time of the four."""
    row = tenantcast(name, title, settings, countries=countries)
    return replace(row, alone=_weekly_forecaster(settings), made=WEEKS)


def with_global_model(name: str, title: str, settings: Mapping[str, Any], *, countries: bool) -> Method:
    """A row of ours with one more candidate, taught by all series; its CPU holds the teaching."""
    settings = {**settings, "global_model": True}
    return Method(
        name,
        title,
        together=_taught_forecaster(settings),
        packages=LIBRARIES,
        countries=countries,
        recipe=f"engine {engine_digest()}",
        settings=settings,
        warm_up=warm_up,
        group="tenantcast",
    )


@cache
def engine_digest() -> str:
    """Hash of the sources that make a forecast: equal for two commits that change something else."""
    root = Path(app.__file__).parent
    sha = hashlib.sha256()
    for path in sorted([*(root / "services" / "ml").rglob("*.py"), root / "config" / "ml_settings.py"]):
        sha.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()[:12]


@contextmanager
def patched(patches: Patches) -> Iterator[None]:
    """Put other values into modules of `app.services.ml` for a while. AttributeError for a name that is not there."""
    places = [target.rpartition(".")[::2] for target in patches]
    modules = [importlib.import_module(f"app.services.ml.{module}") for module, _ in places]
    before = [getattr(module, name) for module, (_, name) in zip(modules, places, strict=True)]
    try:
        for module, (_, name), value in zip(modules, places, patches.values(), strict=True):
            setattr(module, name, value)
        yield
    finally:
        for module, (_, name), value in zip(modules, places, before, strict=True):
            setattr(module, name, value)


def _forecaster(settings: Mapping[str, Any], patches: Patches) -> Alone:
    def forecast(known: Known, horizon: int) -> Prediction:
        engine = BusinessMLEngine(MLSettings(**{"horizon_days": horizon, **settings}))
        with patched(patches):
            return _prediction(engine.forecast(known.series, Calendar(known.country)))

    return forecast


def _weekly_forecaster(settings: Mapping[str, Any]) -> Alone:
    def forecast(known: Known, horizon: int) -> Prediction:
        path = WeeklyPath(MLSettings(**{"horizon_days": horizon, **settings}), Calendar(known.country))
        weeks = [len(known.series) - SEASON * back for back in reversed(range(WEEKS))]
        made = [path.forecast(known.series.head(n_days)) for n_days in weeks if n_days > 0]
        return _prediction(made[-1].result)

    return forecast


def _taught_forecaster(settings: Mapping[str, Any]) -> Together:
    """Nobody's days after the week of an origin teach the model for it."""

    def forecast(known: list[Known], horizon: int) -> dict[str, Prediction]:
        given = MLSettings(**{"horizon_days": horizon, **settings})
        tenants = [(one.series, Calendar(one.country)) for one in known]
        models = train_for_origins(tenants, (series.end for series, _ in tenants), given)
        found = {}
        for one, (series, calendar) in zip(known, tenants, strict=True):
            engine = BusinessMLEngine(given, others=models.candidates(series.end, given))
            found[one.unique_id] = _prediction(engine.forecast(series, calendar))
        return found

    return forecast


def _prediction(result: EngineResult) -> Prediction:
    (low80, high80), (low95, high95) = result.forecast.bands[0.8], result.forecast.bands[0.95]
    bounds = {0.025: low95, 0.1: low80, 0.9: high80, 0.975: high95}
    totals = {total.days: _bounds_of(total) for total in result.totals}
    return Prediction(result.forecast.yhat, bounds, totals)


def _bounds_of(total: Total) -> tuple[float, ...]:
    """The bounds of a total in the order of `methods.BOUNDS`."""
    (low80, high80), (low95, high95) = total.bands[0.8], total.bands[0.95]
    return low95, low80, high80, high95
