"""Universal Binary JSON: what XGBoost writes reads as its own JSON text does, and damaged bytes are refused."""

import json

import numpy as np
import pytest
import xgboost

from app.services.ml.candidates import ubjson


def _plain(value: object) -> object:
    """With lists of floats of 32 bits for arrays, as JSON text is read."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _numbers_of_32_bits(value: object) -> object:
    if isinstance(value, dict):
        return {name: _numbers_of_32_bits(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_numbers_of_32_bits(part) for part in value]
    return float(np.float32(value)) if isinstance(value, float) else value


def _model() -> xgboost.Booster:
    rows = np.random.default_rng(3).normal(size=(80, 4)).astype(np.float32)
    return xgboost.train({"max_depth": 3, "nthread": 1}, xgboost.DMatrix(rows, label=rows[:, 0], nthread=1), 5)


def test_a_model_of_xgboost_reads_as_from_its_json_text():
    model = _model()

    found = _plain(ubjson.decode(bytes(model.save_raw("ubj"))))

    assert _numbers_of_32_bits(found) == _numbers_of_32_bits(json.loads(bytes(model.save_raw("json"))))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"Z", None),
        (b"T", True),
        (b"F", False),
        (b"i\xff", -1),
        (b"U\xff", 255),
        (b"I\x01\x00", 256),
        (b"l\xff\xff\xff\xff", -1),
        (b"L\x00\x00\x00\x01\x00\x00\x00\x00", 2**32),
        (b"d\x3f\x80\x00\x00", 1.0),
        (b"D\x3f\xf0\x00\x00\x00\x00\x00\x00", 1.0),
        (b"Si\x05ma\xc3\xb1a", "maña"),
        (b"[]", []),
        (b"[i\x01T]", [1, True]),
        (b"[#i\x02i\x01Z", [1, None]),
        (b"[$I#i\x02\x00\x01\xff\xff", [1, -1]),
        (b"{i\x01a[]i\x01b{}}", {"a": [], "b": {}}),
    ],
)
def test_every_kind_of_value_is_read(data, value):
    assert _plain(ubjson.decode(data)) == value


@pytest.mark.parametrize("n_bytes", [0, 1, 12, 300, -40, -1])
def test_a_part_of_a_model_is_refused(n_bytes):
    with pytest.raises(ValueError, match=r"Universal Binary JSON|buffer"):
        ubjson.decode(bytes(_model().save_raw("ubj"))[:n_bytes])


@pytest.mark.parametrize("data", [b"?", b"Si\xffab", b"Sd\x00\x00\x00\x00", b"[$i#i\x05\x01", b"[$S#i\x01i\x00"])
def test_what_is_no_such_json_is_refused(data):
    with pytest.raises(ValueError, match=r"Universal Binary JSON|whole number|buffer"):
        ubjson.decode(data)
