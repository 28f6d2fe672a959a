"""Prediction intervals from pooled out-of-fold residuals: split conformal, asymmetric, scaled per weekday, steadied.

No candidate writes interval code: whatever made the point forecast, its errors on days it had not seen say how far off
it is. Residuals of a weekday are divided by that weekday's typical size before pooling, and multiplied back.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from app.errors import InvalidSeries
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray

PSEUDO_OBSERVATIONS = 20.0  # a weekday's size is shrunk toward the overall size as if so many days had that size
USUAL_SHARE = 0.9  # of the residuals that decide how large a weekday's are
LARGEST_LEVEL_RATIO = 2.0  # of the forecast to a fold, and its inverse; errors say little about levels beyond
RISE = 0.15  # of the width, from the first to the last step: what is farther ahead is known less
MAX_GROWTH = 2.0  # of the width, for steps far beyond what the folds have tested


@dataclass(frozen=True, eq=False)
class ResidualPool:
    """Residuals (actual minus forecast, over `growth`) and their weekdays (Monday is 0), of shape (n,), n >= 1."""

    residuals: FloatArray
    weekdays: npt.NDArray[np.int64]
    tested_horizon: int  # days ahead that the residuals cover; beyond it bounds widen
    shrinkage: float  # of the widths, in 0..1
    _scaled: FloatArray
    _sizes: FloatArray

    @classmethod
    def of(
        cls, residuals: FloatArray, weekdays: npt.NDArray[np.int64], tested_horizon: int, shrinkage: float = 1.0
    ) -> "ResidualPool":
        """Pool residuals of any number of folds.

        ``shrinkage`` is below 1 when the forecast is known to be better than what the residuals come from.

        Raises
        ------
        InvalidSeries : no residual, or one that is not finite
        """
        if residuals.size == 0 or residuals.shape != weekdays.shape or not np.isfinite(residuals).all():
            raise InvalidSeries("Intervals need at least one finite residual, each with its weekday.")
        sizes = _weekday_sizes(_without_the_largest(np.abs(residuals)), weekdays)
        scaled = np.divide(residuals, sizes[weekdays], out=np.zeros_like(residuals), where=sizes[weekdays] > 0)
        return cls(residuals, weekdays, tested_horizon, shrinkage, np.sort(scaled), sizes)

    def bounds(
        self, forecast: FloatArray, weekdays: npt.NDArray[np.int64], level: float
    ) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of each day, shape (horizon,): lower <= forecast <= upper.

        Each bound is the average of three quantiles: the signed conformal one, which follows a skewed error; the
        symmetric one, which rests on twice the data; and that of a typical error of the same mean size, whose far
        tail does not hang on the one or two largest residuals.

        Parameters
        ----------
        forecast, weekdays : shape (horizon,)
        level : share of days inside, in 0..1; n residuals support at most n / (n + 1), above it bounds are
            extrapolated from the largest residual as for a normal error

        References
        ----------
        Lei et al. (2018), JASA 113(523), 1094-1111 (split conformal); Vovk et al. (2005), rank ceil((n + 1) level).
        """
        tail = (1.0 + level) / 2.0
        sizes = np.sort(np.abs(self._scaled))
        shared = _upper_quantile(sizes, level) + typical_quantile(level) * float(sizes.mean())
        above = (max(_upper_quantile(self._scaled, tail), 0.0) + shared) / 3.0
        below = (max(_upper_quantile(-self._scaled[::-1], tail), 0.0) + shared) / 3.0
        width = self.shrinkage * self._sizes[weekdays] * growth(forecast.size, self.tested_horizon)
        return forecast - below * width, forecast + above * width


def at_level_of(ahead: float, past: FloatArray) -> FloatArray:
    """By how much errors made at the levels ``past`` are larger at the level ``ahead``, shape (n_folds,), in 0.7..1.4.

    The root of the ratio of the levels: between errors that stay the same in money and errors that stay the same in
    percent. So a summer resort has wider bands in July than in spring, a shop that grows wider ones than last month.

    Parameters
    ----------
    ahead : mean size of the forecast on open days, >= 0
    past : shape (n_folds,), the same of the out-of-fold forecasts, >= 0
    """
    ratio = np.divide(ahead, past, out=np.ones_like(past), where=(past > 0) & (ahead > 0))
    return np.asarray(np.sqrt(np.clip(ratio, 1 / LARGEST_LEVEL_RATIO, LARGEST_LEVEL_RATIO)))


def no_more_often(rare: BoolArray, share: float) -> BoolArray:
    """Which residuals to keep so that ``rare`` days are among them about as often as usual, shape unchanged.

    A fold that holds Easter and Whitsun of a shop without a calendar says that every twelfth day goes wrong; over the
    year it is every thirtieth. The newest of the rare days stay; where there are no more than usual, all do.

    Parameters
    ----------
    rare : shape (n,) or (n_folds, n_days), oldest first
    share : of such days among all, in 0..1
    """
    surplus = max(int(rare.sum()) - round(share * rare.size), 0)
    return ~(rare & (np.cumsum(rare).reshape(rare.shape) <= surplus))


def naive_pool(series: DailySeries) -> ResidualPool:
    """Residuals for a history without folds: differences to the week before, or to the day before below 8 days.

    A single day says nothing about its errors; its own size stands in, which gives very wide bounds.
    """
    lag = SEASON if len(series) > SEASON else 1
    if len(series) == 1:
        return ResidualPool.of(np.abs(series.y), series.weekdays, 1)
    return ResidualPool.of(series.y[lag:] - series.y[:-lag], series.weekdays[lag:], lag)


def typical_quantile(level: float) -> float:
    """Half the width of a central interval over the mean absolute error, halfway between a normal and a Laplace error.

    Residuals of sales lie between the two: at 80 % both give 1.61, at 95 % they give 2.46 and 3.00.

    Parameters
    ----------
    level : share of days inside, in 0..1, below 1
    """
    normal = NormalDist().inv_cdf((1.0 + level) / 2.0) * math.sqrt(math.pi / 2.0)
    laplace = -math.log1p(-level)
    return (normal + laplace) / 2.0


def _without_the_largest(magnitudes: FloatArray) -> FloatArray:
    """The largest tenth cut to the rest, shape unchanged: a holiday is no reason to trust its weekday less for ever."""
    largest = float(np.quantile(magnitudes, USUAL_SHARE))
    return np.minimum(magnitudes, largest) if largest > 0 else magnitudes


def _weekday_sizes(magnitudes: FloatArray, weekdays: npt.NDArray[np.int64]) -> FloatArray:
    """Typical magnitude per weekday, shape (7,), shrunk toward the overall mean."""
    total = np.bincount(weekdays, weights=magnitudes, minlength=SEASON)
    count = np.bincount(weekdays, minlength=SEASON)
    sizes: FloatArray = (total + PSEUDO_OBSERVATIONS * magnitudes.mean()) / (count + PSEUDO_OBSERVATIONS)
    return sizes


def _upper_quantile(ordered: FloatArray, level: float) -> float:
    """The conformal quantile of ascending values: the ceil((n + 1) level)-th smallest, extrapolated beyond the last."""
    n = ordered.size
    rank = int(np.ceil(round((n + 1) * level, 9)))  # 11 * 0.9 must not become 10 by a rounding error in the last digit
    if rank <= n:
        return float(ordered[max(rank, 1) - 1])
    normal = NormalDist()
    supported = normal.inv_cdf((1.0 + n / (n + 1)) / 2.0)
    return float(ordered[-1]) * max(normal.inv_cdf((1.0 + level) / 2.0) / supported, 1.0)


def growth(horizon: int, tested: int) -> FloatArray:
    """Width of the bounds per step, shape (horizon,): 1 in the middle of what was tested, rising to its end.

    Beyond the tested horizon it grows as a random walk's, at most to 2.
    """
    steps = np.arange(1, horizon + 1)
    within = 1.0 + RISE * ((steps - 0.5) / tested - 0.5)
    beyond = (1.0 + RISE / 2.0) * np.sqrt(steps / tested)
    return np.asarray(np.minimum(np.where(steps <= tested, within, beyond), MAX_GROWTH))
