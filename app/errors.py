"""Everything that can go wrong, as one list.

An error carries what a person needs (a message that names the tenant and the value, and the next step) and what the
ledger needs (``kind`` decides whether trying again can help). ``exit_code`` is what the command ends with.
"""

from typing import ClassVar, Literal

ErrorKind = Literal["transient", "data", "config", "lost", "bug"]


class TenantcastError(Exception):
    """Something went wrong in tenantcast."""

    kind: ClassVar[ErrorKind] = "bug"
    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, *, next_step: str = "", tenant_id: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.next_step = next_step
        self.tenant_id = tenant_id
        super().__init__(f"{self.message} {next_step}".strip())

    def as_dict(self) -> dict[str, str | None]:
        """What the ledger and ``--json`` show; holds no sales row and no secret."""
        return {
            "kind": self.kind,
            "code": self.code,
            "message": self.message,
            "next_step": self.next_step,
            "tenant_id": self.tenant_id,
        }


# --- configuration: a person has to change something (exit code 2) ---------------------------------------------------


class ConfigError(TenantcastError):
    """The configuration cannot be used."""

    kind = "config"
    code = "config"
    exit_code = 2


class WrongKey(ConfigError):
    """The database refused our credentials."""

    code = "wrong_key"


class NotInstalled(ConfigError):
    """The database lacks tenantcast's tables and functions."""

    code = "not_installed"


class UnknownCountry(ConfigError):
    """No public holidays are known for that country."""

    code = "unknown_country"


class MigrationRefused(ConfigError):
    """Migrations cannot be applied this way."""

    code = "migration_refused"


class MissingPart(ConfigError):
    """A program that this command needs is absent."""

    code = "missing_part"


# --- transient: the same call may work later (exit code 4) -----------------------------------------------------------


class Transient(TenantcastError):
    """Trying again later may help."""

    kind = "transient"
    code = "transient"
    exit_code = 4


class DatabaseUnavailable(Transient):
    """The database did not answer."""

    code = "database_unavailable"
    sent = False  # true when the statement may have been carried out: its answer was lost
    futile = False  # true when the same call at once would take as long again


class RedisUnavailable(Transient):
    """The private Redis did not start."""

    code = "redis_unavailable"


class TenantBusy(Transient):
    """Another worker is at work on this tenant."""

    code = "tenant_busy"


class BellUnavailable(Transient):
    """The message broker did not take the message; the reconciler rings again."""

    code = "bell_unavailable"


class DeliveryFailed(Transient):
    """A message could not be delivered."""

    code = "delivery_failed"


# --- data: this tenant's input cannot be used as it is (exit code 3) -------------------------------------------------


class DataError(TenantcastError):
    """The data cannot be used."""

    kind = "data"
    code = "data"
    exit_code = 3


class InvalidTenantId(DataError):
    """That is no tenant id."""

    code = "invalid_tenant_id"


class UnknownTenant(DataError):
    """No such tenant."""

    code = "unknown_tenant"


class UnknownRun(DataError):
    """No such run."""

    code = "unknown_run"


class UnknownPredictionType(DataError):
    """No such prediction type."""

    code = "unknown_prediction_type"


class UnknownJob(DataError):
    """No such entry of the schedule."""

    code = "unknown_job"


class UnknownModel(DataError):
    """No such model version."""

    code = "unknown_model"


class InvalidSeries(DataError):
    """A series cannot be used for this computation."""

    code = "invalid_series"


class InvalidTenantInput(DataError):
    """What the database says about a tenant cannot be used."""

    code = "invalid_tenant_input"


class InvalidFile(DataError):
    """The file cannot be read."""

    code = "invalid_file"


class NoSales(DataError):
    """The tenant has no sales yet."""

    code = "no_sales_yet"


class InvalidOverride(DataError):
    """A tenant's settings override was refused."""

    code = "invalid_override"


class QueryRefused(DataError):
    """The database refused the statement."""

    code = "query_refused"


class UnknownNotification(DataError):
    """No such message."""

    code = "unknown_notification"


class AddressRefused(DataError):
    """A message cannot go to that address."""

    code = "address_refused"


# --- computing -------------------------------------------------------------------------------------------------------


class CandidateFailed(DataError):
    """A candidate raised or returned something that is no forecast."""

    code = "candidate_failed"


class ModelOutdated(DataError):
    """A stored model no longer does what it did when it was fitted; it is fitted anew."""

    code = "model_outdated"


class OutOfTime(DataError):
    """The tenant took longer than a task may."""

    code = "out_of_time"


class CandidateUnavailable(DataError):
    """A candidate's library is not installed."""

    code = "candidate_unavailable"


class NoGlobalModel(DataError):
    """There is no model over many tenants to be had."""

    code = "no_global_model"


class ArtifactRefused(DataError):
    """A stored model does not verify; it was not read."""

    code = "artifact_refused"


# --- the ledger ------------------------------------------------------------------------------------------------------


class LeaseLost(TenantcastError):
    """Another worker owns this item now; nothing was written."""

    kind = "lost"
    code = "lease_lost"
    exit_code = 4
