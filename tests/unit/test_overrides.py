import os
import random
import string
from typing import Any

import pytest

from app.config.ml_settings import PRESETS, MLSettings
from app.config.overrides import MAX_BYTES, Refusal, apply_overrides, run_cost

BASE = MLSettings.model_construct()
FUZZ = int(os.environ.get("TENANTCAST_FUZZ", "2000"))


def _changed(settings: MLSettings) -> dict[str, Any]:
    return {name: value for name, value in settings if getattr(BASE, name) != value}


def _refused(raw: object) -> list[Refusal]:
    settings, refused = apply_overrides(BASE, raw)
    assert settings == BASE
    return refused


def test_no_overrides_change_nothing():
    assert apply_overrides(BASE, None) == (BASE, [])
    assert apply_overrides(BASE, {}) == (BASE, [])


def test_field_names_and_variable_names_are_both_understood():
    settings, refused = apply_overrides(BASE, {"horizon_days": 14, "ML_CV_FOLDS": 2, "ML_SARIMAX_ORDER": [0, 1, 1]})

    assert _changed(settings) == {"horizon_days": 14, "cv_folds": 2, "sarimax_order": (0, 1, 1)}
    assert refused == []


def test_a_bad_field_is_refused_and_the_good_ones_apply():
    settings, refused = apply_overrides(BASE, {"horizon_days": "28", "log_transform": True})

    assert _changed(settings) == {"log_transform": True}
    assert [(r.field, r.value) for r in refused] == [("horizon_days", "28")]
    assert "integer" in refused[0].reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"horizon_days": 366}, "less than or equal to 365"),
        ({"horizon_days": 0}, "greater than or equal to 1"),
        ({"horizon_days": True}, "integer"),
        ({"horizon_days": 7.5}, "integer"),
        ({"horizon_days": None}, "integer"),
        ({"cv_folds": 21}, "less than or equal to 20"),
        ({"max_train_window_days": 13}, "greater than or equal to 14"),
        ({"max_train_window_days": 3651}, "less than or equal to 3650"),
        ({"select_best": 1}, "boolean"),
        ({"stl_zthresh": float("nan")}, "not a JSON value"),
        ({"stl_zthresh": float("inf")}, "not a JSON value"),
        ({"cv_primary_metric": "vibes"}, "'mae'"),
        ({"sarimax_order": [9, 9, 9]}, "less than or equal to 3"),
        ({"sarimax_order": [1, 1]}, "required"),
        ({"sarimax_seasonal": [1, 1, 1, 31]}, "state space of 65 dimensions"),
        ({"model_candidates": ["naive", "oracle"]}, "no such candidate: oracle"),
        ({"model_candidates": []}, "at least one"),
        ({"tenant_ids": "*"}, "only the operator"),
        ({"ML_RETRAIN_CRON": "* * * * *"}, "only the operator"),
        ({"no_such": 1}, "no such setting"),
        ({"model_config": {}}, "no such setting"),
        ({"holidays_country": "\ud800"}, "JSON"),
        ({"x": "y" * MAX_BYTES}, "larger than"),
        ({"a": [[[[1]]]]}, "nested deeper"),
        ({"horizon_days": 10**5000}, "integer of more than 64 bits"),
        ([{"horizon_days": 7}], "must be a JSON object"),
        ("horizon_days=7", "must be a JSON object"),
    ],
)
def test_a_hostile_override_is_refused_with_the_reason(raw, reason):
    refused = _refused(raw)

    assert len(refused) == 1
    assert reason in refused[0].reason


def test_depth_ten_thousand_is_refused_without_recursion():
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]

    assert "nested" in _refused({"a": deep})[0].reason


def test_an_object_that_holds_itself_is_refused():
    loop: dict[str, Any] = {}
    loop["horizon_days"] = loop

    assert "nested" in _refused(loop)[0].reason


def test_a_value_given_under_both_names_counts_once():
    settings, refused = apply_overrides(BASE, {"horizon_days": 7, "ML_HORIZON_DAYS": 9})

    assert settings.horizon_days == 9  # names are judged in sorted order, capitals first
    assert [(r.field, r.reason) for r in refused] == [("horizon_days", "given twice")]


def test_values_that_are_too_costly_together_are_refused_together():
    settings, refused = apply_overrides(BASE, {"horizon_days": 365, "cv_folds": 20, "log_transform": True})

    assert _changed(settings) == {"log_transform": True}
    assert [r.field for r in refused] == ["cv_folds", "horizon_days"]
    assert "16.5 times" in refused[0].reason  # 20 * (200 + 365) against 3 * (200 + 28)


def test_a_year_ahead_with_two_folds_is_affordable():
    settings, refused = apply_overrides(BASE, {"horizon_days": 365, "cv_folds": 2})

    assert (settings.horizon_days, settings.cv_folds, refused) == (365, 2, [])


def test_a_registered_candidate_of_the_product_can_be_chosen():
    settings, refused = apply_overrides(BASE, {"model_candidates": ["mine"]}, known_candidates=("naive", "mine"))

    assert (settings.model_candidates, refused) == (("mine",), [])


def test_a_refusal_is_printable_text_of_bounded_length():
    refused = _refused({"no\x00such\n" + "é" * 200: "\x1b[31m" * 50})

    shown = refused[0].as_dict()
    assert all(text.isascii() and text.isprintable() and len(text) <= 60 for text in shown.values())


@pytest.mark.fuzz
def test_hostile_objects_never_raise_and_never_cost_more_than_twice_the_default():
    seed = int(os.environ.get("TENANTCAST_SEED", "20261121"))
    rng = random.Random(seed)
    applied = 0

    for case in range(FUZZ):
        raw = _hostile_object(rng)
        settings, refused = apply_overrides(BASE, raw)

        context = f"seed {seed}, case {case}"
        assert run_cost(settings) <= 2 * run_cost(BASE), context
        assert all(len(r.value) <= 60 and r.reason for r in refused), context
        MLSettings.model_validate(settings.model_dump())  # whatever applied is within the bounds
        assert settings.tenant_ids == BASE.tenant_ids, context
        applied += settings != BASE

    assert applied > FUZZ * 0.02  # the generator also makes good values, else this proves little


_ATOMS: list[Any] = [
    None, True, False, 0, -1, 1, 7, 28, 10**9, 10**400, -(2**63), 0.5, 1e308, float("nan"), float("inf"), "", "28",
    "NaN", "\x00", "\ud800", "💥" * 30, "naive", "'; drop table ml_run; --", "x" * 20_000, b"bytes", {1, 2}, object(),
    ["naive", "prophet"], [1, 1, 1], [9, 9, 9], [1, 1, 1, 7], [0, 0, 0, 0], "additive", "multiplicative", "mape",
    "isolation_forest", "DE-BY", (1, 2), complex(1, 2), {"$ne": 1}, [[]], {"a": {"b": {"c": {"d": {}}}}},
]  # fmt: skip


def _hostile_object(rng: random.Random) -> Any:
    if rng.random() < 0.05:
        return rng.choice(_ATOMS)
    names = list(MLSettings.model_fields)
    return {_hostile_name(rng, names): _hostile_value(rng) for _ in range(rng.randint(0, 8))}


def _hostile_name(rng: random.Random, names: list[str]) -> Any:
    name = rng.choice(names)
    odd = [name.upper(), "".join(rng.choices(string.printable, k=rng.randint(0, 30))), 7, None, "__class__", "\x00"]
    return rng.choice([name, name, name, f"ML_{name.upper()}", f"ML_{name.upper()}", rng.choice(odd)])


def _hostile_value(rng: random.Random, depth: int = 0) -> Any:
    if depth < 8 and rng.random() < 0.1:
        return [_hostile_value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    if depth < 8 and rng.random() < 0.05:
        return {str(rng.random()): _hostile_value(rng, depth + 1)}
    if rng.random() < 0.5:
        return rng.randint(-5, 4000)
    return rng.choice(_ATOMS)


@pytest.mark.parametrize("given", ["classic", ["classic"]])
def test_a_tenant_may_name_a_preset(given):
    settings, refused = apply_overrides(BASE, {"model_candidates": given})

    assert (settings.model_candidates, refused) == (PRESETS["classic"], [])
