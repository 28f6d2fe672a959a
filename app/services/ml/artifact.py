"""A model's plain state to signed bytes and back: verify first, decompress and read after, with an allow-list.

::

    base64( magic | header length | header | payload | HMAC-SHA256 over all before )

The header is canonical JSON: who the model belongs to, where it comes from, sizes, digest, key id, library versions.
The payload is zlib-compressed joblib of plain state (numbers, strings, bytes, None, numpy arrays, lists and dicts of
these), so a newer library can read it. Each tenant's signing key is derived from the operator's key, and the header
names tenant, type and version: a validly signed model of another tenant does not verify. Whoever refuses to read a
model loses one refit, so everything doubtful is refused.
"""

import base64
import binascii
import hashlib
import hmac
import json
import platform
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import UUID

from app.errors import ArtifactRefused
from app.services.ml.artifact_keys import ArtifactKeys, hkdf_sha256, key_path, load_keys
from app.services.ml.artifact_reader import read_plain, write_plain
from app.services.ml.candidates.base import State

__all__ = ["ArtifactKeys", "Opened", "key_path", "load_keys", "open_model", "seal_model"]

MAGIC = b"TCM1"
FORMAT = 1
MAX_TEXT = 20_000_000  # characters of base64; the database refuses more as well
MAX_HEADER = 8_192  # bytes
MAX_UNCOMPRESSED = 64_000_000  # bytes
DIGEST = 32  # bytes of SHA-256
LIBRARIES = ("numpy", "joblib", "statsmodels", "prophet", "xgboost-cpu", "scikit-learn")
# The encoding of the payload is theirs: their next major version may read it otherwise.
ENCODERS = ("numpy", "joblib")


@dataclass(frozen=True)
class Opened:
    """A verified model: its state, its signed header, and the libraries whose version is another one now."""

    state: State
    header: dict[str, Any]
    other_versions: dict[str, tuple[str, str]]  # name -> (when it was saved, now)


def seal_model(
    state: State,
    keys: ArtifactKeys,
    *,
    tenant_id: UUID,
    model_type: str,
    model_version: str,
    run_id: str,
    fence: int,
) -> str:
    """Signed base64 text of ``state``.

    Raises
    ------
    ArtifactRefused : the state is not plain, or larger than `MAX_UNCOMPRESSED` or `MAX_TEXT`
    """
    plain = write_plain(state)
    if len(plain) > MAX_UNCOMPRESSED:
        raise ArtifactRefused(f"A model of {len(plain)} bytes is too large to store.", tenant_id=str(tenant_id))
    payload = zlib.compress(plain, level=6)
    header = {
        "format": FORMAT,
        "tenant_id": str(tenant_id),
        "model_type": model_type,
        "model_version": model_version,
        "run_id": run_id,
        "fence": fence,
        "key_id": keys.signing_id,
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "payload_bytes": len(payload),
        "plain_bytes": len(plain),
        "libraries": library_versions(),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    signed = MAGIC + len(text).to_bytes(4, "big") + text + payload
    sealed = base64.b64encode(signed + _mac(keys.key(keys.signing_id), tenant_id, signed)).decode("ascii")
    if len(sealed) > MAX_TEXT:
        raise ArtifactRefused(f"A model of {len(sealed)} characters is too large to store.", tenant_id=str(tenant_id))
    return sealed


def open_model(text: str, keys: ArtifactKeys, *, tenant_id: UUID, model_type: str, model_version: str) -> Opened:
    """The verified content of `seal_model`'s text, read only if it was made for this tenant, type and version.

    Raises
    ------
    ArtifactRefused : anything does not fit; nothing was unpickled unless the signature verified
    """
    try:
        signed, mac = _split(text)
        header, payload = _parse(signed)
        _verify(signed, mac, keys.key(str(header.get("key_id"))), tenant_id)
        _check_header(header, payload, tenant_id, model_type, model_version)
        state = read_plain(_decompress(payload, int(header["plain_bytes"])))
    except ArtifactRefused as refused:
        raise ArtifactRefused(
            f"{refused.message} Tenant {tenant_id}, {model_type} {model_version}.",
            next_step="Nothing is lost: the next run fits the model again.",
            tenant_id=str(tenant_id),
        ) from None
    return Opened(state, header, _other_versions(header["libraries"]))


@cache
def library_versions() -> dict[str, str]:
    """Versions of what a model was fitted and written with; libraries that are not installed are left out.

    Looked up once per process, which takes milliseconds; not to be changed by who is given it.
    """
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _split(text: str) -> tuple[bytes, bytes]:
    if len(text) > MAX_TEXT:
        raise ArtifactRefused("A stored model is larger than 20 MB.")
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ArtifactRefused("A stored model is not base64.") from None
    if base64.b64encode(blob).decode("ascii") != text:  # one spelling only: no unused bits to hide anything in
        raise ArtifactRefused("A stored model is not canonical base64.")
    return blob[:-DIGEST], blob[-DIGEST:]


def _parse(signed: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and payload; nothing of it is trusted yet except to choose the key."""
    start = len(MAGIC) + 4
    length = int.from_bytes(signed[len(MAGIC) : start], "big")
    if not signed.startswith(MAGIC) or not 0 < length <= min(MAX_HEADER, len(signed) - start):
        raise ArtifactRefused("A stored model has no readable header.")
    try:
        header = json.loads(signed[start : start + length])
    except (ValueError, RecursionError):
        raise ArtifactRefused("A stored model has no readable header.") from None
    if not isinstance(header, dict):
        raise ArtifactRefused("A stored model has no readable header.")
    return header, signed[start + length :]


def _verify(signed: bytes, mac: bytes, key: bytes, tenant_id: UUID) -> None:
    if not hmac.compare_digest(mac, _mac(key, tenant_id, signed)):
        raise ArtifactRefused("The signature of a stored model is wrong.")


def _check_header(header: dict[str, Any], payload: bytes, tenant_id: UUID, model_type: str, model_version: str) -> None:
    if header.get("format") != FORMAT:
        raise ArtifactRefused(f"A stored model has format {header.get('format')!r}; this is format {FORMAT}.")
    expected = {
        "tenant_id": str(tenant_id),
        "model_type": model_type,
        "model_version": model_version,
        "payload_bytes": len(payload),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
    }
    wrong = [name for name, value in expected.items() if header.get(name) != value]
    if wrong:
        raise ArtifactRefused(f"A stored model belongs elsewhere: {', '.join(wrong)} differ.")
    plain_bytes, libraries = header.get("plain_bytes"), header.get("libraries")
    if type(plain_bytes) is not int or not 0 < plain_bytes <= MAX_UNCOMPRESSED or not isinstance(libraries, dict):
        raise ArtifactRefused("A stored model declares an impossible size or no library versions.")
    for name in ENCODERS:
        then, now = str(libraries.get(name, "")), library_versions().get(name, "")
        if then.split(".", maxsplit=1)[0] != now.split(".")[0]:
            raise ArtifactRefused(f"A stored model was written with {name} {then or 'unknown'}; this is {now}.")


def _other_versions(libraries: dict[str, str]) -> dict[str, tuple[str, str]]:
    now = library_versions()
    names = sorted(libraries.keys() | now.keys())
    pairs = {name: (str(libraries.get(name, "")), now.get(name, "")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _decompress(payload: bytes, plain_bytes: int) -> bytes:
    """Exactly the signed number of bytes, never more, whatever the stream would give."""
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(payload, plain_bytes + 1)
    except zlib.error:
        raise ArtifactRefused("A stored model cannot be decompressed.") from None
    if len(plain) != plain_bytes or not reader.eof or reader.unused_data:
        raise ArtifactRefused("A stored model decompresses to another size than the signed one.")
    return plain


def _mac(key: bytes, tenant_id: UUID, signed: bytes) -> bytes:
    tenant_key = hkdf_sha256(key, info=b"tenantcast model artefact " + tenant_id.bytes)
    return hmac.new(tenant_key, signed, hashlib.sha256).digest()
