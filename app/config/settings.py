"""Where things are and how to log: read once from the environment (and `.env`), frozen, passed in."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Database, keys and logs. Secrets are `SecretStr`: they show as asterisks wherever they are printed."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", frozen=True, extra="ignore", env_ignore_empty=True
    )

    database_url: SecretStr | None = None
    supabase_url: str | None = None
    supabase_service_role_key: SecretStr | None = None
    tenantcast_home: Path = Path(".tenantcast")  # the embedded database, the signing key and reports live here
    ml_artifact_keys: SecretStr | None = None  # "id:base64,id:base64": the first signs, all verify
    ml_lease_seconds: int = Field(90, ge=2, le=3600)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
