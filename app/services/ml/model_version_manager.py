"""Model versions of one tenant: seal one for publishing, load the verified active one, list, activate, roll back."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from app.db.store import Row, TenantStore
from app.errors import ArtifactRefused, UnknownModel
from app.services.ml.artifact import ArtifactKeys, Opened, open_model, seal_model
from app.services.ml.candidates.base import State

MODEL_TYPE = "sales_forecast"

_log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class SavedModel:
    """One model version: what the database keeps of it, and its state.

    ``state`` is plain (see `artifact`): ``members`` maps candidate names to their states, ``weights`` sum to 1.
    ``other_versions`` names libraries that have another version now than when the model was saved.
    """

    model_type: str
    model_version: str
    model_data: str | None  # signed base64; None when it was too large to keep
    state: State
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    training_metrics: dict[str, Any] = field(default_factory=dict)
    accuracy: float | None = None  # 1 - WAPE of the out-of-fold forecast, 0..1; None without folds
    stage: str = "production"
    last_trained: str | None = None
    other_versions: dict[str, tuple[str, str]] = field(default_factory=dict)

    def as_row(self) -> Row:
        """The `model` part of what `ml_publish_item` writes."""
        return {
            "model_type": self.model_type,
            "model_version": self.model_version,
            "model_data": self.model_data,
            "hyperparameters": self.hyperparameters,
            "training_metrics": self.training_metrics,
            "accuracy": self.accuracy,
        }


class ModelVersionManager:
    """The versions of one tenant's models. Whoever loads gets a verified model or none."""

    def __init__(self, store: TenantStore, keys: ArtifactKeys) -> None:
        self._store = store
        self._keys = keys

    def save_model(
        self,
        state: State,
        *,
        model_version: str,
        run_id: UUID,
        fence: int,
        hyperparameters: dict[str, Any],
        training_metrics: dict[str, Any],
        accuracy: float | None,
        model_type: str = MODEL_TYPE,
    ) -> SavedModel:
        """Seal a version; the publish transaction writes its `as_row` and makes it the production one.

        A state that cannot be stored is left out and logged: a lost model costs one refit, a lost forecast a customer.
        """
        sealed: str | None = None
        try:
            sealed = seal_model(
                state,
                self._keys,
                tenant_id=self._store.tenant_id,
                model_type=model_type,
                model_version=model_version,
                run_id=str(run_id),
                fence=fence,
            )
        except ArtifactRefused as refused:
            _log.warning("model_not_stored", tenant=str(self._store.tenant_id), reason=refused.message)
        return SavedModel(
            model_type, model_version, sealed, state, hyperparameters, training_metrics, accuracy
        )  # fmt: skip

    def load_active_model(self, model_type: str = MODEL_TYPE) -> SavedModel | None:
        """The production version; None when there is none or when it does not verify (logged)."""
        return self._load(self._store.read_model(model_type))

    def load_model(self, model_version: str, model_type: str = MODEL_TYPE) -> SavedModel | None:
        """One version; None when there is none or when it does not verify (logged)."""
        return self._load(self._store.read_model(model_type, model_version))

    def list_models(self, model_type: str = MODEL_TYPE) -> list[Row]:
        """All versions without their artefacts, newest first."""
        return [row for row in self._store.list_models() if row["model_type"] == model_type]

    def activate(self, model_version: str, model_type: str = MODEL_TYPE) -> str | None:
        """Make a stored version the production one; returns the version that was. Raises UnknownModel."""
        answer = self._store.activate_model(model_type, model_version)
        if answer["outcome"] != "active":
            raise UnknownModel(
                f"Tenant {self._store.tenant_id} has no model version {model_version!r}.",
                next_step="List them with `tenantcast models list TENANT`.",
                tenant_id=str(self._store.tenant_id),
            )
        previous = answer.get("previous")
        return None if previous is None else str(previous)

    def roll_back(self, model_type: str = MODEL_TYPE) -> str:
        """Activate the version before the production one; returns it. Raises UnknownModel when there is none."""
        rows = self.list_models(model_type)
        active = next((n for n, row in enumerate(rows) if row["stage"] == "production"), -1)
        if active < 0 or active + 1 >= len(rows):
            raise UnknownModel(
                f"Tenant {self._store.tenant_id} has no earlier model version to go back to.",
                next_step="List them with `tenantcast models list TENANT`.",
                tenant_id=str(self._store.tenant_id),
            )
        version = str(rows[active + 1]["model_version"])
        self.activate(version, model_type)
        return version

    def _load(self, row: Row | None) -> SavedModel | None:
        opened = self._open(row) if row and row.get("model_data") else None
        if row is None or opened is None:
            return None
        return SavedModel(
            model_type=row["model_type"],
            model_version=row["model_version"],
            model_data=row["model_data"],
            state=opened.state,
            hyperparameters=row.get("hyperparameters") or {},
            training_metrics=row.get("training_metrics") or {},
            accuracy=row.get("accuracy"),
            stage=row["stage"],
            last_trained=row.get("last_trained"),
            other_versions=opened.other_versions,
        )

    def _open(self, row: Row) -> Opened | None:
        try:
            return open_model(
                row["model_data"],
                self._keys,
                tenant_id=self._store.tenant_id,
                model_type=row["model_type"],
                model_version=row["model_version"],
            )
        except ArtifactRefused as refused:
            _log.warning("model_refused", tenant=str(self._store.tenant_id), reason=refused.message)
            return None
