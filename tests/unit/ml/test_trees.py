"""The trees as arrays: what XGBoost itself would predict, exact after storing, and refused when they are damaged."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost

from app.errors import CandidateFailed
from app.services.ml.candidates import ubjson
from app.services.ml.candidates.trees import PSEUDO_HUBER, SHARED, SQUARED, Trees
from app.services.ml.series import FloatArray

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(600, 6))
ROWS[RNG.random(ROWS.shape) < 0.1] = np.nan
TARGET = np.nan_to_num(ROWS[:, 0]) ** 2 + 3.0 * np.isnan(ROWS[:, 1]) + RNG.normal(scale=0.1, size=600)
LOSSGUIDE = {"grow_policy": "lossguide", "max_depth": 0, "max_leaves": 15, "objective": "reg:absoluteerror"}


def grown(n_trees: int = 30, rows: FloatArray = ROWS, target: FloatArray = TARGET, **parameters: Any) -> Trees:
    return Trees.fit(rows, target, parameters or {"max_depth": 4}, n_trees, "any")


def from_booster(booster: xgboost.Booster) -> Trees:
    model: Any = ubjson.decode(bytes(booster.save_raw("ubj")))
    learner = model["learner"]
    trees, base = learner["gradient_booster"]["model"]["trees"], learner["learner_model_param"]["base_score"]
    return Trees._of(trees, float(base.strip("[]")), np.arange(ROWS.shape[1]), ROWS.shape[1])


@pytest.mark.parametrize("parameters", [{"max_depth": 1}, {"max_depth": 4}, LOSSGUIDE, {"max_depth": 0}])
@pytest.mark.parametrize("n_trees", [1, 40])
def test_the_predictions_are_those_of_xgboost(parameters, n_trees):
    data = xgboost.DMatrix(ROWS.astype(np.float32), label=TARGET.astype(np.float32), nthread=1)
    theirs = xgboost.train(SHARED | parameters, data, n_trees).predict(xgboost.DMatrix(ROWS.astype(np.float32)))

    ours = grown(n_trees, **parameters).predict(ROWS)

    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_target_without_variation_gives_trees_of_one_leaf():
    assert grown(target=np.full(600, 2.5)).predict(ROWS[:3]) == pytest.approx([2.5, 2.5, 2.5])


@pytest.mark.parametrize("always", [0.0, 7.5])
def test_columns_that_never_change_change_nothing(always):
    parameters: dict[str, Any] = {"max_depth": 4, "colsample_bytree": 0.5}
    wide = np.insert(ROWS, [0, 3, 6], always, axis=1)

    narrow_trees, wide_trees = grown(rows=ROWS, **parameters), grown(rows=wide, **parameters)

    assert wide_trees.predict(wide).tobytes() == narrow_trees.predict(ROWS).tobytes()
    assert set(np.unique(wide_trees.feature)) <= {0, 1, 2, 3, 5, 6, 7}  # 0: leaves; columns 4 and 8 never change


def test_rows_that_are_all_alike_give_the_mean_of_their_targets():
    assert grown(rows=np.ones((600, 6))).predict(ROWS[:2]) == pytest.approx([TARGET.mean()] * 2, rel=0.05)


@pytest.mark.parametrize("n_rows", [0, 1, 255, 256, 257, 600])
def test_a_row_is_predicted_alike_alone_and_among_others(n_rows):
    trees = grown()

    together = trees.predict(ROWS[:n_rows])

    assert together.tobytes() == np.array([trees.predict(row[None])[0] for row in ROWS[:n_rows]]).tobytes()


@pytest.mark.parametrize("parameters", [{"max_depth": 4}, LOSSGUIDE, {"max_depth": 0}])
def test_stored_trees_predict_the_same_to_the_last_bit(parameters):
    trees = grown(**parameters)

    again = Trees.restore(trees.state())

    assert again.predict(ROWS).tobytes() == trees.predict(ROWS).tobytes()
    np.testing.assert_equal(again.state(), trees.state())


def _changed(name: str, at: int, value: float) -> Callable[[dict[str, Any]], object]:
    def change(state: dict[str, Any]) -> None:
        state[name] = state[name].astype(np.int64 if state[name].dtype.kind in "iu" else np.float64)
        state[name][at] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _changed("left", 0, -1),
        _changed("left", 0, 0),  # one way on, one way round
        _changed("right", 0, 10**6),
        _changed("right", -1, 1),
        _changed("feature", 0, 6),
        _changed("feature", 0, -1),
        _changed("roots", 0, -1),
        _changed("roots", -1, 10**6),
        _changed("value", 3, np.nan),
        lambda state: state.update(roots=np.zeros(0, dtype=np.int32)),
        lambda state: state.update(left=state["left"][:-1]),
        lambda state: state.update(left=state["left"].astype(float)),
        lambda state: state.update(value=np.zeros(0)),
        lambda state: state.update(value="trees"),
        lambda state: state.update(base=float("inf")),
        lambda state: state.update(n_features=0),
        lambda state: state.update(missing_left=np.zeros((2, 2))),
        lambda state: state.pop("right"),
    ],
)
def test_a_state_that_holds_no_trees_is_refused(change):
    state = dict(grown().state())
    change(state)

    with pytest.raises((KeyError, TypeError, ValueError)):
        Trees.restore(state)


@pytest.mark.parametrize(
    "loss",
    [
        {"objective": SQUARED},
        {"objective": PSEUDO_HUBER, "huber_slope": 0.3},
        {"objective": PSEUDO_HUBER, "huber_slope": 0.1, "min_child_weight": 5, "max_delta_step": 0.2},
    ],
)
@pytest.mark.parametrize("shape", [{"max_depth": 4}, {"max_depth": 0, "max_leaves": 9, "grow_policy": "lossguide"}])
def test_refreshed_leaves_are_those_that_xgboost_itself_refreshes(loss, shape):
    whole = SHARED | {"subsample": 1.0, "eta": 0.3} | loss | shape
    old, new = slice(0, 300), slice(200, 600)
    booster = xgboost.train(whole, xgboost.DMatrix(ROWS[old], label=TARGET[old], nthread=1), 25)
    ours = from_booster(booster).refreshed(ROWS[new], TARGET[new], whole)
    newer = xgboost.DMatrix(ROWS[new], label=TARGET[new], nthread=1)
    anew = whole | {"process_type": "update", "updater": "refresh", "refresh_leaf": 1}

    theirs = xgboost.train(anew, newer, 25, xgb_model=booster).predict(xgboost.DMatrix(ROWS))

    np.testing.assert_allclose(ours.predict(ROWS), theirs, rtol=1e-4, atol=1e-4)


def test_leaves_of_another_loss_are_not_estimated():
    with pytest.raises(ValueError, match="reg:absoluteerror"):
        grown().refreshed(ROWS, TARGET, LOSSGUIDE | {"eta": 0.1})


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_depth": 4, "eta": 0.1, "objective": "reg:squarederror"},
        {"eta": 0.1, "objective": PSEUDO_HUBER, "huber_slope": 0.3},
    ],
)
def test_refreshing_twice_gives_what_the_second_time_alone_gives(parameters):
    trees = grown(**parameters)

    twice = trees.refreshed(ROWS[:200], TARGET[:200], parameters).refreshed(ROWS[100:], TARGET[100:], parameters)

    np.testing.assert_equal(twice.state(), trees.refreshed(ROWS[100:], TARGET[100:], parameters).state())


def test_a_leaf_that_no_row_comes_to_adds_nothing():
    parameters = {"max_depth": 1, "eta": 1.0, "objective": "reg:squarederror"}
    trees = grown(1, np.arange(20.0)[:, None], np.repeat([0.0, 8.0], 10), **parameters)

    left_only = trees.refreshed(np.zeros((4, 1)), np.full(4, 6.0), parameters)

    base = trees.base
    np.testing.assert_allclose(left_only.predict(np.array([[0.0], [19.0]])), [base + 4 * (6 - base) / (4 + 2), base])


def test_rows_of_other_features_than_those_learned_from_are_refused():
    with pytest.raises(CandidateFailed, match="Trees of 6 features were given 5"):
        grown().predict(ROWS[:, :5])
