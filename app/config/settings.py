"""Where things are and how to log: read once from the environment (and `.env`), frozen, passed in."""

from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigError

SHOWN_LENGTH = 60  # characters of a refused value that a message repeats


class EnvironmentSettings(BaseSettings):
    """Settings from arguments, else the environment, else `.env`, else defaults; unknown names are ignored.

    Raises
    ------
    ConfigError : a value is refused; the message names the variable, the value (never a secret's) and what is allowed
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", frozen=True, extra="ignore", env_ignore_empty=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self._refusal(error, given=frozenset(values)) from None
        except UnicodeDecodeError:
            raise ConfigError(".env is not UTF-8 text.", next_step="Save it as UTF-8, or remove it.") from None

    @classmethod
    def _refusal(cls, error: ValidationError, given: frozenset[str]) -> ConfigError:
        found = error.errors(include_url=False, include_context=False)
        lines = [cls._explain(cast("dict[str, Any]", item), given) for item in found]
        names = sorted({cls._variable(str(item["loc"][0]), given) for item in found if item["loc"]})
        return ConfigError("\n".join(lines), next_step=f"Correct or unset {', '.join(names) or 'it'}.")

    @classmethod
    def _explain(cls, item: dict[str, Any], given: frozenset[str]) -> str:
        field = str(item["loc"][0]) if item["loc"] else ""
        secret = field in cls.model_fields and SecretStr in get_args(cls.model_fields[field].annotation)
        value = "a secret value" if secret else repr(item["input"])[:SHOWN_LENGTH]
        missing = item["type"] == "missing"  # a list that is too short
        reason = "too few numbers" if missing else str(item["msg"]).removeprefix("Value error, ")
        return f"{cls._variable(field, given)} cannot be {value}: {reason[:1].lower()}{reason[1:]}."

    @classmethod
    def _variable(cls, field: str, given: frozenset[str]) -> str:
        return field if field in given else f"{cls.model_config.get('env_prefix', '')}{field}".upper()


class Settings(EnvironmentSettings):
    """Database, broker, keys and logs. Secrets are `SecretStr`: they show as asterisks wherever they are printed."""

    database_url: SecretStr | None = None
    supabase_url: str | None = None
    supabase_service_role_key: SecretStr | None = None
    tenantcast_home: Path = Path(".tenantcast")  # the embedded database, the signing key and reports live here
    ml_artifact_keys: SecretStr | None = None  # "id:base64,id:base64": the first signs, all verify
    ml_lease_seconds: int = Field(90, ge=2, le=3600)
    ml_reconcile_seconds: int = Field(30, ge=1, le=3600)  # how often what is due is looked for, and rung for again
    ml_ring_window: int = Field(32, ge=1, le=10_000)  # items rung for and not taken up yet, at least, before more are
    ml_task_seconds: int = Field(600, ge=5, le=86_400)  # the hard limit of one task: its process is killed
    ml_child_memory_mib: int | None = Field(None, ge=512)  # address space of one worker process; None: no limit
    ml_retrain_spread_seconds: int = Field(3600, ge=0, le=86_400)  # the weekly run begins its tenants over this window
    ml_retrain_local_hour: int | None = Field(None, ge=0, le=23)  # of each tenant's own day; None: at the slot itself
    redis_url: SecretStr | None = None  # the broker, and the cache unless it has its own
    celery_broker_url: SecretStr | None = None  # None: REDIS_URL
    cache_redis_url: SecretStr | None = None  # None: REDIS_URL; an instance that may evict is best
    metrics_port: int = Field(0, ge=0, le=65535)  # Prometheus metrics of a worker, on the loopback; 0 is off
    notification_email_url: SecretStr | None = None  # mailtos://user:password@smtp.example.com?from=…; None: no e-mail
    notification_allow_private: bool = False  # webhooks to http:// and to addresses inside our own network
    notification_daily_limit: int = Field(20, ge=1, le=10_000)  # per tenant, channel and day; the rest is one digest
    notification_summary_hour: int = Field(8, ge=0, le=23)  # of each tenant's own day
    notification_lease_seconds: int = Field(120, ge=2, le=3600)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
