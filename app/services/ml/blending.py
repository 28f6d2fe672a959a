"""One forecast of several: the weighted mean of their signed roots."""

import numpy as np

from app.services.ml.roots import from_roots, to_roots
from app.services.ml.series import FloatArray


def blended(weights: FloatArray, forecasts: FloatArray) -> FloatArray:
    """The forecast of all members, shape (n_days,).

    Members err by shares of the level rather than by amounts, and one that is far above the others is wrong more often
    than right: as roots, the scale on which most of them learn, it draws the blend up less. A member alone is itself.

    Parameters
    ----------
    weights : shape (n_members,), >= 0, sum 1
    forecasts : shape (n_members, n_days), finite
    """
    return np.asarray(forecasts[0]) if len(forecasts) == 1 else from_roots(weights @ to_roots(forecasts))
