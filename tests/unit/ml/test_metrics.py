"""Every metric by hand, and against utilsforecast, which knows nothing of us."""

import importlib
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.errors import InvalidSeries
from app.services.ml import metrics as m
from app.services.ml.series import FloatArray

ACTUAL = np.array([10.0, 20.0, 0.0, 40.0])
FORECAST = np.array([12.0, 15.0, 5.0, 38.0])
HISTORY = np.array([1.0, 2, 3, 4, 5, 6, 7, 3, 2, 3, 4, 5, 6, 9])  # differs from the week before by 2, 0, 0, 0, 0, 0, 2


def test_metrics_match_a_calculation_by_hand():
    assert m.mae(ACTUAL, FORECAST) == pytest.approx((2 + 5 + 5 + 2) / 4)
    assert m.rmse(ACTUAL, FORECAST) == pytest.approx(np.sqrt((4 + 25 + 25 + 4) / 4))
    assert m.bias(ACTUAL, FORECAST) == pytest.approx((2 - 5 + 5 - 2) / 4)
    assert m.wape(ACTUAL, FORECAST) == pytest.approx(14 / 70)
    assert m.mape(ACTUAL, FORECAST) == pytest.approx((20 + 25 + 5) / 3)
    assert m.median_ape(ACTUAL, FORECAST) == pytest.approx(20)
    assert m.smape(ACTUAL, FORECAST) == pytest.approx(100 * (4 / 22 + 10 / 35 + 10 / 5 + 4 / 78) / 4)
    assert m.r2(ACTUAL, FORECAST) == pytest.approx(1 - 58 / 875)  # mean 17.5: 56.25 + 6.25 + 306.25 + 506.25
    assert m.mase(ACTUAL, FORECAST, HISTORY) == pytest.approx(3.5 / (4 / 7))
    assert m.rmsse(ACTUAL, FORECAST, HISTORY) == pytest.approx(np.sqrt(14.5) / np.sqrt(8 / 7))


def test_the_share_of_close_days_counts_the_bound_itself():
    actual, forecast = np.array([100.0, 100.0, 100.0, 100.0, 0.0]), np.array([105.0, 110.0, 85.0, 84.0, 3.0])

    assert m.within_5(actual, forecast) == 0.25
    assert m.within_10(actual, forecast) == 0.5
    assert m.within_15(actual, forecast) == 0.75


def test_pinball_costs_more_on_the_side_that_the_quantile_guards():
    assert m.pinball(np.array([10.0]), np.array([8.0]), 0.9) == pytest.approx(1.8)
    assert m.pinball(np.array([10.0]), np.array([12.0]), 0.9) == pytest.approx(0.2)


def test_coverage_counts_bounds_as_inside():
    assert (
        m.coverage(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.5, 0.0, 0.0]), np.array([1.0, 3.0, 3.0, 3.9]))
        == 0.5
    )


def test_scaled_quantile_loss_matches_a_calculation_by_hand():
    quantiles = {0.1: np.array([8.0]), 0.5: np.array([11.0]), 0.9: np.array([12.0])}

    loss = m.scaled_quantile_loss(np.array([10.0]), quantiles, HISTORY)

    assert loss == pytest.approx(2 * (0.1 * 2 + 0.5 * 1 + 0.1 * 2) / 3 / (4 / 7))


def _losses() -> ModuleType:
    """Their module; compiling it warns about an escape sequence of theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("utilsforecast.losses")


def _theirs(name: str, **options: Any) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    cutoff = pd.Timestamp("2024-03-01")
    rng = np.random.default_rng(5)
    history, actual = rng.gamma(3, 10, 60), rng.gamma(3, 10, 28)
    forecast = actual + rng.normal(0, 5, 28)
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range(cutoff, periods=28), "y": actual, "model": forecast,
         "low": forecast - 6, "high": forecast + 6}
    )  # fmt: skip
    if options.pop("train", False):
        days = pd.date_range(end=cutoff - pd.Timedelta(days=1), periods=60)
        options["train_df"] = pd.DataFrame({"unique_id": "a", "ds": days, "y": history})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about data frames
        result = getattr(_losses(), name)(frame, **({"models": ["model"]} | options))
    return float(result["model"].iloc[0]), actual, forecast, history


@pytest.mark.parametrize(
    ("name", "options", "ours"),
    [
        ("mae", {}, lambda a, f, _: m.mae(a, f)),
        ("rmse", {}, lambda a, f, h: m.rmse(a, f)),
        ("bias", {}, lambda a, f, h: m.bias(a, f)),
        ("mape", {}, lambda a, f, h: m.mape(a, f) / 100),
        ("smape", {}, lambda a, f, h: m.smape(a, f) / 200),  # theirs lies in 0..1
        ("nd", {}, lambda a, f, h: m.wape(a, f)),
        ("mase", {"seasonality": 7, "train": True}, m.mase),
        ("rmsse", {"seasonality": 7, "train": True}, m.rmsse),
        ("quantile_loss", {"q": 0.9, "models": {"model": "model"}}, lambda a, f, h: m.pinball(a, f, 0.9)),
    ],
)
def test_metrics_equal_those_of_an_independent_library(name, options, ours):
    expected, actual, forecast, history = _theirs(name, **options)

    assert ours(actual, forecast, history) == pytest.approx(expected, rel=1e-12)


def test_coverage_equals_that_of_an_independent_library():
    frame = pd.DataFrame(
        {"unique_id": "a", "y": ACTUAL, "model": FORECAST, "model-lo-80": FORECAST - 3, "model-hi-80": FORECAST + 3}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = _losses().coverage(frame, models=["model"], level=80)["model"].iloc[0]

    assert m.coverage(ACTUAL, FORECAST - 3, FORECAST + 3) == pytest.approx(theirs)


def test_undefined_metrics_are_nan_and_never_raise():
    zeros, flat = np.zeros(3), np.full(20, 5.0)

    assert np.isnan(m.wape(zeros, zeros))
    assert np.isnan(m.mape(zeros, zeros))
    assert np.isnan(m.median_ape(zeros, zeros))
    assert np.isnan(m.within_5(zeros, zeros))
    assert np.isnan(m.r2(flat, flat))
    assert np.isnan(m.mase(zeros, zeros, flat))
    assert np.isnan(m.rmsse(zeros, zeros, flat[:7]))
    assert m.smape(zeros, zeros) == 0.0
    assert np.isnan(m.mae(np.array([]), np.array([])))


def test_arrays_of_different_length_are_refused():
    with pytest.raises(InvalidSeries, match="differ in shape"):
        m.mae(np.zeros(3), np.zeros(4))


def test_every_metric_of_the_score_table_is_a_number_for_ordinary_sales():
    values = {name: metric(ACTUAL, FORECAST, HISTORY) for name, metric in m.METRICS.items()}

    assert all(np.isfinite(value) for value in values.values())
    assert values["wape"] == pytest.approx(0.2)
