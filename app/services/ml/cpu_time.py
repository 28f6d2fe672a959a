"""CPU time of forecasts: what counts, and what is imported before the counting begins."""

import importlib
import resource
from contextlib import suppress

LIBRARIES = ("statsmodels.tsa.statespace.sarimax", "statsmodels.tsa.seasonal", "prophet", "xgboost", "holidays")


def cpu_seconds() -> float:
    """User and system time of this process and its ended children (Prophet's optimiser is one), in seconds."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def warm_up() -> None:
    """Import what the candidates import, so that no series pays for it; what is not installed is passed over."""
    for module in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(module)
