"""The global model: what teaches it, what it may know, and how a tenant's forecast uses it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateUnavailable, NoGlobalModel
from app.services.ml import global_model
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.global_levels import NAME, GlobalModel, global_levels
from app.services.ml.evaluate import evaluate
from app.services.ml.global_backtest import train_for_origins
from app.services.ml.global_model import LEAST_TENANTS, Gatherer, chosen_tenants
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.series import DailySeries
from app.tenancy import parse_tenant_id
from tests.factories import MONDAY, series_of, weekly_series

N_DAYS = 280
END = MONDAY + timedelta(days=N_DAYS - 1)
BEFORE_FOLDS = END - timedelta(days=84)
SETTINGS = MLSettings(model_candidates=("snaive", "weekday_mean"), global_model=True)


def shops(n: int = LEAST_TENANTS) -> list[DailySeries]:
    return [weekly_series(N_DAYS, noise=0.1, seed=seed) for seed in range(n)]


def trained(tenants: list[DailySeries], days: tuple[date, ...] = (BEFORE_FOLDS, END)) -> GlobalModel:
    gatherer = Gatherer(days, len(tenants))
    for series in tenants:
        gatherer.add(series, Calendar())
    return gatherer.train()


@pytest.fixture(scope="module", autouse=True)
def few_trees() -> Iterator[None]:
    """What is tested here does not depend on how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(global_model, "N_TREES", 8)
        yield


@pytest.fixture(scope="module")
def model(few_trees: None) -> GlobalModel:
    return trained(shops())


def test_equal_rows_give_the_same_version(model):
    assert trained(shops()).version == model.version


def test_amounts_do_not_matter_only_their_shape(model):
    larger = [series_of(series.y * 4, series.start) for series in shops()]  # roots of fours are exact

    assert trained(larger).version == model.version


def test_every_tenant_that_is_added_counts(model):
    assert trained(shops(LEAST_TENANTS + 1)).version != model.version


def test_days_after_the_day_of_a_fit_change_nothing_of_it(model):
    n_known = (BEFORE_FOLDS - MONDAY).days + 1
    changed = [series_of(np.r_[series.y[:n_known], series.y[n_known:] * 7], series.start) for series in shops()]
    longer = [series_of(np.r_[series.y, np.full(50, 1e6)], series.start) for series in shops()]

    assert trained(changed).fits[0].digest == model.fits[0].digest
    assert trained(changed).fits[1].digest != model.fits[1].digest
    assert trained(longer).version == model.version


def test_too_few_tenants_teach_nothing():
    with pytest.raises(NoGlobalModel, match="needs 5"):
        trained(shops(LEAST_TENANTS - 1))


def test_a_day_before_which_too_few_tenants_have_sales_has_no_fit():
    young = MONDAY + timedelta(days=20)

    assert [fit.trained_through for fit in trained(shops(), (young, END)).fits] == [END]


def test_at_most_two_thousand_tenants_are_read_and_always_the_same_ones():
    many = [parse_tenant_id(f"shop {n}") for n in range(2_500)]

    assert len(chosen_tenants(many)) == 2_000
    assert chosen_tenants(many) == chosen_tenants(many[::-1])
    assert chosen_tenants(many[:7]) == sorted(many[:7])


@pytest.mark.parametrize(
    ("day", "found"),
    [
        (END, END),
        (END + timedelta(days=400), END),
        (END - timedelta(days=1), BEFORE_FOLDS),
        (BEFORE_FOLDS, BEFORE_FOLDS),
    ],
)
def test_a_cut_off_takes_the_newest_fit_that_has_seen_nothing_later(model, day, found):
    fit = model.known_by(day)

    assert fit is not None
    assert fit.trained_through == found


def test_nothing_is_known_before_the_oldest_fit(model):
    assert model.known_by(BEFORE_FOLDS - timedelta(days=1)) is None


def test_the_candidate_is_left_out_where_the_model_is_newer_than_the_sales(model):
    early = weekly_series(60)

    with pytest.raises(CandidateUnavailable, match="days of other tenants after"):
        global_levels(model).from_settings(SETTINGS).fit(early, Calendar())


def test_folds_use_the_fit_before_them_and_the_forecast_the_newest(model):
    series = weekly_series(N_DAYS, noise=0.1, seed=99)
    candidate = global_levels(model).from_settings(SETTINGS)

    at_first_fold = candidate.fit(series.head(N_DAYS - 84), Calendar()).trained_through
    at_the_end = candidate.from_settings(SETTINGS).fit(series, Calendar()).trained_through

    assert (at_first_fold, at_the_end) == (BEFORE_FOLDS, END)


def test_a_model_of_other_features_is_left_out(model):
    other = replace(model, features=model.features[::-1])
    fitted = global_levels(other).from_settings(SETTINGS).fit(weekly_series(N_DAYS), Calendar())

    with pytest.raises(CandidateUnavailable, match="another version of tenantcast"):
        fitted.predict(28)


def test_its_state_names_the_model_and_holds_nothing_of_it(model):
    series = weekly_series(N_DAYS, noise=0.1, seed=99)
    fitted = global_levels(model).from_settings(SETTINGS).fit(series, Calendar())

    state = fitted.get_state()
    restored = global_levels(GlobalModel.from_state(model.to_state())).from_state(state, SETTINGS)

    assert state == {"name": NAME, "trained_through": END.isoformat(), "version": model.version}
    np.testing.assert_array_equal(restored.observe(series, Calendar()).predict(28), fitted.predict(28))


def test_refitted_a_week_later_it_still_names_the_day_of_the_model(model):
    series = weekly_series(N_DAYS + 7, noise=0.1, seed=99)
    kind = global_levels(model)
    state = kind.from_settings(SETTINGS).fit(series.head(N_DAYS), Calendar()).get_state()

    later = kind.from_settings(SETTINGS).refit(state, series, Calendar())

    assert later.get_state() == state
    restored = kind.from_state(later.get_state(), SETTINGS).observe(series, Calendar())
    np.testing.assert_array_equal(restored.predict(28), later.predict(28))


def test_a_state_of_another_version_is_refused(model):
    fitted = global_levels(model).from_settings(SETTINGS).fit(weekly_series(N_DAYS), Calendar())
    other = trained(shops(LEAST_TENANTS + 1))

    with pytest.raises(ArtifactRefused):
        global_levels(other).from_state(fitted.get_state(), SETTINGS)


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 0}, {"fits": []}, {"fits": None}, {"features": "x"}, {"fits": [{"trained_through": "2024-01-01"}]},
        {"fits": [{"trained_through": "2024-01-01", "trees": b"no trees"}]},
        {"fits": [{"trained_through": "2024-01-01", "trees": {}}]},
    ],
)  # fmt: skip
def test_a_damaged_model_is_refused(model, damage):
    with pytest.raises(ArtifactRefused):
        GlobalModel.from_state(model.to_state() | damage)


def test_fits_out_of_order_are_refused(model):
    state = model.to_state()

    with pytest.raises(ArtifactRefused):
        GlobalModel.from_state(state | {"fits": list(state["fits"])[::-1]})


def test_it_takes_part_beside_the_named_candidates_and_is_compared_like_them(model):
    series = weekly_series(N_DAYS, noise=0.1, seed=99)

    result = BusinessMLEngine(SETTINGS, others=[global_levels(model)]).forecast(series, Calendar())

    rows = {score.name: score.status for score in result.scores}
    assert rows == {"snaive": "scored", "weekday_mean": "scored", NAME: "scored"}
    assert result.weights.get(NAME, 0) > 0


def test_without_a_model_it_is_a_row_with_the_reason_and_changes_no_forecast():
    series = weekly_series(N_DAYS, noise=0.1, seed=99)

    without = BusinessMLEngine(SETTINGS).forecast(series, Calendar())
    absent = BusinessMLEngine(SETTINGS, others=[global_levels("It could not be read.")]).forecast(series, Calendar())

    row = absent.scores[-1]
    assert (row.name, row.status, row.reason) == (NAME, "left_out", "It could not be read.")
    np.testing.assert_array_equal(absent.forecast.yhat, without.forecast.yhat)


def test_a_backtest_trains_for_every_origin_on_what_was_known_then():
    tenants = [(series, Calendar()) for series in shops()]
    origins = [END - timedelta(days=back) for back in (28, 27, 56)]
    cut = (END - timedelta(days=28) - MONDAY).days + 1
    changed = [
        (series_of(np.r_[series.y[:cut], series.y[cut:] * 3], series.start), Calendar()) for series, _ in tenants
    ]

    found, again = (train_for_origins(each, origins, SETTINGS) for each in (tenants, changed))

    assert found.days == (END - timedelta(days=56), END - timedelta(days=28))
    models = [model for model in found.models if isinstance(model, GlobalModel)]
    assert [model.version for model in models] == [getattr(model, "version", "") for model in again.models]
    assert [[fit.trained_through for fit in model.fits] for model in models] == [
        [day - timedelta(days=84), day] for day in found.days
    ]


def test_a_backtest_says_how_many_models_it_trained():
    rows = [
        {"unique_id": f"s{n}", "ds": day, "y": value}
        for n, series in enumerate(shops())
        for day, value in zip(series.dates, series.y, strict=True)
    ]

    result = evaluate(pd.DataFrame(rows), 28, 1, SETTINGS)

    assert result["pooled"]["failed"] == 0
    assert result["global_model"]["models"] == 1
    assert result["global_model"]["cpu_seconds"] > 0
