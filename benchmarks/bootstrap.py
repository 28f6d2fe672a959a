"""How sure a ratio of two methods is: both are measured on the same series, and the series are drawn again."""

from typing import NamedTuple

import numpy as np

from app.services.ml.series import FloatArray
from benchmarks.measure import Windows, defined, parts

N_RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


class Ratio(NamedTuple):
    """A method's pooled measure over the other's, with a 95 % interval; nan where it is undefined."""

    value: float
    low: float
    high: float


def ratio(windows: Windows, reference: Windows, measure: str, *, resamples: int = N_RESAMPLES) -> Ratio:
    """The pooled ``measure`` of a method over that of the reference, on the series-windows that both have.

    Whole series are drawn with replacement, the same for both: the windows of one series are no independent
    witnesses, and what makes a series hard makes it hard for both (percentile bootstrap).

    Parameters
    ----------
    windows, reference : scores by series and days known
    measure : as for `measure.pooled`
    resamples : draws

    Returns
    -------
    Ratio : of pooled measures; nan when there is no common window or the reference is zero

    References
    ----------
    Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    both = windows.keys() & reference.keys()
    common = sorted(key for key in both if defined(windows[key], measure) and defined(reference[key], measure))
    if not common:
        return Ratio(*[float("nan")] * 3)
    series = sorted({unique_id for unique_id, _ in common})
    place = {unique_id: n for n, unique_id in enumerate(series)}
    owners = np.array([place[unique_id] for unique_id, _ in common])
    # Four columns per series: numerator and denominator of either method.
    columns = np.column_stack(
        [np.bincount(owners, weights=part, minlength=len(series)) for one in (windows, reference)
         for part in parts([one[key] for key in common], measure)]
    )  # fmt: skip
    draws = np.random.default_rng(SEED).integers(0, len(series), size=(resamples, len(series)))
    resampled = _ratios(columns[draws].sum(axis=1))
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail]) if np.isfinite(resampled).any() else (np.nan, np.nan)
    return Ratio(float(_ratios(columns.sum(axis=0)[None, :])[0]), float(low), float(high))


def _ratios(sums: FloatArray) -> FloatArray:
    top, bottom, other_top, other_bottom = sums.T
    denominator = bottom * other_top
    ratios: FloatArray = np.divide(
        top * other_bottom, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0
    )
    return ratios
