"""Forecasting. Four names are exported, each imported when it is asked for: the command must start quickly."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.services.ml.feature_engineer import FeatureEngineer
    from app.services.ml.ml_engine import BusinessMLEngine
    from app.services.ml.model_version_manager import ModelVersionManager, SavedModel
    from app.services.ml.pipeline import train_and_predict_sales

__all__ = ["BusinessMLEngine", "FeatureEngineer", "ModelVersionManager", "SavedModel", "train_and_predict_sales"]

_HOMES = {
    "BusinessMLEngine": "ml_engine",
    "FeatureEngineer": "feature_engineer",
    "ModelVersionManager": "model_version_manager",
    "SavedModel": "model_version_manager",
    "train_and_predict_sales": "pipeline",
}


def __getattr__(name: str) -> object:
    """Import the module of an exported name."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{home}"), name)
