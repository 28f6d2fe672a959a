"""How long things are kept, and how much one clean-up may delete: the operator's, from the environment."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from app.config.settings import EnvironmentSettings


class MaintenanceSettings(EnvironmentSettings):
    """Days are counted back from the database's clock; the database itself refuses anything under seven."""

    model_config = SettingsConfigDict(env_prefix="ML_")

    keep_notifications_days: int = Field(30, ge=30, le=3650)
    keep_predictions_days: int = Field(90, ge=90, le=3650)  # the record of what was forecast when stays for ever
    keep_model_days: int = Field(90, ge=7, le=3650)
    keep_model_versions: int = Field(5, ge=1, le=1000)  # the newest of each tenant stay whatever their age
    keep_snapshots_days: int = Field(30, ge=7, le=3650)
    keep_quarantine_days: int = Field(90, ge=7, le=3650)
    keep_runs_days: int = Field(90, ge=7, le=3650)
    max_delete_share: float = Field(0.2, gt=0, le=1, allow_inf_nan=False)  # of a table's rows, in one clean-up
    force_clean_up: bool = False  # delete although it is more than that: for one run after a long pause
