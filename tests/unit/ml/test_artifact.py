import base64
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import random
import stat
import zlib
from pathlib import Path
from typing import Any
from uuid import UUID

import joblib
import numpy as np
import pytest

from app.config.settings import Settings
from app.errors import ArtifactRefused, ConfigError
from app.services.ml import artifact
from app.services.ml.artifact import ArtifactKeys, key_path, load_keys, open_model, seal_model
from app.services.ml.artifact_keys import hkdf_sha256, parse_keys
from app.services.ml.artifact_reader import plain_copy, read_plain, write_plain

SHOP = UUID("11111111-1111-4111-8111-111111111111")
STRANGER = UUID("22222222-2222-4222-8222-222222222222")
KEYS = ArtifactKeys((("k2", b"b" * 32), ("k1", b"a" * 32)))
STATE: dict[str, Any] = {
    "name": "sarimax",
    "params": np.array([0.5, -0.25, 1e-9]),
    "matrix": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "empty": np.array([], dtype=np.float64),
    "booster": b"\x00\x01binary\xff",
    "nested": {"order": (1, 1, 1), "list": [1, 2.5, None, True, "café"]},
}


def _seal(
    state: dict[str, Any] = STATE, keys: ArtifactKeys = KEYS, tenant: UUID = SHOP, version: str = "20261120.7"
) -> str:
    return seal_model(
        state, keys, tenant_id=tenant, model_type="sales_forecast", model_version=version, run_id="r", fence=7
    )


def _open(
    text: str,
    keys: ArtifactKeys = KEYS,
    tenant: UUID = SHOP,
    version: str = "20261120.7",
    model_type: str = "sales_forecast",
) -> Any:
    return open_model(text, keys, tenant_id=tenant, model_type=model_type, model_version=version)


def _parts(text: str) -> tuple[dict, bytes]:
    blob = base64.b64decode(text)
    length = int.from_bytes(blob[4:8], "big")
    return json.loads(blob[8 : 8 + length]), blob[8 + length : -32]


def _assemble(header: dict, payload: bytes, tenant=SHOP, keys=KEYS, resigned=True) -> str:
    """A forged model; signed with the right key when ``resigned``, as only its holder could."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    signed = b"TCM1" + len(text).to_bytes(4, "big") + text + payload
    mac = artifact._mac(keys.pairs[0][1], tenant, signed) if resigned else bytes(32)
    return base64.b64encode(signed + mac).decode()


def _with_payload(plain: bytes) -> str:
    header, _ = _parts(_seal())
    payload = zlib.compress(plain)
    header |= {
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "payload_bytes": len(payload),
        "plain_bytes": len(plain),
    }
    return _assemble(header, payload)


def test_a_state_comes_back_as_it_was():
    opened = _open(_seal())

    assert opened.state.keys() == STATE.keys()
    np.testing.assert_array_equal(opened.state["params"], STATE["params"])
    np.testing.assert_array_equal(opened.state["matrix"], STATE["matrix"])
    assert opened.state["empty"].shape == (0,)
    assert opened.state["booster"] == STATE["booster"]
    assert opened.state["nested"] == STATE["nested"]
    assert opened.other_versions == {}


def test_the_header_says_whose_model_it_is_and_where_it_came_from():
    header, payload = _parts(_seal())

    assert header["tenant_id"] == str(SHOP)
    assert (header["model_type"], header["model_version"]) == ("sales_forecast", "20261120.7")
    assert (header["run_id"], header["fence"], header["key_id"]) == ("r", 7, "k2")
    assert header["payload_bytes"] == len(payload)
    assert header["plain_bytes"] == len(zlib.decompress(payload))
    assert {"python", "numpy", "joblib"} <= header["libraries"].keys()


def test_numpy_numbers_become_plain_numbers():
    state = plain_copy({"a": np.float64(1.5), "b": np.int32(3), "c": np.bool_(True)})

    assert [type(v) for v in state.values()] == [float, int, bool]


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), np.array(["text"]), {1: 2}, 1j, len])
def test_a_state_that_is_not_plain_is_refused_when_it_is_saved(value):
    with pytest.raises(ArtifactRefused, match="no plain parameter"):
        _seal({"x": value})


def test_a_state_that_holds_itself_is_refused():
    loop: dict = {}
    loop["self"] = loop

    with pytest.raises(ArtifactRefused, match="nested deeper"):
        _seal(loop)


def test_another_tenant_cannot_read_a_validly_signed_model():
    with pytest.raises(ArtifactRefused, match="signature"):
        _open(_seal(), tenant=STRANGER)


def test_a_model_is_bound_to_its_type_and_version():
    with pytest.raises(ArtifactRefused, match="model_version differ"):
        _open(_seal(), version="20261113.3")
    with pytest.raises(ArtifactRefused, match="model_type differ"):
        _open(_seal(), model_type="another")


def test_an_older_key_still_verifies_and_a_retired_one_does_not():
    text = _seal(keys=ArtifactKeys((("k1", b"a" * 32),)))

    assert _open(text).header["key_id"] == "k1"
    with pytest.raises(ArtifactRefused, match="key that is not in use"):
        _open(text, keys=ArtifactKeys((("k2", b"b" * 32),)))


def test_every_changed_header_field_is_refused():
    header, payload = _parts(_seal())

    for name, value in header.items():
        other = value + 1 if isinstance(value, int) else {**value, "numpy": "0"} if isinstance(value, dict) else "x"
        with pytest.raises(ArtifactRefused):
            _open(_assemble({**header, name: other}, payload, resigned=False))


def test_every_missing_header_field_is_refused_even_when_it_is_signed():
    header, payload = _parts(_seal())

    for name in header.keys() - {"run_id", "fence"}:  # these two say where it came from; nothing is read by them
        with pytest.raises(ArtifactRefused):
            _open(_assemble({k: v for k, v in header.items() if k != name}, payload))


def test_two_thousand_flipped_bits_are_refused(monkeypatch):
    reads: list[bytes] = []
    monkeypatch.setattr(artifact, "read_plain", reads.append)
    blob = base64.b64decode(_seal())
    rng = random.Random(20261121)

    for _ in range(2000):
        mutant = bytearray(blob)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            mutant[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
        if bytes(mutant) == blob:
            continue
        with pytest.raises(ArtifactRefused):
            _open(base64.b64encode(bytes(mutant)).decode())

    assert reads == []  # not one of them was unpickled


@pytest.mark.parametrize("cut", [0, 1, 4, 8, 40, 200, -33, -1])
def test_a_truncated_model_is_refused(cut):
    blob = base64.b64decode(_seal())

    with pytest.raises(ArtifactRefused):
        _open(base64.b64encode(blob[:cut]).decode())


@pytest.mark.parametrize("text", ["", "not base64!", "AAAA", "é", "VENNMQ==", "A" * 20_000_001])
def test_text_that_is_no_model_is_refused(text):
    with pytest.raises(ArtifactRefused):
        _open(text)


def test_a_second_spelling_of_the_same_bytes_is_refused():
    text = _seal({"x": "y" * 3})
    padded = text if text.endswith("=") else _seal({"x": "y" * 4})
    if not padded.endswith("="):
        padded = _seal({"x": "y" * 5})
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = len(padded.rstrip("=")) - 1
    twin = padded[:at] + alphabet[alphabet.index(padded[at]) ^ 1] + padded[at + 1 :]

    assert base64.b64decode(twin) == base64.b64decode(padded)
    with pytest.raises(ArtifactRefused):
        _open(twin)


class _Touch:
    """A pickle of it touches a file when it is loaded naively."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.args


def _hostile_payloads(canary: Path) -> dict[str, bytes]:
    command = f"touch {canary}"
    touch = _Touch(os.system, command)

    def joblib_bytes(value) -> bytes:
        buffer = io.BytesIO()
        joblib.dump(value, buffer)
        return buffer.getvalue()

    return {
        "os.system": pickle.dumps(touch),
        "eval": pickle.dumps(_Touch(eval, f"__import__('os').system({command!r})")),
        "exec": pickle.dumps(_Touch(exec, f"import os; os.system({command!r})")),
        "getattr": pickle.dumps(_Touch(getattr, str, "format")),
        "import": pickle.dumps(_Touch(__import__, "os")),
        "open": pickle.dumps(_Touch(open, str(canary), "w")),
        "path": pickle.dumps(_Touch(Path(canary).touch)),
        "in a dict": pickle.dumps({"x": touch}),
        "joblib": joblib_bytes({"x": touch}),
        "object array": joblib_bytes(np.array([touch], dtype=object)),
        "object array in a dict": joblib_bytes({"x": np.array([{"y": touch}], dtype=object)}),
        "structured array": joblib_bytes(np.array([(touch,)], dtype=[("f", object)])),
        "protocol 0": f"cos\nsystem\n(S'{command}'\ntR.".encode(),
        "inst": f"(S'{command}'\nios\nsystem\n.".encode(),
        "persistent id": b"Ptouch\n.",
        "extension": b"\x82\x01.",
        "ndarray called": pickle.dumps(_Touch(np.ndarray, (10**9,))),
        "wrapper of the old format": b"cjoblib.numpy_pickle_compat\nNDArrayWrapper\n)\x81}b.",
        "joblib.load": pickle.dumps(_Touch(joblib.load, str(canary))),
    }


@pytest.mark.parametrize("name", list(_hostile_payloads(Path("unused"))))
def test_a_hostile_pickle_is_never_executed_even_when_it_is_signed(name, tmp_path):
    canary = tmp_path / "canary"

    with pytest.raises(ArtifactRefused):
        _open(_with_payload(_hostile_payloads(canary)[name]))

    assert not canary.exists()


def test_the_hostile_pickles_do_fire_when_they_are_loaded_naively(tmp_path):
    canary = tmp_path / "canary"

    pickle.loads(_hostile_payloads(canary)["os.system"])

    assert canary.exists()  # else the test above proves nothing


def test_an_array_that_claims_more_than_the_model_holds_is_refused():
    plain = write_plain({"x": np.zeros(4)})
    claim = plain.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85", 1)
    assert claim != plain

    with pytest.raises(ArtifactRefused, match="larger than the model"):
        read_plain(claim)


def test_a_compressed_bomb_gives_no_more_than_the_signed_size():
    header, _ = _parts(_seal())
    bomb = zlib.compress(bytes(50_000_000), level=9)
    header |= {
        "payload_sha256": hashlib.sha256(bomb).hexdigest(),
        "payload_bytes": len(bomb),
        "plain_bytes": 1000,
    }

    with pytest.raises(ArtifactRefused, match="another size"):
        _open(_assemble(header, bomb))


def test_a_declared_size_over_the_cap_is_refused():
    header, payload = _parts(_seal())

    with pytest.raises(ArtifactRefused, match="impossible size"):
        _open(_assemble(header | {"plain_bytes": 10**12}, payload))


@pytest.mark.parametrize("tail", [b"more", pickle.dumps({})])
def test_bytes_after_the_state_are_refused(tail):
    with pytest.raises(ArtifactRefused):
        read_plain(write_plain(STATE) + tail)


def test_a_model_of_another_format_is_refused():
    header, payload = _parts(_seal())

    with pytest.raises(ArtifactRefused, match="format 2"):
        _open(_assemble(header | {"format": 2}, payload))


def test_a_model_written_by_another_major_numpy_is_refused():
    header, payload = _parts(_seal())
    libraries = header["libraries"] | {"numpy": "1.26.4"}

    with pytest.raises(ArtifactRefused, match=r"numpy 1\.26\.4"):
        _open(_assemble(header | {"libraries": libraries}, payload))


def test_a_model_of_another_statsmodels_is_readable_and_says_so():
    header, payload = _parts(_seal())
    libraries = header["libraries"] | {"statsmodels": "0.1.0"}

    opened = _open(_assemble(header | {"libraries": libraries}, payload))

    assert opened.other_versions["statsmodels"][0] == "0.1.0"


@pytest.mark.parametrize(
    ("key", "salt", "info", "length", "output"),
    [  # RFC 5869, appendix A, test cases 1 and 3
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_gives_the_numbers_of_the_rfc(key, salt, info, length, output):
    assert hkdf_sha256(key, salt=salt, info=info, length=length).hex() == output


def test_keys_come_from_the_setting_and_the_first_signs():
    first, second = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))

    keys = load_keys(Settings(ml_artifact_keys=f"new:{first}, old:{second}"))

    assert (keys.signing_id, keys.ids) == ("new", ("new", "old"))
    assert keys.key("old") == b"\x02" * 32


@pytest.mark.parametrize("text", ["", "k1", "k1:short", "k1:!!!!", ":AAAA", "k1:" + "A" * 40, "a b:" + "A" * 44])
def test_a_bad_key_is_refused_without_repeating_it(text):
    with pytest.raises(ConfigError) as caught:
        parse_keys(text, source="ML_ARTIFACT_KEYS")

    assert "key 1" in caught.value.message
    assert len(text) < 4 or text not in str(caught.value)


def test_two_keys_with_one_id_are_refused():
    key = base64.b64encode(bytes(32)).decode()

    with pytest.raises(ConfigError, match="two keys have one id"):
        parse_keys(f"k:{key},k:{key}", source="ML_ARTIFACT_KEYS")


def test_keys_do_not_show_in_a_repr():
    assert "bbbb" not in repr(KEYS)


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    settings = Settings(tenantcast_home=tmp_path / "new" / "home", ml_artifact_keys=None)

    first, second = load_keys(settings), load_keys(settings)

    assert first == second
    assert len(first.key(first.signing_id)) == 32
    assert stat.S_IMODE(key_path(settings).stat().st_mode) == 0o600
    assert [p.name for p in key_path(settings).parent.iterdir()] == ["artifact.key"]


def _load_in_child(home: Path) -> ArtifactKeys:
    return load_keys(Settings(tenantcast_home=home, ml_artifact_keys=None))


def test_processes_that_race_for_the_first_key_agree(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_load_in_child, [tmp_path / f"home{n // 4}" for n in range(24)], chunksize=1)

    assert all(len({k.pairs for k in found[n : n + 4]}) == 1 for n in range(0, 24, 4))


def test_a_home_that_cannot_hold_a_key_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match="signing key"):
        load_keys(Settings(tenantcast_home=tmp_path / "file", ml_artifact_keys=None))
