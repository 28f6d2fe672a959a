"""What decides a forecast: defaults < environment < a tenant's validated overrides.

Unknown environment variables are ignored. Every field has a test that changing it changes a result.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

CandidateNames = Annotated[tuple[str, ...], NoDecode]
SarimaxOrder = tuple[
    Annotated[int, Field(ge=0, le=3)], Annotated[int, Field(ge=0, le=2)], Annotated[int, Field(ge=0, le=3)]
]


class MLSettings(BaseSettings):
    """Settings of one tenant's forecast. Days are business days of the tenant; levels are shares in 0..1."""

    model_config = SettingsConfigDict(env_prefix="ML_", frozen=True, extra="ignore", env_ignore_empty=True)

    model_candidates: CandidateNames = ("naive", "snaive", "weekday_mean", "sarimax", "prophet", "xgboost")
    select_best: bool = False
    cv_primary_metric: Literal["mae", "rmse", "wape", "mase", "rmsse", "smape"] = "mae"
    horizon_days: int = Field(28, ge=1, le=365)
    cv_folds: int = Field(3, ge=1, le=20)
    seasonality_mode: Literal["additive", "multiplicative"] = "additive"
    holidays_country: str = Field("", max_length=16)
    log_transform: bool = False
    sarimax_order: SarimaxOrder = (1, 1, 1)
    sarimax_seasonal: tuple[int, int, int, int] = (1, 1, 1, 7)
    anomaly_method: Literal["stl_resid", "isolation_forest"] = "stl_resid"
    stl_period: int = Field(7, ge=2, le=366)
    stl_zthresh: float = Field(3.5, gt=0, le=20, allow_inf_nan=False)
    max_train_window_days: int = Field(1460, ge=14, le=3650)
    interval_level: float = Field(0.8, ge=0.5, le=0.99, allow_inf_nan=False)
    stale_after_days: int = Field(28, ge=1, le=3650)
    retrain_cron: str = "0 2 * * 1"
    tenant_ids: str = "*"
    error_alert_mape: float = Field(50.0, gt=0, le=1000, allow_inf_nan=False)
