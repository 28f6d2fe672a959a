"""Totals of the first 7 or 28 days, and how far they may lie off, from the sums of past errors.

A total is what so many days sell on average: the sum of the forecasts of its days, but where sales are rare (see
`rare_sales`). Daily bands do not add up: errors of neighbouring days partly cancel and partly persist, and how much
differs from tenant to tenant. So the sums themselves are measured, over every stretch of so many days within the folds.
Three folds of 28 days hold twelve separate weeks but only three stretches of four, hence each span leans on the shorter
one::

    spread(n)^2 = (B own(n)^2 + K (spread(m) (n / m)^growth)^2) / (B + K)

with own(n) the root mean square of the n-day sums, B the number of separate stretches, and m the span before (one day
before a week, a week before four). Errors that are independent grow with the root of the span (0.5), a forecast that
is off for good with the span itself (1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray

# Days, and the growth from the span before: the days of a week largely cancel, a level that is wrong for a week tends
# to stay wrong. What these four give on real sales stands in docs/decisions/0020 and 0029.
GROWTH = {SEASON: 0.64, 4 * SEASON: 0.84}
SPANS = tuple(GROWTH)
PRIOR_STRETCHES = 12.0  # K
DEGREES = 6.0  # of freedom of Student's t, which has the tails of these sums
REFIT_GAIN = 0.15  # fold errors come from parameters that are up to three folds older than those of the final fit


@dataclass(frozen=True, eq=False)
class Total:
    """What the first ``days`` days sell together, in the tenant's currency; ``bands`` as in `Forecast`."""

    days: int
    yhat: float  # to the cent
    bands: dict[float, tuple[float, float]]  # level in 0..1 to (lower, upper); lower <= yhat <= upper


def totals(
    yhat: FloatArray,
    means: FloatArray,
    is_open: BoolArray,
    errors: FloatArray,
    levels: Iterable[float],
    floor: float,
) -> tuple[Total, ...]:
    """The totals of the first 7 and 28 days, as many as the horizon holds, each with a band per level.

    Parameters
    ----------
    yhat : shape (horizon,), as published; its errors are ``errors``
    means : shape (horizon,), what each day sells on average; totals are their sums
    is_open : shape (horizon,), false on days that are known to be closed: they add nothing to a total or its band
    errors : shape (n_folds, n_days), both >= 1: what `past_errors` or `naive_errors` gives
    levels : shares in 0..1
    floor : the least that sales can be: 0, or -inf

    Returns
    -------
    tuple of Total : shortest first; empty for a horizon below 7 days
    """
    levels = tuple(levels)
    made = []
    for span in SPANS:
        if span <= yhat.size:
            # What the mean adds to a usual day was missing on past days, too: an error less it is one of the mean.
            added = float((means[:span] - yhat[:span]).mean())
            width = spread(errors - added, span) * _open_share(is_open[:span], errors)
            made.append(_total(means[:span], width, levels, floor))
    return tuple(made)


def past_errors(residuals: FloatArray, closed: BoolArray, learned_share: float) -> FloatArray:
    """Errors that the final fit would have made on the folds, shape (n_folds, n_days), as `totals` takes them.

    Parameters
    ----------
    residuals : shape (n_folds, n_days), actual minus out-of-fold forecast
    closed : the same shape, true on days that are known to be closed: they count as zero
    learned_share : weight in 0..1 of the members that estimate parameters; only these gain by a newer fit
    """
    return np.where(closed, 0.0, residuals * (1.0 - REFIT_GAIN * learned_share))


def naive_errors(series: DailySeries) -> FloatArray:
    """Errors for a history without folds, shape (1, n): the differences of `intervals.naive_pool`."""
    lag = SEASON if len(series) > SEASON else 1
    errors = np.abs(series.y) if len(series) == 1 else series.y[lag:] - series.y[:-lag]
    return np.asarray(errors[None, :])


def spread(errors: FloatArray, span: int) -> float:
    """Root mean square that the error of a sum of ``span`` days is expected to have; ``span`` is one of `SPANS`.

    A span that is longer than the folds is projected from the longest that is not.
    """
    n_folds, n_days = errors.shape
    squared, before = float((errors**2).mean()), 1
    for each, growth in GROWTH.items():
        if each > span:
            break
        squared *= (each / before) ** (2.0 * growth)
        if each <= n_days:
            stretches = n_folds * n_days / each
            own = float((_sums(errors, each) ** 2).mean())
            squared = (stretches * own + PRIOR_STRETCHES * squared) / (stretches + PRIOR_STRETCHES)
        before = each
    return math.sqrt(squared)


def _sums(errors: FloatArray, span: int) -> FloatArray:
    """Sums of every ``span`` days in a row, shape (n_folds, n_days - span + 1)."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(errors, span, axis=1).sum(axis=-1))


def _open_share(is_open: BoolArray, errors: FloatArray) -> float:
    """What closures ahead leave of the spread, in 0..1: fewer days sell than on the folds, where a closed day has 0."""
    usual = float((errors != 0).mean())
    return min(float(is_open.mean()) / usual, 1.0) ** GROWTH[SPANS[-1]] if usual > 0 else 1.0


def total_of(means: FloatArray) -> float:
    """The sum of some days, to the cent."""
    return round(math.fsum(means), 2)


def _total(means: FloatArray, width: float, levels: tuple[float, ...], floor: float) -> Total:
    total = total_of(means)
    bands = {}
    for level in levels:
        reach = width * _quantile(level)
        lower, upper = (round(bound, 2) for bound in (max(total - reach, floor), total + reach))
        bands[level] = (min(lower, total), max(upper, total))
    return Total(means.size, total, bands)


def _quantile(level: float) -> float:
    """Half the width of the middle ``level`` of Student's t with `DEGREES` of freedom and variance 1.

    References
    ----------
    Abramowitz & Stegun (1964), *Handbook of Mathematical Functions*, 26.7.5: within 0.3 % of the exact value to .999.
    """
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    terms = (
        z,
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    t = sum(term / DEGREES**power for power, term in enumerate(terms))
    return t * math.sqrt((DEGREES - 2.0) / DEGREES)
