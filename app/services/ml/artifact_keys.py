"""The keys that sign model artefacts: from `ML_ARTIFACT_KEYS`, else one key made once under TENANTCAST_HOME."""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from app.config.settings import Settings
from app.errors import ArtifactRefused, ConfigError

KEY_BYTES = 32
KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@dataclass(frozen=True)
class ArtifactKeys:
    """Named keys of 32 bytes or more: the first signs, all verify."""

    pairs: tuple[tuple[str, bytes], ...] = field(repr=False)

    @property
    def signing_id(self) -> str:
        return self.pairs[0][0]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(key_id for key_id, _ in self.pairs)

    def key(self, key_id: str) -> bytes:
        """Raise ArtifactRefused for an id that is not ours."""
        for known, key in self.pairs:
            if known == key_id:
                return key
        raise ArtifactRefused("A stored model was signed with a key that is not in use here.")


def key_path(settings: Settings) -> Path:
    """Where the generated key lies when `ML_ARTIFACT_KEYS` is not set."""
    return settings.tenantcast_home / "artifact.key"


def load_keys(settings: Settings) -> ArtifactKeys:
    """The operator's keys, else the generated one, which is made when it is first needed.

    Workers on several machines need `ML_ARTIFACT_KEYS`: a model signed with another machine's key is refused.

    Raises
    ------
    ConfigError : no "id:base64" list with keys of 32 bytes or more; or the file cannot be written or read
    """
    if settings.ml_artifact_keys is not None:
        return parse_keys(settings.ml_artifact_keys.get_secret_value(), source="ML_ARTIFACT_KEYS")
    path = key_path(settings)
    try:
        if not path.exists():
            _create_once(path)
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The signing key {path} cannot be made or read ({type(error).__name__}).",
            next_step="Make TENANTCAST_HOME a directory of yours, or set ML_ARTIFACT_KEYS.",
        ) from None
    return parse_keys(text, source=str(path))


def parse_keys(text: str, *, source: str) -> ArtifactKeys:
    """Keys from "id:base64,id:base64". Errors name the source and the position, never a key."""
    pairs: list[tuple[str, bytes]] = []
    for position, part in enumerate((p.strip() for p in text.split(",")), start=1):
        key_id, _, encoded = part.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not KEY_ID.fullmatch(key_id) or len(key) < KEY_BYTES:
            raise ConfigError(
                f"{source}: key {position} is not `id:base64` with {KEY_BYTES} bytes or more.",
                next_step="Make one with: python -c 'import base64, secrets; "
                'print("k1:" + base64.b64encode(secrets.token_bytes(32)).decode())\'',
            )
        pairs.append((key_id, key))
    if len({key_id for key_id, _ in pairs}) != len(pairs):
        raise ConfigError(f"{source}: two keys have one id.", next_step="Give each key an id of its own.")
    return ArtifactKeys(tuple(pairs))


def hkdf_sha256(key: bytes, *, info: bytes, salt: bytes = b"", length: int = 32) -> bytes:
    """HKDF with SHA-256: a key of ``length`` bytes for the purpose that ``info`` names.

    References
    ----------
    Krawczyk & Eronen (2010), RFC 5869, sections 2.2 and 2.3.
    """
    pseudo_random = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    block, output = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(pseudo_random, block + info + bytes([counter]), hashlib.sha256).digest()
        output += block
    return output[:length]


def _create_once(path: Path) -> None:
    """A new key file, 0600, complete from the moment it has its name; whoever comes second keeps the first one."""
    key = secrets.token_bytes(KEY_BYTES)
    key_id = "local_" + hashlib.sha256(key).hexdigest()[:8]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key_id}:{base64.b64encode(key).decode('ascii')}")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            os.link(draft, path)
    finally:
        draft.unlink()
