"""Every method of the table, in its order."""

from functools import cache

from benchmarks import autogluon, nixtla, ours, reference
from benchmarks.methods import Method

FIVE = ("numpy", "statsmodels", "prophet", "xgboost-cpu")
STATISTICAL = {
    "AutoETS": "AutoETS (statsforecast)",
    "AutoCES": "AutoCES (statsforecast)",
    "DynamicOptimizedTheta": "Theta, optimised and dynamic (statsforecast)",
    "MSTL": "MSTL (statsforecast)",
}
AUTOARIMA_SHARE = 0.3  # of the series: minutes each


def rivals() -> tuple[Method, ...]:
    """The methods that are not ours, seasonal naive included."""
    return (
        Method("reference", "**REFERENCE**", reference.reference, packages=FIVE, warm_up=reference.quiet),
        Method(
            "reference_holidays",
            "REFERENCE, told the holidays",
            reference.reference,
            packages=(*FIVE, "holidays"),
            countries=True,
            warm_up=reference.quiet,
        ),
        Method("xgboost", "XGBoost", reference.alone("xgboost"), packages=("xgboost-cpu",), warm_up=reference.quiet),
        Method("prophet", "Prophet", reference.alone("prophet"), packages=("prophet",), warm_up=reference.quiet),
        Method("sarimax", "SARIMAX", reference.alone("sarimax"), packages=("statsmodels",), warm_up=reference.quiet),
        *(_statistical(name, name, title) for name, title in STATISTICAL.items()),
        Method(
            "median",
            "median of these four (statsforecast)",
            nixtla.median,
            packages=("statsforecast",),
            warm_up=nixtla.compile_models,
        ),
        _statistical("AutoARIMA", "AutoARIMA", "AutoARIMA (statsforecast)", AUTOARIMA_SHARE),
        Method(
            "mlforecast",
            "one LightGBM for all (mlforecast)",
            together=nixtla.global_lightgbm,
            packages=("mlforecast", "lightgbm"),
            warm_up=nixtla.import_mlforecast,
        ),
        Method(
            "autogluon",
            "AutoGluon-TimeSeries, medium quality",
            together=autogluon.medium_quality,
            packages=("autogluon.timeseries",),
            warm_up=autogluon.import_autogluon,
        ),
        Method("snaive", "seasonal naive", reference.snaive_with_intervals, packages=("numpy",)),
    )


@cache
def methods() -> dict[str, Method]:
    """All methods by name, in the table's order."""
    return {method.name: method for method in (*ours.rows(), *rivals(), *ours.ablation())}


def method_named(name: str) -> Method:
    """The method of that name."""
    return methods()[name]


def _statistical(name: str, model: str, title: str, share: float = 1.0) -> Method:
    return Method(
        name.lower(),
        title,
        nixtla.statistical(model),
        packages=("statsforecast",),
        share=share,
        warm_up=nixtla.compile_models,
    )
