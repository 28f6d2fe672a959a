import base64
import dataclasses
import math
import zlib
from datetime import date
from typing import Any

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.errors import InvalidSeries
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.explanation import Parts
from app.services.ml.hashing import (
    canonical_json,
    curtailed_document,
    input_document,
    input_hash,
    output_hash,
    pack_snapshot,
    restore_snapshot,
    rounded,
)
from app.services.ml.results import Anomaly, EngineResult, Forecast, Residuals
from app.services.ml.series import DailySeries
from app.services.ml.totals import Total

SERIES = DailySeries(date(2026, 11, 1), np.array([10.0, 0.1 + 0.2, -3.5]))
CALENDAR = Calendar("ES", (KnownDay(date(2026, 11, 9), "closure", "Almudena"),), frozenset({6}))
TENANT: dict[str, Any] = {
    "time_zone": "Europe/Madrid",
    "cutoff_hour": 0,
    "country": "ES",
    "language": "es",
    "currency": "EUR",
}


def _document(
    series: DailySeries = SERIES,
    calendar: Calendar = CALENDAR,
    settings: MLSettings | None = None,
    *,
    tenant: dict[str, Any] = TENANT,
    stale: bool = False,
    code_version: str = "0.1.0",
) -> dict[str, Any]:
    return input_document(
        series,
        calendar,
        settings or MLSettings(),
        tenant=tenant,
        stale=stale,
        code_version=code_version,
    )


def _result(**changes: Any) -> EngineResult:
    yhat = np.array([1.0, 2.0])
    values: dict[str, Any] = {
        "as_of": date(2026, 11, 3),
        "forecast": Forecast(date(2026, 11, 4), yhat, {0.8: (yhat - 1, yhat + 1)}),
        "means": yhat,
        "totals": (Total(7, 3.0, {0.8: (1.0, 5.0)}),),
        "parts": Parts(yhat, yhat * 0, yhat * 0, yhat * 0, yhat * 0),
        "anomalies": (Anomaly(date(2026, 11, 2), 9.0, 1.0, 6.1, is_anomaly=True),),
        "scores": (),
        "chosen": "blend",
        "reason": "",
        "weights": {"naive": 0.25, "snaive": 0.75},
        "metrics": {},
        "confidence_score": 0.5,
        "closed_weekdays": (),
        "level": "blend",
        "notes": (),
        "members": {"naive": {"last": 1.0, "w": np.array([math.nan, 0.1])}, "xgboost": {"booster": b"\x00\x01"}},
        "seconds": {"fit": 0.1},
        "residuals": Residuals(np.array([1.0]), np.array([0]), 1, 1.0),
        "errors": np.array([[1.0]]),
        "blend": {"naive": 0.25, "snaive": 0.75},
    }
    return EngineResult(**(values | changes))


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": 1, "a": [0.1, "é"]}) == '{"a":[0.1,"é"],"b":1}'.encode()


def test_canonical_json_refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": math.nan})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.23456789, 1.23457),
        (1234567.0, 1234570.0),
        (0.000123456789, 0.000123457),
        (-0.0, 0.0),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (True, True),
        ((1, 2), [1, 2]),
        (np.array([[1, 2]]), {"dtype": "int64", "shape": [1, 2], "values": [1, 2]}),
    ],
)
def test_numbers_are_rounded_to_six_significant_digits(value, expected):
    assert repr(rounded(value)) == repr(expected)  # repr tells 0.0 from -0.0 and 7 from 7.0


def test_what_is_not_plain_has_no_hash():
    with pytest.raises(TypeError, match="no plain state"):
        rounded({"x": object()})


def test_equal_inputs_have_one_hash():
    again = DailySeries(SERIES.start, SERIES.y.copy())

    assert input_hash(_document()) == input_hash(_document(series=again))


@pytest.mark.parametrize(
    "change",
    [
        {"series": DailySeries(date(2026, 11, 2), SERIES.y)},
        {"series": DailySeries(SERIES.start, SERIES.y + np.array([0, 1e-9, 0]))},
        {"calendar": dataclasses.replace(CALENDAR, known_days=())},
        {"calendar": dataclasses.replace(CALENDAR, country="DE")},
        {"calendar": dataclasses.replace(CALENDAR, closed_weekdays=frozenset())},
        {"settings": MLSettings(horizon_days=7)},
        {"settings": MLSettings(interval_level=0.9)},
        {"tenant": {**TENANT, "currency": "USD"}},
        {"stale": True},
        {"code_version": "0.1.1"},
    ],
)
def test_whatever_decides_a_forecast_changes_the_input_hash(change):
    assert input_hash(_document(**change)) != input_hash(_document())


def test_the_order_of_known_days_does_not_change_the_input_hash():
    other = KnownDay(date(2026, 11, 8), "promotion")
    days = (*CALENDAR.known_days, other)

    hashes = {input_hash(_document(calendar=dataclasses.replace(CALENDAR, known_days=d))) for d in (days, days[::-1])}

    assert len(hashes) == 1


def test_what_the_operator_schedules_does_not_change_the_input_hash():
    settings = MLSettings(retrain_cron="0 4 * * *", error_alert_mape=10, tenant_ids="a,b")

    assert input_hash(_document(settings=settings)) == input_hash(_document())


def test_times_and_words_do_not_change_the_output_hash():
    other = _result(seconds={"fit": 9.9}, reason="another", notes=("slow",), confidence_score=0.1)

    assert output_hash(other) == output_hash(_result())


def test_a_difference_past_the_sixth_digit_does_not_change_the_output_hash():
    nearly = Forecast(date(2026, 11, 4), np.array([1.0 + 1e-9, 2.0]), _result().forecast.bands)

    assert output_hash(_result(forecast=nearly)) == output_hash(_result())


@pytest.mark.parametrize(
    "change",
    [
        {"as_of": date(2026, 11, 2)},
        {"forecast": Forecast(date(2026, 11, 4), np.array([1.001, 2.0]), {})},
        {"totals": (Total(7, 3.0, {0.8: (1.0, 5.1)}),)},
        {"totals": (Total(7, 3.1, {0.8: (1.0, 5.0)}),)},
        {"parts": Parts(*np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))},
        {"anomalies": ()},
        {"chosen": "naive"},
        {"weights": {"naive": 1.0}},
        {"members": {"naive": {"last": 1.0}}},
        {"members": {**_result().members, "xgboost": {"booster": b"\x00\x02"}}},
    ],
)
def test_whatever_is_published_changes_the_output_hash(change):
    assert output_hash(_result(**change)) != output_hash(_result())


def test_a_snapshot_gives_the_input_back():
    settings = MLSettings(horizon_days=7, sarimax_order=(0, 1, 1), model_candidates=("naive",))
    document = _document(settings=settings, stale=True)

    restored = restore_snapshot(pack_snapshot(document))

    np.testing.assert_array_equal(restored.series.y, SERIES.y)
    assert restored.series.start == SERIES.start
    assert restored.calendar == CALENDAR
    assert restored.settings == settings
    assert (restored.as_of, restored.stale, restored.code_version) == (date(2026, 11, 3), True, "0.1.0")
    assert restored.tenant == TENANT
    again = _document(
        restored.series, restored.calendar, restored.settings, tenant=restored.tenant, stale=restored.stale
    )
    assert input_hash(again) == input_hash(document)


def test_a_fit_without_candidates_that_hung_has_a_hash_of_its_own_and_its_snapshot_names_them():
    document = _document()
    curtailed = curtailed_document(document, {"xgboost": 320, "prophet": 301})

    assert input_hash(curtailed) != input_hash(document)
    assert input_hash(curtailed) == input_hash(curtailed_document(document, ["prophet", "xgboost"]))
    assert restore_snapshot(pack_snapshot(curtailed)).left_out == ("prophet", "xgboost")
    assert restore_snapshot(pack_snapshot(document)).left_out == ()


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "not base64!",
        base64.b64encode(b"not zlib").decode(),
        base64.b64encode(zlib.compress(b"not json")).decode(),
        base64.b64encode(zlib.compress(b"[]")).decode(),
        base64.b64encode(zlib.compress(b'{"format": 2}')).decode(),
        base64.b64encode(zlib.compress(b'{"format": 1}')).decode(),
        base64.b64encode(zlib.compress(bytes(20_000_000))).decode(),
        base64.b64encode(base64.b64decode(pack_snapshot(_document()))[:-9]).decode(),
        pack_snapshot({**_document(), "sales": [None]}),
        pack_snapshot({**_document(), "settings": {"horizon_days": 0}}),
    ],
)
def test_a_damaged_snapshot_is_refused(payload):
    with pytest.raises(InvalidSeries, match="snapshot"):
        restore_snapshot(payload)
