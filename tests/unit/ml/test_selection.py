"""Weights from fold errors, the floor, ties, and honest out-of-fold blends."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from app.services.ml.backtest import CandidateRun, CrossValidation, Fold
from app.services.ml.selection import PRIORS, Selection, best_weights, select
from app.services.ml.selection import blend_weights as weigh
from app.services.ml.series import DailySeries, FloatArray
from tests.factories import series_of, weekly_series

HORIZON = 4


def validation_with(
    offsets: Mapping[str, Any], n_folds: int = 3, history: DailySeries | None = None
) -> CrossValidation:
    """Candidates whose forecast is off by a constant per fold: ``offsets`` maps a name to one number per fold."""
    series = history or weekly_series(40, noise=0.2)
    folds = tuple(Fold(len(series) - HORIZON * left, HORIZON) for left in range(n_folds, 0, -1))
    actual = np.array([series.y[f.cutoff : f.cutoff + HORIZON] for f in folds])
    runs = tuple(
        CandidateRun(name, "scored", "", actual + np.array(errors, dtype=float)[:, None])
        for name, errors in offsets.items()
    )
    return CrossValidation(series, folds, actual, runs)


def blend_weights(errors: FloatArray, priors: FloatArray | None = None) -> FloatArray:
    return weigh(errors, np.ones(len(errors)) if priors is None else priors)


def chosen_from(validation: CrossValidation, metric: str, *, best_only: bool = False) -> Selection:
    found = select(validation, metric, best_only=best_only)
    assert found is not None
    return found


def test_weights_are_the_fifth_power_of_inverse_errors():
    weights = blend_weights(np.array([[1.2, 1.2], [1.0, 1.0]]))

    assert weights[0] / weights[1] == pytest.approx(1 / 1.2**5)
    assert weights.sum() == pytest.approx(1)


def test_a_prior_multiplies_the_weight_that_errors_give():
    weights = blend_weights(np.array([[1.0, 1.0], [1.1, 1.0]]), np.array([0.2, 1.0]))

    assert weights[0] / weights[1] == pytest.approx(0.2 * 1.05**5)


def test_a_simple_method_counts_less_than_another_of_the_same_error():
    offsets = {"weekday_mean": [1.1, 1.0, 1.2], "a": [-1.0, -1.2, -1.1]}

    weights = chosen_from(validation_with(offsets), "mae").weights

    assert weights["weekday_mean"] / weights["a"] == pytest.approx(PRIORS["weekday_mean"])


def test_candidates_more_than_half_as_bad_again_take_no_part():
    weights = blend_weights(np.array([[1.51], [1.0], [1.49]]))

    assert weights[0] == 0
    assert weights[2] > 0


def test_of_equal_candidates_only_the_simplest_counts():
    weights = blend_weights(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]))

    np.testing.assert_allclose(weights, [0.5, 0, 0.5])
    assert best_weights(np.array([[2.0], [1.0], [1.0]]), np.array([1.0, 0.1, 9.0])).tolist() == [0, 1, 0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_weights_do_not_depend_on_the_unit_of_the_errors(scale):
    errors = np.array([[1.6, 1.6], [1.0, 1.1], [1.1, 1.0]])

    np.testing.assert_allclose(blend_weights(errors * scale), [0, 0.5, 0.5])


def test_a_candidate_without_error_stands_alone():
    assert blend_weights(np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])).tolist() == [0, 1, 0]


def test_tiny_weights_are_dropped():
    many = np.array([[1.0]] + [[1.29 + i / 1000] for i in range(9)])

    weights = blend_weights(many)

    assert all(weight == 0 or weight >= 0.05 for weight in weights)
    assert weights.sum() == pytest.approx(1)


def test_errors_of_opposite_sign_make_a_blend_better_than_both():
    selection = chosen_from(validation_with({"snaive": [3, 3, 3], "a": [1, 1, 1], "b": [-1.0, -1.1, -1.0]}), "mae")

    assert selection.chosen == "blend"
    assert selection.level == "blend"
    assert set(selection.weights) == {"a", "b"}
    assert "blend" in str(selection.reason).lower()


def test_the_seasonal_naive_is_the_floor():
    # Each of the others is good where the weights cannot know it: their honest blend is worse than the floor.
    offsets = {"snaive": [1.1, 1.1, 1.1], "a": [0.1, 2.0, 1.0], "b": [2.0, 0.1, 1.2]}

    selection = chosen_from(validation_with(offsets), "mae", best_only=True)

    assert selection.chosen == "snaive"
    assert selection.weights == {"snaive": 1.0}
    assert "MAE 1.1 against" in str(selection.reason)


@pytest.mark.parametrize("best_only", [False, True])
def test_the_choice_is_never_worse_than_seasonal_naive_on_the_folds(best_only):
    rng = np.random.default_rng(3)
    for _ in range(200):
        offsets = {name: rng.normal(0, 1, 3) for name in ("naive", "snaive", "c", "d")}
        validation = validation_with(offsets)

        selection = chosen_from(validation, "mae", best_only=best_only)

        reached = validation.fold_metric(selection.out_of_fold, "mae").mean()
        assert reached <= np.abs(offsets["snaive"]).mean() + 1e-9


def test_select_best_takes_the_smallest_mean_error():
    selection = chosen_from(
        validation_with({"snaive": [3, 3, 3], "a": [1, 1, 1], "b": [0.9, 0.9, 0.9]}), "mae", best_only=True
    )

    assert (selection.chosen, selection.level, selection.weights) == ("b", "single", {"b": 1.0})


def test_the_metric_decides_which_is_best():
    steady, spiky = [1.0, 1.0, 1.0], [0.0, 0.0, 2.7]
    series = series_of([100.0] * 28 + [10.0] * 8 + [1000.0] * 4)  # the spiky one errs where sales are large

    by_mae = chosen_from(validation_with({"steady": steady, "spiky": spiky}, history=series), "mae", best_only=True)
    by_smape = chosen_from(
        validation_with({"steady": [1.0, 1.0, 1.0], "large": [1.5, 0.0, 2.0]}, history=series), "smape", best_only=True
    )

    assert by_mae.weights == {"spiky": 1.0}
    assert by_smape.weights == {"large": 1.0}


def test_residuals_come_from_weights_that_never_saw_their_fold():
    validation = validation_with({"a": [1.0, 5.0, 1.0], "b": [2.0, 1.0, 2.0]})

    selection = chosen_from(validation, "mae", best_only=True)

    # Fold 2 is blended by folds 1 and 3, where a is better, although b is better on fold 2 itself.
    np.testing.assert_allclose(selection.out_of_fold[1] - validation.actual[1], 5.0)
    # Fold 1 is blended by folds 2 and 3: a erred 3 on average, b 1.5.
    np.testing.assert_allclose(selection.out_of_fold[0] - validation.actual[0], 2.0)


def test_with_one_fold_its_own_weights_are_used():
    validation = validation_with({"a": [1.0], "b": [2.0]}, n_folds=1)

    selection = chosen_from(validation, "mae")

    np.testing.assert_allclose(selection.out_of_fold - validation.actual, 1.0)


def test_an_undefined_metric_falls_back_to_the_mean_absolute_error():
    repeating = weekly_series(40)  # MASE has no scale

    selection = chosen_from(
        validation_with({"a": [2.0] * 3, "b": [1.0] * 3}, history=repeating), "mase", best_only=True
    )

    assert selection.weights == {"b": 1.0}
    assert "MAE" in str(selection.reason)


def test_nothing_scored_gives_no_selection():
    validation = validation_with({"a": [1, 1, 1]})
    failed = CrossValidation(
        validation.series, validation.folds, validation.actual, (CandidateRun("a", "failed", "why"),)
    )

    assert select(failed, "mae") is None
