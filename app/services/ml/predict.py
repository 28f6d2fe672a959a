"""A forecast on demand: the active model carried forward to the newest days, published like any other."""

from datetime import date
from typing import Any, Literal, TypedDict, get_args

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.errors import ConfigError, UnknownPredictionType
from app.services.ml.pipeline import train_and_predict_sales
from app.services.ml.results import TrainingReport
from app.tenancy import parse_tenant_id

PredictionType = Literal["sales_forecast", "sales_anomaly"]
PREDICTION_TYPES: tuple[str, ...] = get_args(PredictionType)


class Predictions(TypedDict):
    """What was asked for, and how it came about; JSON-safe.

    ``rows`` are those of the asked type as they are published now: forecast days ``{date, yhat, yhat_lower,
    yhat_upper, parts}`` or flagged days ``{date, y, expected, score}``, oldest first; empty when nothing new was
    published (``report["status"]`` says why; what was published before stands).
    """

    prediction_type: str
    reanchored: bool  # False: a model was fitted (``refit_reason`` says why), or nothing was to be done
    refit_reason: str
    rows: list[dict[str, Any]]
    report: TrainingReport


def generate_predictions(
    tenant_id: object,
    prediction_type: str = "sales_forecast",
    *,
    gateway: Gateway | None = None,
    settings: MLSettings | None = None,
    environment: Settings | None = None,
    force: bool = False,
    as_of: date | None = None,
) -> Predictions:
    """Forecast one tenant from its newest days on without estimating anything again, and publish.

    The active model's members observe the newest days; weights and residuals are those of its fit. A model is fitted
    anew when none is stored or it does not verify, when settings have changed, when it was chosen by rule, and when it
    is older than `ML_MODEL_MAX_AGE_DAYS`. Forecast and flagged days are one publish of a run of kind ``predict``,
    fenced like every other, whichever of the two was asked for: half of it would be a mixture of two runs.

    Parameters
    ----------
    tenant_id : the tenant's UUID, or the product's name of it
    prediction_type : ``sales_forecast`` or ``sales_anomaly``: which rows are given back
    gateway, settings, environment, force, as_of : as for `train_and_predict_sales`

    Raises
    ------
    UnknownPredictionType : before anything is read
    ConfigError : `ML_TENANT_IDS` does not allow the tenant
    TenantBusy, InvalidTenantId, DatabaseUnavailable : as `train_and_predict_sales`
    """
    if prediction_type not in PREDICTION_TYPES:
        raise UnknownPredictionType(
            f"There is no prediction type {str(prediction_type)[:40]!r}.",
            next_step=f"Choose among {', '.join(PREDICTION_TYPES)}.",
        )
    settings = settings or MLSettings()
    tenant = parse_tenant_id(tenant_id)
    allowed = settings.allowed_tenants()
    if allowed is not None and tenant not in allowed:
        raise ConfigError(f"ML_TENANT_IDS does not allow {tenant}.", next_step="Add it, or set it to *.")
    report = train_and_predict_sales(
        tenant,
        gateway=gateway,
        settings=settings,
        environment=environment,
        force=force,
        as_of=as_of,
        reanchor=True,
    )
    rows = report["forecast"] if prediction_type == "sales_forecast" else report["anomalies"]
    return Predictions(
        prediction_type=prediction_type,
        reanchored=report["reanchored"],
        refit_reason=report["refit_reason"],
        rows=[dict(row) for row in rows],
        report=report,
    )
