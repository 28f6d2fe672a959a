"""Global LSTM: a network learned from many tenants at once; opt-in within the opt-in of `global_levels`.

It is trained with the extra `neural` installed, and forecasts without it.
"""

from typing import ClassVar

from app.config.ml_settings import MLSettings
from app.services.ml.candidates.base import Forecaster
from app.services.ml.candidates.direct_rows import Rows
from app.services.ml.candidates.global_levels import GlobalCandidate, GlobalModel, global_levels, left_out, with_model
from app.services.ml.candidates.windows import Windows
from app.services.ml.series import FloatArray

NAME = "global_lstm"
NO_NETWORK = "The global model was trained without a network."


class GlobalLstm(GlobalCandidate):
    """An LSTM over the last half year of weeks and one hidden layer per day ahead (see `network`).

    It gives the distance from the last same weekdays in weekly differences, all days ahead at once. Salinas et al.
    (2020), *DeepAR*, IJF 36(3), 1181-1191, on recurrent networks over many series; ours is direct and gives one value.
    """

    name: ClassVar[str] = NAME

    def _sales(self, rows: Rows) -> FloatArray:
        self._check(rows)
        network = self._chosen().network
        if network is None:
            raise left_out(NO_NETWORK)
        windows = Windows.of(rows, self._origin(), self._calendar)
        distance = network.predict(windows.weeks, windows.days)[windows.at]
        return rows.sales(rows.base + rows.spread * distance)

    @classmethod
    def _trained(cls) -> GlobalModel:
        model = super()._trained()
        if not model.has_network:
            raise left_out(NO_NETWORK)
        return model


def global_candidates(found: GlobalModel | str, settings: MLSettings) -> tuple[type[Forecaster], ...]:
    """The candidates that forecast with the model; for a text, they are unavailable for that reason."""
    return (global_levels(found), *((with_model(GlobalLstm, found),) if settings.global_lstm else ()))
