"""Checks of this machine: libraries, time zones, threads, the signing key, the home directory."""

import importlib.util
import os
import stat
import zoneinfo
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.errors import TenantcastError
from app.services.doctor.check import Check, some

LIBRARIES = ("numpy", "pandas", "scipy", "statsmodels", "scikit-learn", "holidays", "psycopg", "supabase", "joblib")
# What a candidate cannot do without: (module, name to install)
LIBRARY_OF_CANDIDATE = {
    "sarimax": ("statsmodels", "statsmodels"),
    "prophet": ("prophet", "prophet"),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "recursive": ("xgboost", "xgboost-cpu"),
    "levels": ("xgboost", "xgboost-cpu"),
}
OLDEST_JOBLIB = (1, 6)  # older: an object array passes the allow-listed reader of model artefacts
PROBED_ZONES = ("America/Santiago", "Asia/Kolkata", "Australia/Lord_Howe")


def check_libraries() -> Check:
    """Versions of the libraries that forecasts depend on."""
    found = {name: _version(name) for name in LIBRARIES}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        return Check(
            "libraries", "fail", f"Missing: {some(missing)}.", "Install tenantcast again with its dependencies."
        )
    joblib = found["joblib"] or "0"
    if tuple(int(part) for part in joblib.split(".")[:2]) < OLDEST_JOBLIB:
        return Check("libraries", "fail", f"joblib {joblib} is not safe to read models with.", "Install joblib >= 1.6.")
    return Check("libraries", "ok", ", ".join(f"{name} {value}" for name, value in found.items()))


def check_candidates(settings: MLSettings) -> Check:
    """Every configured candidate has its library; without it, it is left out of every forecast."""
    absent = [name for name in settings.model_candidates if _is_absent(name)]
    if not absent:
        present = {name: _version(LIBRARY_OF_CANDIDATE[name][1]) for name in ("prophet", "xgboost")}
        versions = ", ".join(f"{name} {value}" for name, value in present.items() if value)
        return Check("candidates", "ok", f"{', '.join(settings.model_candidates)} ({versions})")
    packages = " ".join(dict.fromkeys(LIBRARY_OF_CANDIDATE[name][1] for name in absent))
    return Check(
        "candidates",
        "warn",
        f"{', '.join(absent)} cannot take part: the library is not installed. The others forecast without it.",
        f"Install {packages}, or take it out of ML_MODEL_CANDIDATES.",
    )


def check_neural(settings: MLSettings) -> Check:
    """Whoever trains the network of the global model needs PyTorch; forecasting with it does not."""
    from app.services.ml.neural_training import INSTALL, why_not

    found = _version("torch")
    here = f"PyTorch {found}" if found else f"PyTorch is not installed ({INSTALL})"
    if not settings.global_lstm:
        return Check("neural", "ok", f"off (ML_GLOBAL_LSTM); {here}")
    reason = why_not(settings.global_lstm_device)
    if reason:
        return Check("neural", "warn", f"global_lstm cannot be trained on this machine. {reason}", INSTALL)
    return Check("neural", "ok", f"{here}, device {settings.global_lstm_device}")


def check_time_zones() -> Check:
    """Business days need the IANA time zones."""
    known = zoneinfo.available_timezones()
    missing = [name for name in PROBED_ZONES if name not in known]
    if missing:
        return Check(
            "time zones", "fail", f"No data for {some(missing)}.", "Install tzdata (the system's or the wheel)."
        )
    return Check("time zones", "ok", f"{len(known)} zones")


def check_threads() -> Check:
    """One native thread per process: parallelism is processes."""
    many = [name for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if os.environ.get(name) != "1"]
    if not many:
        return Check("threads", "ok", "one per process")
    shown = ", ".join(f"{name}={os.environ.get(name)}" for name in many)
    return Check("threads", "warn", f"{shown}: concurrent fits slow each other down.", "Unset them, or set them to 1.")


def check_home(home: Path) -> Check:
    """The home directory can be written to (it is made when it is first needed)."""
    existing = home if home.exists() else home.absolute().parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check(
            "home", "fail", f"{existing} cannot be written to.", "Set TENANTCAST_HOME to a directory of yours."
        )
    return Check("home", "ok", f"{home}" + ("" if home.exists() else " (made when it is first needed)"))


def check_signing_key(settings: Settings) -> Check:
    """Model artefacts are signed: the key must be usable, and a key file must be nobody else's to read."""
    from app.services.ml.artifact_keys import key_path, load_keys

    path = key_path(settings)
    if settings.ml_artifact_keys is None and not path.exists():
        return Check("signing key", "ok", f"none yet: {path} is made by the first forecast")
    if settings.ml_artifact_keys is None and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Check(
            "signing key", "fail", f"{path} can be read by others.", f"chmod 600 {path}, and think of a new key."
        )
    try:
        keys = load_keys(settings)
    except TenantcastError as error:
        return Check("signing key", "fail", error.message, error.next_step)
    source = "ML_ARTIFACT_KEYS" if settings.ml_artifact_keys else str(path)
    return Check("signing key", "ok", f"{source}: signs with {keys.signing_id!r}, {len(keys.ids)} verify")


def _is_absent(candidate: str) -> bool:
    module = LIBRARY_OF_CANDIDATE.get(candidate, ("", ""))[0]
    return bool(module) and importlib.util.find_spec(module) is None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
