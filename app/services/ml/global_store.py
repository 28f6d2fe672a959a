"""Where the global model lies and how a worker gets it: the newest version, or the words why there is none to use.

It is a model version like any other, of a scope that is no tenant, signed for that scope. A process reads a version
once and keeps it.
"""

from dataclasses import dataclass
from datetime import date

import structlog

from app.db.gateway import Gateway
from app.db.store import Row, TenantStore
from app.errors import ArtifactRefused
from app.services.ml.artifact import ArtifactKeys, open_model, seal_model
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.notes import Note, note
from app.tenancy import EVERYONE

MODEL_TYPE = "global_sales"
KEPT = 2  # versions in memory: the newest, and the one that a model of last week was blended with

_log = structlog.get_logger()
_read: dict[tuple[str, str], GlobalModel] = {}  # by version and key id; a version names its content


@dataclass(frozen=True)
class GlobalModelStore:
    """The versions of the global model. Whoever finds one has a verified one that fits its days."""

    gateway: Gateway
    keys: ArtifactKeys

    def find(self, as_of: date, max_age_days: int, version: str | None = None) -> GlobalModel | Note:
        """The newest version, or the one named, for a tenant whose sales end with ``as_of``; else why there is none.

        Raises what `Gateway.call` raises.
        """
        rows = [row for row in self._scope.list_models() if row["model_type"] == MODEL_TYPE]
        wanted = (row for row in rows if row["model_version"] == version or (version is None and _is_active(row)))
        row = next(wanted, None)
        if row is None:
            return note("no_global_model")
        model = self._load(str(row["model_version"]))
        if model is None:
            return note("global_model_refused")
        age = (as_of - model.trained_through).days
        if age < 0:
            return note("global_model_newer", day=model.trained_through.isoformat())
        if age > max_age_days:
            return note("global_model_old", n=age)
        return model

    def sealed(self, model: GlobalModel, *, run_id: str, fence: int) -> str:
        """Signed base64 text. Raises ArtifactRefused when it is too large to store."""
        return seal_model(
            model.to_state(),
            self.keys,
            tenant_id=EVERYONE,
            model_type=MODEL_TYPE,
            model_version=model.version,
            run_id=run_id,
            fence=fence,
        )

    @property
    def _scope(self) -> TenantStore:
        return TenantStore(self.gateway, EVERYONE)

    def _load(self, version: str) -> GlobalModel | None:
        """The verified version, from memory if it was read before; None when it is refused (logged)."""
        known = (version, self.keys.signing_id)
        if known not in _read:
            model = self._opened(version)
            if model is None:
                return None
            while len(_read) >= KEPT:
                _read.pop(next(iter(_read)))
            _read[known] = model
        return _read[known]

    def _opened(self, version: str) -> GlobalModel | None:
        row = self._scope.read_model(MODEL_TYPE, version) or {}
        try:
            return self._verified(row.get("model_data") or "", version)
        except ArtifactRefused as refused:
            _log.warning("global_model_refused", version=version, reason=refused.message)
            return None

    def _verified(self, text: str, version: str) -> GlobalModel:
        opened = open_model(text, self.keys, tenant_id=EVERYONE, model_type=MODEL_TYPE, model_version=version)
        model = GlobalModel.from_state(opened.state)
        if model.version != version:
            raise ArtifactRefused("The global model has another content than its version says.")
        return model


def forget_global_models() -> None:
    """What was read in this process is read again, and verified again."""
    _read.clear()


def _is_active(row: Row) -> bool:
    return bool(row["stage"] == "production")
