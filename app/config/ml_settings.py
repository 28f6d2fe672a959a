"""What decides a forecast: defaults < environment < a tenant's validated overrides (`overrides.py`).

Unknown environment variables are ignored. Every field has a test that changing it changes a result.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from app.config.cron import Cron
from app.config.settings import EnvironmentSettings, Settings
from app.errors import ConfigError, InvalidTenantId
from app.tenancy import TenantId, parse_tenant_id

CandidateNames = Annotated[tuple[str, ...], NoDecode]
# Names that `ML_MODEL_CANDIDATES` takes for several candidates, each list simplest first.
CLASSIC = ("naive", "snaive", "weekday_mean", "sarimax", "prophet", "xgboost")
FAST = ("snaive", "weekday_mean", "weekday_median", "calendar_ridge", "ridge", "recursive", "levels")
FULL = (
    *("naive", "snaive", "weekday_mean", "weekday_median", "calendar_ridge", "ridge"),
    *("sarimax", "prophet", "xgboost", "recursive", "levels"),
)
PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType({"classic": CLASSIC, "fast": FAST, "full": FULL})
# Orders are bounded so that the state space of a SARIMAX, whose dimension decides its cost, stays small.
SarimaxOrder = tuple[
    Annotated[int, Field(ge=0, le=3)], Annotated[int, Field(ge=0, le=2)], Annotated[int, Field(ge=0, le=3)]
]
SarimaxSeasonal = tuple[
    Annotated[int, Field(ge=0, le=2)],
    Annotated[int, Field(ge=0, le=1)],
    Annotated[int, Field(ge=0, le=2)],
    Annotated[int, Field(ge=0, le=31)],
]
OverridesReader = Callable[[TenantId], object]


class ForecastFields(BaseModel):
    """The fields with their bounds, wherever the values come from; `overrides.py` reads it in strict mode."""

    model_config = ConfigDict(frozen=True)

    model_candidates: CandidateNames = FULL
    select_best: bool = False
    cv_primary_metric: Literal["mae", "rmse", "wape", "mase", "rmsse", "smape"] = "mae"
    horizon_days: int = Field(28, ge=1, le=365)
    cv_folds: int = Field(3, ge=1, le=20)
    seasonality_mode: Literal["additive", "multiplicative"] = "additive"
    holidays_country: str = Field("", max_length=16, pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{1,10})?)?$")
    log_transform: bool = False
    sarimax_order: Annotated[SarimaxOrder, NoDecode] = (1, 1, 1)
    sarimax_seasonal: Annotated[SarimaxSeasonal, NoDecode] = (1, 1, 1, 7)
    anomaly_method: Literal["stl_resid", "isolation_forest"] = "stl_resid"
    stl_period: int = Field(7, ge=2, le=366)
    stl_zthresh: float = Field(3.5, gt=0, le=20, allow_inf_nan=False)
    max_train_window_days: int = Field(1460, ge=14, le=3650)
    interval_level: float = Field(0.8, ge=0.5, le=0.99, allow_inf_nan=False)
    stale_after_days: int = Field(28, ge=1, le=3650)
    model_max_age_days: int = Field(35, ge=1, le=3650)  # an older model is fitted anew instead of carried forward
    global_model: bool = False  # the tenant's rows may teach, and it is forecast by, a model over all that agreed
    global_lstm: bool = False  # a network learns beside the trees of the global model, and is one more candidate
    global_lstm_device: Literal["auto", "cpu", "cuda"] = "auto"  # what it is trained on; auto: a GPU where there is one
    global_model_cron: str = "0 0 * * 1"  # before the retrain, so that its tenants find the new one
    # A model of this age is fitted anew by the weekly run, and every candidate scored again; 1: always
    rescore_days: int = Field(28, ge=1, le=364)
    retrain_cron: str = "0 2 * * 1"
    tenant_ids: str = "*"
    error_alert_mape: float = Field(50.0, gt=0, le=1000, allow_inf_nan=False)

    @field_validator("model_candidates", "sarimax_order", "sarimax_seasonal", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        """`naive,prophet` and `1,1,1` as a person writes them; brackets and quotes of a JSON list are fine too."""
        if not isinstance(value, str):
            return tuple(value) if isinstance(value, list) else value
        return tuple(part.strip(" \"'") for part in value.strip(" []()").split(",") if part.strip())

    @field_validator("model_candidates")
    @classmethod
    def _candidates_are_distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Presets are replaced by their candidates; one that is named beside its preset counts once."""
        if not names:
            raise ValueError("at least one candidate is needed, for instance naive")
        if len(set(names)) != len(names):
            raise ValueError("a candidate is named twice")
        expanded = (member for name in names for member in PRESETS.get(name, (name,)))
        return tuple(dict.fromkeys(expanded))

    @field_validator("sarimax_seasonal")
    @classmethod
    def _season_has_a_period(cls, value: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """A seasonal term needs a period of two days or more."""
        *terms, period = value
        if any(terms) and period < 2:  # noqa: PLR2004 - a season of one day is no season
            raise ValueError("the period (fourth number) must be 2 or more when a seasonal term is used")
        return value

    @field_validator("retrain_cron", "global_model_cron")
    @classmethod
    def _cron_parses(cls, value: str) -> str:
        return Cron.parse(value).text

    @field_validator("tenant_ids")
    @classmethod
    def _tenants_parse(cls, value: str) -> str:
        try:
            _parse_tenant_ids(value)
        except InvalidTenantId as error:
            raise ValueError(f"{error.message} Give * for all, or a comma-separated list") from None
        return value


class MLSettings(EnvironmentSettings, ForecastFields):
    """Settings of one tenant's forecast. Days are business days of the tenant; levels are shares in 0..1."""

    model_config = SettingsConfigDict(env_prefix="ML_")

    def allowed_tenants(self) -> frozenset[TenantId] | None:
        """The tenants of `ML_TENANT_IDS`; None means all of them (`*`)."""
        return _parse_tenant_ids(self.tenant_ids)

    def get_tenant_overrides(self, tenant_id: TenantId | str, reader: OverridesReader | None = None) -> object:
        """What is stored as this tenant's overrides, unvalidated; an empty dict when nothing is stored.

        `app.config.overrides.apply_overrides` validates. ``reader`` takes the tenant id; without one the database
        of the environment's settings is asked.
        """
        stored = (reader or _read_from_database)(parse_tenant_id(tenant_id))
        return {} if stored is None else stored


def _parse_tenant_ids(text: str) -> frozenset[TenantId] | None:
    names = [part.strip() for part in text.split(",") if part.strip()]
    return None if "*" in names else frozenset(parse_tenant_id(name) for name in names)


def _read_from_database(tenant_id: TenantId) -> object:
    # The one exception to "config imports nothing above it": a default that only runs when nothing else was given.
    from app.db.connect import open_gateway
    from app.db.store import TenantStore

    gateway = open_gateway(Settings())
    try:
        ml = MLSettings()
        row = TenantStore(gateway, tenant_id).read_input(None, ml.max_train_window_days, ml.stale_after_days)
    finally:
        gateway.close()
    return row.get("settings")


def require_known_candidates(settings: MLSettings, known: tuple[str, ...]) -> None:
    """Raise ConfigError when the operator's settings name a candidate that does not exist."""
    unknown = [name for name in settings.model_candidates if name not in known]
    if unknown:
        raise ConfigError(
            f"ML_MODEL_CANDIDATES cannot name {', '.join(map(repr, unknown))}: no such candidate.",
            next_step=f"Choose among {', '.join(known)}, or a preset: {', '.join(PRESETS)}.",
        )


if TYPE_CHECKING:
    ml_settings: MLSettings
else:

    def __getattr__(name: str) -> MLSettings:
        """`ml_settings`, read from the environment when it is asked for, so that importing this module cannot fail."""
        if name == "ml_settings":
            return MLSettings()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
