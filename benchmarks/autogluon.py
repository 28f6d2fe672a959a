"""AutoGluon-TimeSeries, where somebody has installed it: medium quality, without members that have to be downloaded."""

import tempfile
import warnings

import numpy as np

from app.services.ml.metrics import SQL_QUANTILES
from benchmarks.methods import BOUNDS, Known, Prediction

SEED = 0
# Its medium quality without Chronos, whose weights would be fetched.
MEMBERS = ("SeasonalNaive", "ETS", "Theta", "RecursiveTabular", "DirectTabular", "TemporalFusionTransformer")


def medium_quality(known: list[Known], horizon: int) -> dict[str, Prediction]:
    """One predictor over all series."""
    import pandas as pd
    from autogluon.timeseries import TimeSeriesDataFrame, TimeSeriesPredictor

    table = pd.concat(
        [
            pd.DataFrame({"item_id": one.unique_id, "timestamp": one.series.dates, "target": one.series.y})
            for one in known
        ],
        ignore_index=True,
    )
    with tempfile.TemporaryDirectory(prefix="tc-autogluon-") as folder:
        predictor = TimeSeriesPredictor(
            prediction_length=horizon,
            freq="D",
            eval_metric="MASE",
            quantile_levels=list(SQL_QUANTILES),
            path=folder,
            verbosity=0,
        )
        data = TimeSeriesDataFrame.from_data_frame(table)
        predictor.fit(data, hyperparameters={name: {} for name in MEMBERS}, random_seed=SEED)
        found = predictor.predict(data, random_seed=SEED)
    return {
        one.unique_id: Prediction(
            found.loc[one.unique_id]["mean"].to_numpy(dtype=np.float64),
            {bound: found.loc[one.unique_id][str(bound)].to_numpy(dtype=np.float64) for bound in BOUNDS},
        )
        for one in known
    }


def import_autogluon() -> None:
    """What `medium_quality` imports."""
    warnings.simplefilter("ignore")
    import autogluon.timeseries  # noqa: F401
